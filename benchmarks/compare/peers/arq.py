"""arq: a job stays in the queue until it has run, under a key that says it is in progress; no results."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from multiprocessing import Process
from typing import Any

import uvloop
from adapter import PROCESSES, SLOTS, URL, handlers, main
from arq import create_pool, func, run_worker
from arq.connections import RedisSettings
from arq.worker import Function

KINDS = ("noop", "io", "cpu", "stamp", "hold")
redis = RedisSettings.from_dsn(URL)
threads = ThreadPoolExecutor(SLOTS)


def task(kind: str) -> Function:
    """A handler as arq calls it: with its context."""
    handler = getattr(does, kind)

    async def handle(_context: Any, *given: Any) -> None:
        await handler(*given)

    return func(handle, name=kind)


async def sync(_context: Any, number: int) -> None:
    """It runs coroutines alone; this is how its documentation runs a plain function."""
    await asyncio.get_running_loop().run_in_executor(threads, does.sync, number)


if "BENCH_LEDGER" in os.environ:
    does = handlers()
    settings = {
        "functions": [*(task(kind) for kind in KINDS), sync],
        "redis_settings": redis,
        "max_jobs": SLOTS,
        "poll_delay": 0.01,  # it only polls: this, and not the 0.5 s of the default, is how long a job waits
        "keep_result": 0,
    }


class Arq:
    """See adapter.Adapter."""

    def work(self) -> None:
        uvloop.install()
        for _ in range(PROCESSES - 1):
            Process(target=run_worker, args=(settings,)).start()
        run_worker(settings)

    async def open(self) -> None:
        self.pool = await create_pool(redis)

    async def push(self, kind: str, number: int) -> None:
        await self.pool.enqueue_job(kind, number)

    async def push_at(self, kind: str, number: int, at: float, payload: str) -> None:
        await self.pool.enqueue_job(kind, number, payload, _defer_until=datetime.fromtimestamp(at, UTC))

    async def close(self) -> None:
        await self.pool.aclose()


if __name__ == "__main__":
    main(Arq())
