"""A node: worker, heartbeat and ticker, wired in one place, started and stopped together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from duly.clock import Clock
from duly.config import Config
from duly.core.manifest import Manifest
from duly.errors import StoreError
from duly.identity import new_name
from duly.runtime.caretaker import Caretaker
from duly.runtime.emitter import Emitter
from duly.runtime.handler import Handlers
from duly.runtime.heartbeat import BEAT_TTL_MS, RENEWALS_IN_A_LEASE, Heartbeat, HeartbeatThread
from duly.runtime.line import Line
from duly.runtime.locate import require_guarded
from duly.runtime.loop import Loop
from duly.runtime.middleware import Middleware
from duly.runtime.neighbours import Neighbours
from duly.runtime.placement import Placement
from duly.runtime.run import Run
from duly.runtime.ticker import Ticker
from duly.runtime.tzdata import tzdata_version
from duly.runtime.worker import Worker
from duly.stores.base import Renewed
from duly.stores.shards import Shards

MOST_NAMES = 2_000
"""Characters of the names of tasks that a node publishes: what all of them publish is read by all of them, in one step."""
STOP_RINGS = 2.0
"""Seconds that a stop waits for what is being fired; a lease of which is not known then runs out by itself."""


class NodeRecord(msgspec.Struct, frozen=True):
    """What a node publishes of itself. ttl: how long a beat of it counts, in ms."""

    id: str
    host: str
    pid: int
    version: str
    app: str
    queues: tuple[str, ...]
    tags: tuple[str, ...]
    concurrency: int
    running: int
    python: str = ""
    tzdata: str = ""
    manifest: Manifest | None = None
    ttl: int = BEAT_TTL_MS
    placing: tuple[str, ...] = ()
    """Queues in which it has seen schedules that are placed by the ring."""
    tasks: tuple[str, ...] | None = None
    """Names of the tasks that it can run, `*` among them if it takes any; None if it does not say, or has over MOST_TASKS."""


class Node:
    """One running scheduler; its name is fresh at each start."""

    keeper = HeartbeatThread
    """What runs the heartbeat; a simulation has no threads."""

    def __init__(self, shards: Shards, config: Config, handlers: Handlers, clock: Clock, emitter: Emitter,
                 middleware: Sequence[Middleware] = (), version: str = "") -> None:  # fmt: skip
        require_guarded()
        self.id = new_name()
        self.config, self.emitter, self.version = config, emitter, version
        self.worker = Worker(self.id, shards, config, handlers, clock, emitter, middleware)
        self.tickers: dict[Line, Ticker] = {}
        self.placements: dict[Line, Placement] = {}
        # A renewal over a connection that fell silent is given up in time for another one, before the lease ends.
        patience = self.worker.shortest_lease / 1000 / RENEWALS_IN_A_LEASE
        self.heartbeat = Heartbeat(
            self.id, shards.store.sibling(patience), config, clock, self.worker.lines, self.record, self._deliver
        )
        self._caretaker, self.neighbours = Caretaker(config.logger), Neighbours(shards.store)
        self.heartbeat.is_watched = lambda: self.neighbours.is_placing
        self.neighbours.begins = self._is_placing
        self._loops = [
            Loop("caretaker", self._caretaker.tick, config.logger, cap=60),
            Loop("neighbours", self.neighbours.tick, config.logger, cap=60),
        ]
        self._meter = self.worker.meter
        if self._meter is not None:
            self._loops.append(Loop("meter", self._meter.tick, config.logger, cap=60))
        self._rings: list[Loop] = []
        self._services: dict[Loop, asyncio.Task[None]] = {}
        self._thread = self.keeper(self.heartbeat)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.manifest: Manifest | None = None
        self.worker.looks_due = lambda line, ahead: self.tickers[line].looks_due(ahead)
        self.worker.nudge = self._thread.nudge
        self.worker.server_moved = self._repair
        for line in self.worker.lines:
            self._attend(line)

    def _repair(self, line: Line) -> None:
        """Look at all of a shard now."""
        self._caretaker.hurry(line)
        self._loops[0].wake()

    def _attend(self, line: Line) -> list[Loop]:
        """The services of one line."""
        ticker = self.tickers[line] = Ticker(self.id, line, self.emitter, self.worker.clock)
        loop = Loop(f"ticker of {line.place.shown}", ticker.tick, self.config.logger, self.config.longest_pause)
        ticker.wake = loop.wake
        placement = self.placements[line] = Placement(self.id, line, self.neighbours, ticker, self.worker.clock)
        ticker.saw_placed = lambda: self.neighbours.saw(line.queue, line.place.name, True)
        self._caretaker.add(line)
        ring = Loop(f"ring of {line.place.shown}", placement.tick, self.config.logger, self.config.longest_pause)
        self._rings.append(ring)
        self._loops += [loop, ring]
        return [loop, ring]

    def _is_placing(self) -> None:
        """The first schedules of the ring were met: others are to know of them, and this node of the others."""
        self._thread.nudge()
        self._loops[1].wake()

    def serve_new_shards(self) -> None:
        """The map has changed: claim from the shards that have come."""
        added = self.worker.add_lines()
        loops = [loop for line in added for loop in self._attend(line)]
        assert self._loop is not None
        self._services |= {loop: self._loop.create_task(loop.run()) for loop in loops}
        self.worker.run_lines(added)

    def serve(self, name: str, tick: Callable[[], Awaitable[float | None]]) -> None:
        """One more service beside the node's own, from `start` to `stop`."""
        self._loops.append(Loop(name, tick, self.config.logger, cap=60))

    def record(self) -> bytes:
        """The node's own description, packed."""
        return msgspec.msgpack.encode(
            NodeRecord(
                self.id, socket.gethostname(), os.getpid(), self.version, self.config.app, self.config.queues,
                self.config.tags, self.config.concurrency, self.worker.busy, platform.python_version(), tzdata_version(),
                self.manifest, self.heartbeat.ttl, tuple(self.neighbours.placing), self._tasks(),
            )
        )  # fmt: skip

    def _tasks(self) -> tuple[str, ...] | None:
        names = self.worker.handlers.names()
        return tuple(names) if sum(map(len, names)) <= MOST_NAMES else None

    def start(self, state: Any) -> None:
        """Begin to claim. The loop of the caller runs the handlers."""
        self._loop = asyncio.get_running_loop()
        self.worker.state = state
        self._thread.start()
        self._services = {service: self._loop.create_task(service.run()) for service in self._loops}
        self.worker.start()
        self.config.logger.info(
            "node %s serves %s with %d slots", self.id[:8], ", ".join(self.config.queues), self.config.concurrency
        )

    def _deliver(self, news: list[tuple[Run, Renewed]]) -> None:
        """Called in the heartbeat's thread."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is on its way out
            self._loop.call_soon_threadsafe(self.worker.renewed, news)

    async def _leave_rings(self) -> None:
        """Fire no more by the ring, and know what was leased so: its lines can still settle that."""
        for ring in self._rings:
            ring.stop()
        if self._services:
            await asyncio.wait([self._services[ring] for ring in self._rings], timeout=STOP_RINGS)
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(STOP_RINGS):
                for placement in self.placements.values():
                    await placement.resolve()

    async def stop(self, grace: float | None = None, *, leaving: bool = False) -> None:
        """Stop gracefully: see Worker.stop. Leases are kept to the last."""
        self.worker.stop_claiming()
        await self._leave_rings()
        await self.worker.stop(self.config.grace if grace is None else grace, leaving=leaving)
        for service in self._loops:
            service.stop()
        await asyncio.gather(*self._services.values())
        if self._meter is not None:
            await self._meter.flush()
        self._thread.stop()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join, self.config.lease)
        self.config.logger.info("node %s has stopped", self.id[:8])
