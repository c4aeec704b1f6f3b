"""What stands behind the address of a cluster under chaos: a file, one server, or several; and what can be done to it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.chaos import clocks
from tests.chaos.plan import FAILOVER, JUMPS, REDIS, SEVERAL, SQLITE, Step
from tests.servers import Server
from tests.topologies import Cluster, Independent, Replicated

AOF = ("--appendonly", "yes", "--appendfsync", "always")
KINDS = ("redis", "valkey", "sqlite", "sentinel", "cluster", "servers")
"""What `opened` knows, beside "clock"."""


class Behind:
    """kinds: troubles that it can have, with their weights. settings: of every scheduler that uses it, beside the URL.

    door: the port before which connections can be cut off, if there is one for all of it.
    """

    kinds: Mapping[str, int]
    settings: Mapping[str, Any] = MappingProxyType({})
    door = 0

    @property
    def url(self) -> str:
        raise NotImplementedError

    def start(self) -> None:
        """All of it serves."""

    def stop(self) -> None:
        """Nothing of it is left; repeatable."""

    async def do(self, step: Step) -> None:
        """Make the trouble, bear it, undo it."""
        raise NotImplementedError(step.kind)


class File(Behind):
    """An embedded store."""

    kinds = SQLITE

    def __init__(self, folder: Path) -> None:
        self.path = folder / "duly.db"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    async def do(self, step: Step) -> None:
        """Another program has the file's write lock."""

        def hold() -> None:
            with contextlib.closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as db:
                db.execute("BEGIN IMMEDIATE")
                time.sleep(step.seconds)
                db.execute("ROLLBACK")

        await asyncio.to_thread(hold)


class One(Behind):
    """One server that writes everything to disk before it answers."""

    kinds = REDIS

    def __init__(self, kind: str, folder: Path, **options: Any) -> None:
        self.server = Server(kind, folder / kind, *AOF, **options)

    @property
    def url(self) -> str:
        return self.server.url

    def start(self) -> None:
        self.server.start()
        self.door = self.server.port

    def stop(self) -> None:
        self.server.kill()

    async def do(self, step: Step) -> None:
        await _away(self.server, step.seconds)


class Steered(One):
    """One server whose clock can be set. libfaketime and the allocator of Redis wait for each other: hence Valkey."""

    kinds = JUMPS

    def __init__(self, folder: Path) -> None:
        self.clock, self.shift = folder / "clock", 0.0
        clocks.steer(self.clock, self.shift)
        super().__init__("valkey", folder, env=clocks.steered(self.clock))

    async def do(self, step: Step) -> None:
        self.shift += step.amount
        clocks.steer(self.clock, self.shift)


class Together(Behind):
    """Several servers."""

    def __init__(self, topology: Independent | Replicated | Cluster) -> None:
        self.topology = topology

    @property
    def url(self) -> str:
        return self.topology.url

    def start(self) -> None:
        self.topology.start()

    def stop(self) -> None:
        self.topology.stop()


class Several(Together):
    """Independent servers; one of them goes and comes back. The first is the master."""

    kinds = SEVERAL
    topology: Independent

    async def do(self, step: Step) -> None:
        await _away(random.choice(self.topology.servers), step.seconds)


class Replicas(Together):
    """Servers with replicas: a primary dies, a replica takes its place, and the dead one follows it after a while."""

    kinds = FAILOVER
    settings = MappingProxyType({"durability": "replicated"})
    topology: Replicated | Cluster

    async def do(self, step: Step) -> None:
        await asyncio.to_thread(self.topology.fail_over)
        await asyncio.sleep(step.seconds)
        await asyncio.to_thread(self.topology.heal)


def opened(kind: str, folder: Path) -> Behind:
    """What a kind stands for; it is not started."""
    if kind == "sqlite":
        return File(folder)
    if kind == "clock":
        return Steered(folder)
    if kind == "sentinel":
        return Replicas(Replicated("redis", folder / "sentinel"))
    if kind == "cluster":
        return Replicas(Cluster("valkey", folder / "cluster"))
    if kind == "servers":
        return Several(Independent("redis", folder, *AOF))
    return One(kind, folder)


async def _away(server: Server, seconds: float) -> None:
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.start)
