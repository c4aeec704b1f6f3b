"""The slots of a node: how many of them a claim may fill, and who hears when some are free again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

MAX_CLAIM = 500
"""Jobs in one claim at most, however many slots there are."""
HOLD_SHARE = 2
"""A claim takes at most this part of the slots, so that one half runs while the other travels."""


class Claimer(Protocol):
    """A line, as far as slots go."""

    @property
    def is_hungry(self) -> bool:
        """Whether it would claim, or is about to; it is not while it sleeps until something is due."""
        ...

    def slot_freed(self) -> None: ...


class Slots:
    """`free` of `count` slots are. `lines` share them: each that wants some gets its part, in turn."""

    def __init__(self, count: int, lines: Sequence[Claimer]) -> None:
        self.count = self.free = count
        self._lines = lines
        self._most = min(max(1, count // HOLD_SHARE), MAX_CLAIM)
        self._turn = 0

    def reserve(self) -> int:
        """Slots for one claim, of a line that is not hungry any more; the others that are keep their parts."""
        hungry = sum(line.is_hungry for line in self._lines) if len(self._lines) > 1 else 0
        count = min(self._most, -(-self.free // (hungry + 1)))
        self.free -= count
        return count

    def release(self, count: int) -> None:
        """They are free again: every line hears of it, another one first each time. Fewer than none: so many are taken, for
        what came of a claim that was not answered in time; `free` may be less than none until some of that is handed back.
        """
        self.free += count
        if count <= 0:
            return
        if len(self._lines) == 1:
            self._lines[0].slot_freed()
            return
        self._turn = (self._turn + 1) % len(self._lines)
        for line in (*self._lines[self._turn :], *self._lines[: self._turn]):
            line.slot_freed()
