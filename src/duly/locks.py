"""Locks and semaphores of the whole cluster: held for a time, renewed while their block runs, with a fence for outside writes.

A lock is a semaphore with one place. Who waits stands in a line that the store keeps, in the order of arrival; each try
keeps the place for a few seconds more, so that one who dies is in nobody's way for longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from duly.core.job import duration, text
from duly.errors import ConfigurationError, InvalidOption, LockLost, StoreError, StoreUncertain
from duly.identity import new_name
from duly.stores.capabilities import Calling

if TYPE_CHECKING:
    from typing import Self

    from duly.clock import Clock
    from duly.stores.base import Store

OnLoss = Literal["report", "cancel"]
DAY = 86_400.0
PLACE_MS = 3_000
"""How long a place in the line is kept after a try."""
PAUSES = (0.02, 0.1)
"""Seconds between two tries of one who waits: the first, and the longest; half as much more or less."""
CALLED_PAUSE = 0.5
"""The same, where the store calls who is next: for locks whose holder died, and calls that were lost."""
REPEATS = (0.05, 0.2, 0.5)
REPEAT_SECONDS = 5.0
"""A try whose answer was lost is made again after these pauses, and not later than this after the first."""


class Lock:
    """A named lock. As a context manager it waits for the lock, and renews it while the block runs.

    It lasts for `ttl` seconds from the last renewal that was answered, by this process's own clock too: a block that cannot
    reach the store knows when its lock is over. on_loss: "report" (LockLost at the end of the block, `held` is False before)
    or "cancel" (the block is cancelled, and ends with LockLost).
    """

    kind = "lock"

    def __init__(
        self, store: Store, clock: Clock, name: str, ttl: float, timeout: float | None = None,
        on_loss: OnLoss = "report", places: int = 1,
    ) -> None:  # fmt: skip
        self.name, self.ttl = text(self.kind, name), duration("ttl", ttl, least=0.01)
        self.timeout = None if timeout is None else duration("timeout", timeout)
        if on_loss not in ("report", "cancel"):
            raise InvalidOption(f"on_loss={on_loss!r}: give 'report' or 'cancel'")
        if isinstance(places, bool) or not isinstance(places, int) or not 1 <= places <= 1_000_000:
            raise InvalidOption(f"n={places!r}: give the number of holders, 1 to 1,000,000")
        self.on_loss, self.places = on_loss, places
        self._store, self._clock, self._owner = store, clock, new_name()
        self._fence: int | None = None
        self._until = 0.0  # by the clock's monotonic seconds
        self._task: asyncio.Task[Any] | None = None  # that of the block
        self._keeper: asyncio.Task[None] | None = None
        self._is_lost = self._is_cancelled = False
        self._cancelling = 0

    @property
    def fence(self) -> int:
        """Larger than that of every former holder: refuse outside writes that carry a smaller one than you have seen.

        Raises LockLost if it is not held.
        """
        if self._fence is None or not self.held:
            raise LockLost(f"{self.kind} {self.name!r} is not held")
        return self._fence

    @property
    def held(self) -> bool:
        """Whether it was taken, has not been released or taken away, and its time is not over."""
        return self._fence is not None and self._left > 0

    @property
    def _left(self) -> float:
        """Seconds until its time is over."""
        return max(0.0, self._until - self._clock.monotonic())

    async def acquire(self) -> bool:
        """Try once, or extend it; whether it is held now. Whoever waits for it goes first.

        A try whose answer was lost is repeated; if that does not help, what it may have got is freed, and StoreUncertain
        raised.
        """
        was_held = self.held
        try:
            return await self._try()
        except BaseException:
            if not was_held:
                await self._give_up()
            raise

    async def release(self) -> bool:
        """Free it. False if it was lost or released before: another's is never freed."""
        keeper, self._keeper = self._keeper, None
        self._fence = None
        if keeper is not None:
            keeper.cancel()
        try:
            return await self._store.unlock(self.name, self._owner)
        finally:
            if keeper is not None:
                await asyncio.gather(keeper, return_exceptions=True)

    async def __aenter__(self) -> Self:
        """Wait for it; if it is held already (`try_lock`), only have it renewed from now on. Raises TimeoutError."""
        if self._task is not None:
            raise ConfigurationError(f"{self.kind} {self.name!r} has a block already: make another for this one")
        self._task = task = asyncio.current_task()
        assert task is not None
        try:
            if not self.held:
                async with asyncio.timeout(self.timeout):
                    await self._wait()
        except BaseException as error:
            self._task = None
            await self._give_up()
            if isinstance(error, TimeoutError) and self.timeout is not None:
                raise TimeoutError(f"{self.kind} {self.name!r} was not free within {self.timeout:g} s") from None
            raise
        self._is_lost = self._is_cancelled = False
        self._cancelling = task.cancelling()
        self._keeper = asyncio.get_running_loop().create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free it; if the store does not answer, its time frees it. Raises LockLost if it was lost, unless the block failed."""
        task, self._task = self._task, None
        if self._keeper is not None:
            self._keeper.cancel()  # from here on it cancels nobody
        lost = self._is_lost or (self._fence is not None and not self.held)
        mine = False  # whether the block was cancelled for the loss alone
        if self._is_cancelled and task is not None:
            mine = task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError)
        with contextlib.suppress(StoreError):
            await self.release()
        if lost and (error is None or mine):
            raise LockLost(
                f"{self.kind} {self.name!r} was lost while its block ran; what the block did may have overlapped"
            ) from error

    # trying

    async def _wait(self) -> None:
        """Stand in the line until it is held."""
        while not await self._try(PLACE_MS):
            async with contextlib.AsyncExitStack() as stack:
                call, (pause, longest) = await self._listen(stack), PAUSES
                while call is None or not call.done():
                    if await self._try(PLACE_MS):
                        return
                    if call is not None:
                        await asyncio.wait([call], timeout=CALLED_PAUSE)
                    else:
                        await asyncio.sleep(pause * (0.5 + random.random()))
                        pause = min(longest, pause * 1.5)

    async def _listen(self, stack: contextlib.AsyncExitStack) -> asyncio.Future[None] | None:
        """What is done when it is our turn, as long as the stack is open; None if the store does not call."""
        if isinstance(self._store, Calling):
            with contextlib.suppress(StoreError):  # no rights on channels, say: then we ask, as with other stores
                return await stack.enter_async_context(self._store.called(self.name, self._owner))
        return None

    async def _try(self, waiting: int = 0) -> bool:
        """Ask for it once; again, if the answer was lost: the same owner gets no second place."""
        pauses, doubt, begun = iter(REPEATS), None, self._clock.monotonic()
        while True:
            try:
                return await self._ask(waiting)
            except StoreError as error:
                if doubt is None and isinstance(error, StoreUncertain):
                    doubt = error
                if doubt is None:
                    raise
                pause = next(pauses, None)
                if pause is None or self._clock.monotonic() - begun > REPEAT_SECONDS:
                    raise doubt from None
            await asyncio.sleep(pause)

    async def _ask(self, waiting: int) -> bool:
        sent, ttl = self._clock.monotonic(), int(self.ttl * 1000)
        fence = await self._store.lock(self.name, self._owner, ttl, places=self.places, waiting=waiting)
        if self._keeper is not None and fence != self._fence:  # another may have had it since
            self._lose()
            if fence is not None:
                await self._give_up()
            return False
        self._fence, self._until = fence, sent + ttl / 1000
        return fence is not None

    async def _give_up(self) -> None:
        """Free what a try without an answer may have got, and leave the line."""
        self._fence = None
        with contextlib.suppress(StoreError):
            await self._store.unlock(self.name, self._owner)

    # keeping

    async def _keep(self) -> None:
        """Renew every third of the time to live, sooner after a failure, until it is lost."""
        pause = self.ttl / 3
        while self._fence is not None:
            await asyncio.sleep(min(pause, self._left))
            if not self.held:
                break
            try:
                async with asyncio.timeout(self._left):
                    await self._ask(0)
                pause = self.ttl / 3
            except (StoreError, TimeoutError):
                pause = self.ttl / 10
        self._lose()

    def _lose(self) -> None:
        """What the block holds is lost, whatever comes."""
        self._fence = None
        if self.on_loss == "cancel" and self._task is not None and not self._is_lost:
            self._is_cancelled = True
            self._task.cancel()
        self._is_lost = True


class Semaphore(Lock):
    """A lock with `n` places: at most n holders in the whole cluster, each with a time and a fence of its own.

    A try is judged by the n that it gives. A lock of the same name is the same thing with n = 1.
    """

    kind = "semaphore"
