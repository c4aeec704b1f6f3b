"""The slots of a node: how many of them a claim may fill, and who hears when some are free again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from duly.clock import Clock
from duly.runtime.forecast import CALM_SECONDS

if TYPE_CHECKING:
    from duly.runtime.run import Run

MAX_CLAIM = 500
"""Jobs in one claim at most, however many slots there are."""
HOLD_SHARE = 2
"""A claim takes at most this part of what a node may hold, so that one half runs while the other travels."""


class Claimer(Protocol):
    """A line, as far as slots go."""

    @property
    def is_hungry(self) -> bool:
        """Whether it would claim, or is about to; it is not while it sleeps until something is due."""
        ...

    def slot_freed(self) -> None: ...


class Slots:
    """`free` of `count` slots are. `lines` share them: each that wants some gets its part, in turn. `waiting` are runs that were
    claimed before one was free, with the time since when; `serve_waiting` gives them free ones."""

    def __init__(self, count: int, lines: Sequence[Claimer], serve_waiting: Callable[[], None], clock: Clock) -> None:
        self.count = self.free = count
        self._monotonic = clock.monotonic
        self._released_at = float("-inf")
        self.waiting: deque[tuple[float, Run]] = deque()
        self._lines, self._serve_waiting = lines, serve_waiting
        self._turn = 0

    @property
    def are_turning(self) -> bool:
        """Whether one has come free a moment ago, of several lines: so the next will, soon."""
        return len(self._lines) > 1 and self._monotonic() < self._released_at + CALM_SECONDS

    def most(self, ahead: int) -> int:
        """How many jobs one claim may bring, if `ahead` may be claimed beyond the slots."""
        return min(max(1, (self.count + ahead) // HOLD_SHARE), MAX_CLAIM)

    def reserve(self, most: int) -> int:
        """Slots for one claim, of a line that is not hungry any more; the others that are keep their parts."""
        hungry = sum(line.is_hungry for line in self._lines) if len(self._lines) > 1 else 0
        count = min(most, -(-self.free // (hungry + 1)))
        self.free -= count
        return count

    def take(self, count: int) -> int:
        """As many as are free, and at most so many: they are not free any more."""
        taken = min(count, self.free)
        self.free -= taken
        return taken

    def release(self, count: int) -> None:
        """They are free again: runs that wait for a slot take them, then every line hears of it, another one first each
        time."""
        if count <= 0:
            return
        self.free += count
        if self.waiting:
            self._serve_waiting()
        if len(self._lines) == 1:
            self._lines[0].slot_freed()
            return
        self._released_at = self._monotonic()
        self._turn = (self._turn + 1) % len(self._lines)
        for line in (*self._lines[self._turn :], *self._lines[: self._turn]):
            line.slot_freed()
