"""Locks of the whole cluster: held for a time, renewed while their block runs, with a fence for outside writes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from types import TracebackType
from typing import TYPE_CHECKING

from duly.core.job import duration, text
from duly.errors import LockLost, StoreError
from duly.identity import new_name

if TYPE_CHECKING:
    from duly.stores.base import Store

DAY = 86_400.0
PAUSES = (0.02, 0.5)
"""Seconds between two tries for a held lock: the first, and the longest."""


class Lock:
    """A named lock. As a context manager it waits for the lock, and renews it while the block runs."""

    def __init__(self, store: Store, name: str, ttl: float, timeout: float | None = None) -> None:
        self.name, self.ttl, self.timeout = text("lock", name), duration("ttl", ttl, least=0.01), timeout
        self._store, self._owner = store, new_name()
        self._fence: int | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def fence(self) -> int:
        """Larger than that of every former holder: refuse outside writes that carry a smaller one than you have seen."""
        if self._fence is None:
            raise LockLost(f"lock {self.name!r} is not held")
        return self._fence

    @property
    def held(self) -> bool:
        return self._fence is not None

    async def acquire(self) -> bool:
        """Try once; whether the lock is held now."""
        self._fence = await self._store.lock(self.name, self._owner, int(self.ttl * 1000))
        return self._fence is not None

    async def release(self) -> bool:
        """Free it; False if it was lost before."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        self._fence = None
        return await self._store.unlock(self.name, self._owner)

    async def __aenter__(self) -> Lock:
        pause, longest = PAUSES
        try:
            async with asyncio.timeout(self.timeout):
                while not await self.acquire():
                    await asyncio.sleep(pause * (0.5 + random.random()))
                    pause = min(longest, pause * 1.5)
        except BaseException as error:
            self._fence = None
            with contextlib.suppress(StoreError):  # the try under way may have been granted
                await self._store.unlock(self.name, self._owner)
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"lock {self.name!r} was not free within {self.timeout:g} s") from None
            raise
        self._keeper = asyncio.get_running_loop().create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = not self.held
        await self.release()
        if lost and error is None:
            raise LockLost(f"lock {self.name!r} was lost while its block ran; what the block did may have overlapped")

    async def _keep(self) -> None:
        """Renew every third of the time to live; a lock that another has taken is said to be lost."""
        while True:
            await asyncio.sleep(self.ttl / 3)
            try:
                fence = await self._store.lock(self.name, self._owner, int(self.ttl * 1000))
            except StoreError:
                continue  # the store is away; its clock decides whether the lock is still held
            if fence != self._fence:
                if fence is not None:
                    await self._store.unlock(self.name, self._owner)
                self._fence = None
                return
