"""A bounded stream of entries for people to read: what a Redis stream is to the Redis store."""

from __future__ import annotations

import itertools
from collections import deque

from duly.stores.base import Page

Entry = tuple[str, dict[str, str]]


class Stream:
    """Entries (id, fields), ids growing; the oldest are dropped."""

    __slots__ = ("_entries", "_last")

    def __init__(self) -> None:
        self._entries: deque[tuple[tuple[int, int], dict[str, str]]] = deque()
        self._last = (0, 0)

    def append(self, now: int, keep: int, fields: dict[str, str]) -> None:
        """Add one entry, and keep only the last `keep`."""
        self._last = (now, 0) if now > self._last[0] else (self._last[0], self._last[1] + 1)
        self._entries.append((self._last, fields))
        while len(self._entries) > keep:
            self._entries.popleft()

    def page(self, after: str, limit: int) -> Page:
        """At most `limit` entries after the id `after` ("" for the beginning); the cursor is the last id given."""
        place = _place(after)
        found = itertools.islice((entry for entry in self._entries if entry[0] > place), limit)
        items: list[Entry] = [(f"{ms}-{n}", dict(fields)) for (ms, n), fields in found]
        return Page(items, items[-1][0] if items else after)


def _place(id: str) -> tuple[int, int]:
    ms, _, n = id.partition("-")
    return (int(ms), int(n or 0)) if id else (0, -1)
