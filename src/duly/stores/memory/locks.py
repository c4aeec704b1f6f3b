"""The locks of a memory store: who holds a place, and who waits for one, in the order of arrival. The store's verbs lock."""

from __future__ import annotations

import heapq

from duly.stores.base import Page
from duly.stores.capabilities import PLACES_SHOWN, LockPlace, LockRecord
from duly.stores.memory.line import Line


class Locks:
    """All locks. An owner holds a place of a lock, or waits for one, or neither."""

    def __init__(self) -> None:
        self._held: dict[str, dict[str, int]] = {}  # name -> owner -> fence
        self._line: dict[str, dict[str, None]] = {}  # name -> owners in the order of arrival
        self._until = Line()  # of both, as "name\nowner"
        self._fence = 0

    def take(self, name: str, owner: str, ttl: int, places: int, waiting: int, now_us: int) -> int | None:
        """See `base.Store.lock`."""
        now = now_us // 1000
        self._forget(now)
        held, line = self._held.get(name, {}), self._line.get(name, {})
        if owner not in held:
            ahead = list(line).index(owner) if owner in line else len(line)
            if ahead >= places - len(held):
                if waiting:
                    self._line.setdefault(name, {})[owner] = None
                    self._until.put(f"{name}\n{owner}", now + waiting)
                return None
            self._leave(name, owner)
            self._fence = max(self._fence + 1, now_us)
            self._held.setdefault(name, {})[owner] = self._fence
        self._until.put(f"{name}\n{owner}", now + ttl)
        return self._held[name][owner]

    def free(self, name: str, owner: str, now: int) -> bool:
        """See `base.Store.unlock`."""
        self._forget(now)
        self._until.discard(f"{name}\n{owner}")
        return self._leave(name, owner)

    def page(self, cursor: str, limit: int, now: int) -> Page:
        """See `capabilities.ListsLocks`; in the order of their names, of which the cursor is the last."""
        self._forget(now)
        names = heapq.nsmallest(limit, (name for name in self._held if name > cursor))
        return Page([self._record(name) for name in names], names[-1] if len(names) == limit else "")

    def _record(self, name: str) -> LockRecord:
        held = self._held[name]
        until = {owner: self._until.at(f"{name}\n{owner}") or 0 for owner in held}
        first = heapq.nsmallest(PLACES_SHOWN, held, key=lambda owner: (until[owner], owner))
        places = tuple(LockPlace(owner, held[owner], until[owner]) for owner in first)
        return LockRecord(name, places, len(held), len(self._line.get(name, ())))

    def _forget(self, now: int) -> None:
        """Whose time is over is gone."""
        for place in self._until.due(now, len(self._until)):
            self._leave(*place.split("\n", 1))

    def _leave(self, name: str, owner: str) -> bool:
        """Take the owner's place away; whether it held the lock."""
        line = self._line.get(name, {})
        line.pop(owner, None)
        if not line:
            self._line.pop(name, None)
        held = self._held.get(name, {})
        did_hold = held.pop(owner, None) is not None
        if not held:
            self._held.pop(name, None)
        return did_hold
