"""The one loop: interval, jitter, error back-off, stop and wake-up, written once; a service is its `tick()`."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from duly.clock import Clock
from duly.errors import DulyError, StoreUnavailable, StoreUncertain

T = TypeVar("T")


class Backoff:
    """Growing, jittered, capped pauses after errors; `reset` after a success. Seconds."""

    def __init__(self, cap: float, first: float = 0.05) -> None:
        self.cap, self.first = cap, min(first, cap)
        self._next = self.first

    def pause(self) -> float:
        pause = self._next * (0.5 + random.random() / 2)
        self._next = min(self.cap, self._next * 2)
        return pause

    def reset(self) -> None:
        self._next = self.first


async def insist(call: Callable[[], Awaitable[T]], seconds: float, clock: Clock, logger: logging.Logger) -> T:
    """Make a call until the store answers it, for at most `seconds`; says once what is waited for. Raises what it
    raised last: StoreUnavailable, StoreUncertain, or any other error at once.
    """
    until, backoff, said = clock.monotonic() + seconds, Backoff(1.0), False
    while True:
        try:
            return await call()
        except (StoreUnavailable, StoreUncertain) as error:
            pause = backoff.pause()
            if clock.monotonic() + pause >= until:
                raise
            if not said:
                said = True
                logger.warning("%s; waiting for it, for at most %g s", error, seconds)
            await asyncio.sleep(pause)


async def all_of(calls: Iterable[Awaitable[object]]) -> None:
    """Make all calls side by side: one that fails keeps no other from being made. Raises the first error of them."""
    for answer in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer


class Loop:
    """Calls `tick` until `stop`: after each call it sleeps for the seconds that the call returned (None: until woken).

    The first error of a row is logged; each is followed by a pause that grows up to `cap` seconds. `wake` ends a sleep early.
    """

    def __init__(
        self, name: str, tick: Callable[[], Awaitable[float | None]], logger: logging.Logger, cap: float
    ) -> None:
        self.name, self.tick, self.logger = name, tick, logger
        self._backoff = Backoff(cap)
        self._bell = asyncio.Event()
        self._stopping = self._failing = False

    def wake(self) -> None:
        self._bell.set()

    def stop(self) -> None:
        self._stopping = True
        self._bell.set()

    async def run(self) -> None:
        while not self._stopping:
            self._bell.clear()
            try:
                pause = await self.tick()
                self._backoff.reset()
                self._failing = False
            except Exception as error:
                pause = self._backoff.pause()
                if not self._failing:  # said once, until it works again
                    self._failing = True
                    self.logger.warning(
                        "%s: %s; trying again", self.name, error, exc_info=not isinstance(error, DulyError)
                    )
            if not self._stopping and pause != 0:
                await wait_for_event(self._bell, pause)


async def wait_for_event(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until the event is set, at most `seconds`; whether it is set."""
    if event.is_set():
        return True
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
