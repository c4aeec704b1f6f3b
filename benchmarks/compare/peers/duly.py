"""duly, at its defaults: leases of ten seconds, fences, retries, history; jobs run at least once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from adapter import PROCESSES, SLOTS, URL, handlers, main

from duly import Scheduler

scheduler = Scheduler(URL, namespace="bench", concurrency=SLOTS)
KINDS = ("noop", "sync", "io", "cpu", "stamp", "hold")
if "BENCH_LEDGER" in os.environ:
    does = handlers()
    tasks = {kind: scheduler.task(name=kind)(getattr(does, kind)) for kind in KINDS}


class Duly:
    """See adapter.Adapter."""

    def work(self) -> None:
        command = [sys.executable, "-m", "duly", "worker", "peers.duly:scheduler", "--processes", str(PROCESSES)]
        os.execv(command[0], command)

    async def open(self) -> None:
        await scheduler.__aenter__()

    async def push(self, kind: str, number: int) -> None:
        await tasks[kind].push(number)

    async def push_at(self, kind: str, number: int, at: float, payload: str) -> None:
        await tasks[kind].options(at=datetime.fromtimestamp(at, UTC)).push(number, payload)

    async def push_many(self, kind: str, numbers: Sequence[int]) -> None:
        task = tasks[kind]
        await scheduler.push_many([task.job(number) for number in numbers])

    async def close(self) -> None:
        await scheduler.__aexit__(None, None, None)


if __name__ == "__main__":
    main(Duly())
