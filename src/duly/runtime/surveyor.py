"""Notices that the map of shards has changed: claims from the shards that have come, and moves what belongs elsewhere.

Every node looks; one at a time moves. So a change that its author did not finish is finished all the same.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from duly.config import Config
from duly.errors import ConfigurationError
from duly.stores.moving import move_all
from duly.stores.shards import Shards

if TYPE_CHECKING:
    from duly.runtime.node import Node

PAUSE = 15.0
"""Seconds between two looks, half as much more or less."""
LOCK = "duly:shards"
LOCK_MS = 60_000
"""What a pass takes at most, or another node begins one as well: that is harmless."""


class Surveyor:
    """The service of a node."""

    def __init__(self, node: Node, shards: Shards, config: Config) -> None:
        self._node, self._shards, self._config = node, shards, config
        self._began = self._has_said = False

    async def tick(self) -> float:
        """One look; returns the seconds until the next."""
        if not self._began:  # the map was read at the start
            self._began = True
            return PAUSE * random.random()
        try:
            if await self._shards.refresh():
                self._node.serve_new_shards()
        except ConfigurationError as error:  # this node goes on with what it has; it cannot push any more
            if not self._has_said:
                self._has_said = True
                self._config.logger.error("%s; restart this node with the new list", error)
            return PAUSE
        if self._shards.remembers:
            await self._move()
        return PAUSE * (0.5 + random.random())

    async def _move(self) -> None:
        store = self._shards.store
        if await store.lock(LOCK, self._node.id, LOCK_MS) is None:
            return
        try:
            await move_all(self._shards, int(self._config.remember * 1000))
        finally:
            await store.unlock(LOCK, self._node.id)
