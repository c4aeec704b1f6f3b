"""saq: a job is moved to a list of active ones and swept from there when it is overdue; no results."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable
from typing import Any

import uvloop
from adapter import PROCESSES, SLOTS, URL, handlers, main
from redis.asyncio import Redis
from saq.queue.redis import RedisQueue
from saq.runner import run

KINDS = ("noop", "sync", "io", "cpu", "stamp", "hold")
# Each slot waits for a job for ever, on a connection of its own; redis-py, unless told, refuses more than 100 connections
# and gives up a read after five seconds.
redis = Redis.from_url(URL, max_connections=2 * SLOTS + 100, socket_timeout=None)
queue = RedisQueue(redis, name="bench", max_concurrent_ops=SLOTS)
# `ttl` -1 keeps no results. With the one attempt of the default, a job whose worker died is given up.
options = {"ttl": -1, "retries": 2}


def task(kind: str) -> tuple[str, Callable[..., Any]]:
    """A handler as saq calls it: with its context, and with keywords."""
    handler = getattr(does, kind)
    if not asyncio.iscoroutinefunction(handler):
        return kind, lambda _context, **given: handler(**given)

    async def handle(_context: Any, **given: Any) -> None:
        await handler(**given)

    return kind, handle


if "BENCH_LEDGER" in os.environ:
    does = handlers()
    settings = {"queue": queue, "functions": [task(kind) for kind in KINDS], "concurrency": SLOTS}


class Saq:
    """See adapter.Adapter."""

    def work(self) -> None:
        uvloop.install()
        run("peers.saq.settings", workers=PROCESSES)

    async def open(self) -> None:
        await queue.connect()

    async def push(self, kind: str, number: int) -> None:
        await queue.enqueue(kind, number=number, **options)

    async def push_at(self, kind: str, number: int, at: float, payload: str) -> None:
        # Whole seconds are all it knows: the next one, so that none is early.
        await queue.enqueue(kind, number=number, payload=payload, scheduled=math.ceil(at), **options)

    async def close(self) -> None:
        await queue.disconnect()


if __name__ == "__main__":
    main(Saq())
