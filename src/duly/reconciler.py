"""Keeps the schedules that an application's code declares as its current version declares them (DESIGN §7).

Puts them when this node's version is the one in force, and removes what no live version has declared for a minute. It
touches nothing of other applications, nothing that was put at run time, and a node whose code declares no schedule
removes none.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from duly.core import schedule as planning
from duly.core.manifest import Manifest, declared_by_any, in_force, make_manifest, place_of
from duly.identity import new_name
from duly.recurring import Declaration
from duly.runtime.node import NodeRecord

if TYPE_CHECKING:
    from duly.scheduler import Scheduler

PAUSE = 15.0
"""Seconds between two looks at who is alive, half as much more or less."""
GONE_AFTER = 60.0
"""Seconds without a live node that declares it, after which a schedule is removed."""
PUT_AGAIN_AFTER = 300.0
"""Seconds: another version may have come and gone between two looks; an equal put changes nothing."""
LOCK_SECONDS = 600
"""One node walks through the schedules after a deploy; another may when this has passed."""


class Reconciler:
    """The service of a node. `manifest` is what the node publishes."""

    def __init__(self, scheduler: Scheduler, declarations: Collection[Declaration]) -> None:
        self._scheduler, self._declarations = scheduler, declarations
        self.manifest: Manifest | None = None
        self._put_at: float | None = None
        self._declared: frozenset[str] = frozenset()
        self._since = 0.0
        self._is_done = False

    async def begin(self) -> Manifest:
        """The manifest of this start: which versions are alive is read from the store."""
        live, now = await self._live()
        rows = [(d.queue, d.id, planning.encode(d.definition)) for d in self._declarations]
        self.manifest = make_manifest(self._scheduler.config.app, rows, live, now)
        return self.manifest

    async def tick(self) -> float:
        """One look; returns the seconds until the next."""
        assert self.manifest is not None
        live, _ = await self._live()
        now = self._scheduler.clock.monotonic()
        if in_force(self.manifest, live) != self.manifest.digest:
            self._put_at = None
        elif self._put_at is None or now - self._put_at >= PUT_AGAIN_AFTER:
            scheduler = self._scheduler
            await scheduler.schedules.put_declared(self._declarations, scheduler.config.app, scheduler.config.logger)
            self._put_at = now
        declared = declared_by_any(self.manifest, live)
        if declared != self._declared:
            self._declared, self._since, self._is_done = declared, now, False
        if self.manifest.places and not self._is_done and now - self._since >= GONE_AFTER:
            await self._remove_what_is_gone(self.manifest.app)
        return PAUSE * (0.5 + random.random())

    async def _live(self) -> tuple[list[Manifest], int]:
        """(the manifests of live nodes, the store's now)."""
        registry = await self._scheduler.connected_store.registry()
        found = []
        for packed in registry.nodes.values():
            try:
                manifest = msgspec.msgpack.decode(packed, type=NodeRecord).manifest
            except msgspec.MsgspecError:
                continue  # of a newer duly
            if manifest is not None:
                found.append(manifest)
        return found, registry.now

    async def _remove_what_is_gone(self, app: str) -> None:
        store, logger = self._scheduler.connected_store, self._scheduler.config.logger
        name, owner = f"duly:reconcile:{app}", new_name()
        if await store.lock(name, owner, LOCK_SECONDS * 1000) is None:
            return  # another node is at it; a later look finds it done, or does it
        try:
            for queue in (await store.registry()).queues:
                async for record in self._scheduler.schedules.records(queue):
                    if record.app == app and place_of(queue, record.id) not in self._declared:
                        await self._scheduler.schedules.remove(record.id, queue=queue)
                        logger.warning(
                            "schedule %r of queue %r was removed: no live node of app %r declares it any more",
                            record.id, queue, app,
                        )  # fmt: skip
            self._is_done = True
        finally:
            await store.unlock(name, owner)
