"""Repairs, slowly: one bounded step of `reconcile` per shard and minute, on every node.

What an eviction or a failover broke is mended, and records of clients and nodes long gone are dropped. A find is logged.
"""

from __future__ import annotations

import asyncio
import logging
import random

from duly.runtime.line import Line
from duly.runtime.loop import all_of

STEP = 200
"""Entries looked at in one step."""
BREATH = 0.01
"""Seconds between two steps in a hurry: the store has other things to do."""
PAUSE = 60.0
"""Seconds between two steps, up to half as much more, so that nodes do not go in step."""


class Caretaker:
    """The service of a node: walks through its shards, a step at a time."""

    def __init__(self, logger: logging.Logger) -> None:
        self._cursors: dict[Line, str] = {}
        self._hurried: set[Line] = set()
        self._logger = logger
        self._began = False

    def add(self, line: Line) -> None:
        """A shard more."""
        self._cursors[line] = ""

    def hurry(self, line: Line) -> None:
        """Have a shard walked through from its beginning to its end by the next tick."""
        self._cursors[line] = ""
        self._hurried.add(line)
        self._began = True

    async def tick(self) -> float:
        """One step per shard; returns the seconds until the next."""
        if not self._began:  # a node that has just started has better things to do
            self._began = True
            return PAUSE * random.random()
        await all_of([self._step(line) for line in self._cursors])
        return PAUSE * (1 + random.random() / 2)

    async def _step(self, line: Line) -> None:
        while line in self._hurried:
            await self._look(line)
            if not self._cursors[line]:
                self._hurried.discard(line)
            await asyncio.sleep(BREATH)
        await self._look(line)

    async def _look(self, line: Line) -> None:
        self._cursors[line], found = await line.shard.reconcile(self._cursors[line], STEP)
        for kind in ("orphans", "ghosts", "silent"):
            if found.get(kind):
                self._logger.warning("queue %s: repaired %d %s", line.place.shown, found[kind], kind)
