"""Waiting for a moment as exactly as the machine can: event loops count whole milliseconds, and come up to two of them late."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import NamedTuple

from duly.clock import SYSTEM_CLOCK, Clock
from duly.stores.base import MAX_BATCH

LEAD = 0.002
"""Seconds before its moment at which the loop's own timer ends, and the loop goes round until the moment has come."""
EXACT_FROM = 0.1
"""Seconds of waiting from which that is done: going round costs at most a fiftieth of a core, and other work goes on."""
SHY_SECONDS = 0.15
"""How much later than the moment of a job that it could not run a node looks: more than the others sleep beyond it."""
SHY_MS = 20
"""How near two moments have to be to count as the same."""


class Ahead(NamedTuple):
    """A moment that is near: in ms of the store's clock, and in seconds of `clock.monotonic()`."""

    nominal: int
    moment: float


async def until(clock: Clock, moment: float) -> None:
    """Return when `clock.monotonic()` is at `moment`. With another clock than the machine's, by the loop's timer."""
    left = moment - clock.monotonic()
    if clock is not SYSTEM_CLOCK or left > 4 * LEAD:
        await asyncio.sleep(max(0.0, left))
        return
    while clock.monotonic() < moment:  # noqa: ASYNC110  a moment is no event
        await asyncio.sleep(0)


class Alarm:
    """One call at a time, at one moment at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._handle: asyncio.Handle | None = None

    def set(self, seconds: float, call: Callable[[], object]) -> None:
        """Make the call in so many seconds, instead of what was set before."""
        self.cancel()
        loop = asyncio.get_running_loop()
        if seconds < EXACT_FROM or self._clock is not SYSTEM_CLOCK:
            self._handle = loop.call_later(seconds, call)
        else:
            self._handle = loop.call_later(seconds - LEAD, self._approach, self._clock.monotonic() + seconds, call)

    def set_early(self, seconds: float, call: Callable[[float], object]) -> None:
        """Make the call a little before, with the moment by the monotonic clock: whoever is called waits for the rest."""
        self.cancel()
        moment = self._clock.monotonic() + seconds
        self._handle = asyncio.get_running_loop().call_later(seconds - 2 * LEAD, call, moment)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _approach(self, moment: float, call: Callable[[], object]) -> None:
        if self._clock.monotonic() < moment:
            self._handle = asyncio.get_running_loop().call_soon(self._approach, moment, call)
        else:
            self._handle = None
            call()


class Shyness:
    """How much later than others a node looks for a job that it has put back as unfit: another one may know how to run it,
    and would never get it from a node that is there first each time."""

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic
        self._put_back: list[tuple[float, int]] = []
        self._shunned: list[int] = []

    def put_back(self, delay: int) -> None:
        """A job was put back, for so many ms."""
        self._put_back.append((self._monotonic(), delay))

    def seconds(self, now: int, wait_us: int) -> float:
        """How much to be late for what is due so much after `now` (ms of the store's clock)."""
        clock = self._monotonic()
        self._shunned = [moment for moment in self._shunned if moment >= now]
        self._shunned += [now + delay - int((clock - at) * 1000) for at, delay in self._put_back]
        self._put_back.clear()
        del self._shunned[:-MAX_BATCH]
        moment = now + wait_us // 1000
        near = any(abs(moment - shunned) <= SHY_MS for shunned in self._shunned)
        return SHY_SECONDS * (1 + random.random()) if near else 0.0
