"""Schedulers for tests: over one store of their own, started together, always stopped."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

from duly import Scheduler
from duly.stores.base import Shard


def shared(store_url: str) -> str:
    """A URL that several schedulers of one test can open, and no other test does."""
    return f"memory://{uuid.uuid4().hex}" if store_url == "memory://" else store_url


@asynccontextmanager
async def running(*schedulers: Scheduler, grace: float = 2.0) -> AsyncIterator[None]:
    """All are started; at the end all are stopped, whatever happens."""
    async with AsyncExitStack() as stack:
        for scheduler in schedulers:
            await scheduler.start()
            stack.push_async_callback(scheduler.stop, grace)
        yield


class Calls:
    """The calls of one verb of a shard: how many there were, and what is done instead of some."""

    def __init__(self, verb: Any) -> None:
        self._verb = verb
        self.batches: list[Any] = []
        self.faults: list[Exception | None] = []
        """One for each call to come: raised instead of the call; None lets it pass."""
        self.gate: asyncio.Event | None = None

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.batches.append(args[-1] if args else None)
        if self.gate is not None:
            await self.gate.wait()
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        return await self._verb(*args, **kwargs)


@contextmanager
def watched(shard: Shard, verb: str) -> Iterator[Calls]:
    """Count the calls of a verb, or have them fail."""
    calls = Calls(getattr(shard, verb))
    setattr(shard, verb, calls)
    try:
        yield calls
    finally:
        delattr(shard, verb)
