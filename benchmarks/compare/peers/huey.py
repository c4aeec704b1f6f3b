"""Huey with its Redis list; jobs run at most once."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime

from adapter import KIND, PROCESSES, SLOTS, URL, handlers, main
from huey import RedisHuey
from redis import ConnectionPool

# No priorities are asked for, and without them its documentation offers a list and a blocking pop.
# Each thread keeps a connection; the client allows a hundred unless told otherwise.
huey = RedisHuey("bench", results=False, connection_pool=ConnectionPool.from_url(URL, max_connections=SLOTS + 50))
if "BENCH_LEDGER" in os.environ:
    functions = handlers().plain()
    tasks = {kind: huey.task(name=kind)(function) for kind, function in functions.items()}


class Huey:
    """See adapter.Adapter."""

    def work(self) -> None:
        # Nothing here is periodic, and its documentation is content without the check of its workers' health.
        command = [sys.executable, "-m", "huey.bin.huey_consumer", "peers.huey.huey", "--quiet"]
        command += ["--no-periodic", "--disable-health-check"]
        if KIND == "cpu":  # processes, says its documentation
            command += ["--worker-type", "process", "--workers", str(PROCESSES)]
        else:
            # More threads help jobs that wait, and slow down those that do not.
            threads = SLOTS if KIND in ("io", "hold") else min(SLOTS, 16)
            command += ["--workers", str(threads)]
            for _ in range(PROCESSES - 1):
                subprocess.Popen(command)
        os.execv(command[0], command)

    def open(self) -> None:
        """It connects at its first push."""

    def push(self, kind: str, number: int) -> None:
        tasks[kind](number)

    def push_at(self, kind: str, number: int, at: float, payload: str) -> None:
        tasks[kind].schedule(args=(number, payload), eta=datetime.fromtimestamp(at, UTC))

    def close(self) -> None: ...


if __name__ == "__main__":
    main(Huey())
