"""streaq: a Redis stream whose messages are claimed again when nobody renews them; no results."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import coredis
from adapter import PROCESSES, SLOTS, URL, handlers, main
from streaq import Worker

coredis.Config.optimized = True  # without its client's checks of arguments, as its documentation advises
worker = Worker(URL, queue_name="bench", concurrency=SLOTS, anyio_kwargs={"use_uvloop": True})
KINDS = ("noop", "sync", "io", "cpu", "stamp", "hold")
if "BENCH_LEDGER" in os.environ:
    does = handlers()
    # `ttl` 0 keeps no results; silent: no two lines in the log for each job
    tasks = {kind: worker.task(name=kind, ttl=0, silent=True)(getattr(does, kind)) for kind in KINDS}


class Streaq:
    """See adapter.Adapter."""

    def work(self) -> None:
        command = [sys.executable, "-m", "streaq", "run", "peers.streaq:worker", "--workers", str(PROCESSES)]
        os.execv(command[0], command)

    async def open(self) -> None:
        await worker.__aenter__()

    async def push(self, kind: str, number: int) -> None:
        await tasks[kind].enqueue(number)

    async def push_at(self, kind: str, number: int, at: float, payload: str) -> None:
        await tasks[kind].enqueue(number, payload).start(schedule=datetime.fromtimestamp(at, UTC))

    async def push_many(self, kind: str, numbers: Sequence[int]) -> None:
        await worker.enqueue_many([tasks[kind].enqueue(number) for number in numbers])

    async def close(self) -> None:
        await worker.__aexit__(None, None, None)


if __name__ == "__main__":
    main(Streaq())
