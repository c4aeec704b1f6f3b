"""Repairs, slowly: one bounded step of `reconcile` per queue and minute, on every node.

What an eviction or a failover broke is mended, and records of clients and nodes long gone are dropped. A find is logged.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence

from duly.stores.base import Shard

STEP = 200
"""Entries looked at in one step."""
PAUSE = 60.0
"""Seconds between two steps, up to half as much more, so that nodes do not go in step."""


class Caretaker:
    """The service of a node: walks through its queues, a step at a time."""

    def __init__(self, shards: Sequence[Shard], logger: logging.Logger) -> None:
        self._cursors = dict.fromkeys(shards, "")
        self._logger = logger
        self._began = False

    async def tick(self) -> float:
        """One step per queue; returns the seconds until the next."""
        if not self._began:  # a node that has just started has better things to do
            self._began = True
            return PAUSE * random.random()
        for shard, cursor in self._cursors.items():
            self._cursors[shard], found = await shard.reconcile(cursor, STEP)
            for kind in ("orphans", "ghosts", "silent"):
                if found.get(kind):
                    self._logger.warning("queue %s: repaired %d %s", shard.queue, found[kind], kind)
        return PAUSE * (1 + random.random() / 2)
