"""Ids in order of (time, id), read from the front and changed anywhere: what a sorted set is to Redis.

A heap cannot remove from its middle, so removal is lazy: `_times` says what is true, and an entry of the heap that
disagrees with it is thrown away when it comes to the front, or all at once when such entries are the greater part.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Place = tuple[int, str]
"""(time in ms, id). Ids compare by code point, which is also the order of their UTF-8 bytes."""


class Line:
    """One line of ids; every id stands in it at most once. put, discard and head cost O(log n), amortised."""

    __slots__ = ("_heap", "_times")

    def __init__(self) -> None:
        self._heap: list[Place] = []
        self._times: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._times)

    def __contains__(self, id: object) -> bool:
        return id in self._times

    def put(self, id: str, at: int) -> None:
        """Place `id` at `at`, wherever it stood before."""
        if self._times.get(id) == at:
            return
        self._times[id] = at
        if len(self._heap) > 2 * len(self._times) + 100:
            self._heap = [(time, known) for known, time in self._times.items()]
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, (at, id))

    def discard(self, id: str) -> None:
        self._times.pop(id, None)

    def at(self, id: str) -> int | None:
        return self._times.get(id)

    def head(self) -> Place | None:
        """The first place, or None if the line is empty."""
        while self._heap:
            at, id = self._heap[0]
            if self._times.get(id) == at:
                return at, id
            heapq.heappop(self._heap)
        return None

    def due(self, now: int, limit: int) -> list[str]:
        """The first ids whose time has come, at most `limit`; they leave the line."""
        return [id for _, id in self.places_due(now, limit)]

    def places_due(self, now: int, limit: int) -> list[Place]:
        """As `due`, with where they stood."""
        taken: list[Place] = []
        while len(taken) < limit and (head := self.head()) is not None and head[0] <= now:
            self.discard(head[1])
            taken.append(head)
        return taken

    def after(self, place: Place | None, limit: int) -> list[Place]:
        """The first `limit` places behind `place`, in order. O(n): for people who look, not for a job's path."""
        return heapq.nsmallest(limit, ((at, id) for id, at in self._times.items() if place is None or (at, id) > place))

    def count(self, place: Place) -> int:
        """How many stand before `place`. O(n), as `after`."""
        return sum((at, id) < place for id, at in self._times.items())

    def __iter__(self) -> Iterator[str]:
        return iter(self._times)
