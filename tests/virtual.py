"""Clusters in virtual time: the product's own nodes as processes in one loop, over one store; a test tells them what to bear.

def course(cluster): async, given to `played`; when it is over, all processes are buried.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from duly.core.lifecycle import Change
from duly.errors import StoreError, StoreUncertain
from duly.identity import names_from
from duly.stores.base import Store
from duly.testing.faults import Call, WrappedStore
from duly.testing.loop import Process, VirtualLoop, virtual_loop
from duly.testing.simulation.network import NodeClock, RemoteStore, Server, StoreClock
from duly.testing.simulation.stores import empty_store
from duly.testing.simulation.world import SimulatedScheduler

PATIENCE = 0.3
"""Seconds after which a call that gets no answer is given up."""
Declare = Callable[[SimulatedScheduler], None]
Course = Callable[["Cluster"], Awaitable[None]]
Mishap = Callable[["Seat", str], str | None]
"""(who calls, verb): "before" or "after" to die so at this call, "lost" to have its answer lost, None for nothing."""


class Seen(NamedTuple):
    """One call as the store served it."""

    process: str
    verb: str
    args: tuple[Any, ...]
    answer: Any


class Mishaps(WrappedStore):
    """A process's way to the store, on which it may die or lose an answer."""

    def __init__(self, store: Store, seat: Seat) -> None:
        super().__init__(store)
        self._seat = seat

    async def through(self, verb: str, queue: str, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        what = self._seat.mishap(self._seat, verb)
        if what == "before":
            await self._seat.dies()
        answer = await call(*args, **kwargs)
        if what == "after":
            await self._seat.dies()
        if what == "lost":
            raise StoreUncertain(f"the answer of {verb} was lost, on purpose")
        return answer

    def sibling(self, timeout: float | None = None) -> Store:
        return Mishaps(self.inner.sibling(timeout), self._seat)


class Seat:
    """A place in the cluster, and the process that sits there now: a node, or a client."""

    def __init__(self, cluster: Cluster, name: str, skew: float, mishap: Mishap | None) -> None:
        self.cluster, self.name, self.skew = cluster, name, skew
        self.mishap = mishap or (lambda seat, verb: None)
        self.process = Process(name)
        self.lives = 0

    async def dies(self) -> None:
        """Here and now, in the middle of what it does; never comes back."""
        self.kill()
        await asyncio.Event().wait()

    def kill(self) -> None:
        self.cluster.loop.kill(self.process)

    def scheduler(self, **settings: Any) -> SimulatedScheduler:
        """A scheduler in the process that sits here now."""
        cluster = self.cluster
        remote = RemoteStore(cluster.store.sibling(), cluster.server, self.process)
        clock = NodeClock(cluster.loop, self.skew)
        return SimulatedScheduler(Mishaps(remote, self), clock=clock, logger=cluster.logger, **settings)

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """A new process begins here, with this as its main task."""
        self.lives += 1
        self.process = Process(f"{self.name}.{self.lives}")
        self.cluster.processes.append(self.process)
        return self.cluster.loop.spawn(self.process, work)


class NodeSeat(Seat):
    """A node; `start` again after a death or a stop."""

    def __init__(self, cluster: Cluster, name: str, declare: Declare, skew: float, mishap: Mishap | None,
                 settings: dict[str, Any]) -> None:  # fmt: skip
        super().__init__(cluster, name, skew, mishap)
        self.declare, self.settings = declare, settings
        self.leaves = asyncio.Event()
        self.main: asyncio.Task[None] | None = None

    def start(self) -> NodeSeat:
        self.leaves = asyncio.Event()
        self.main = self.spawn(self._live(self.leaves))
        return self

    async def _live(self, leaves: asyncio.Event) -> None:
        scheduler = self.scheduler(**self.settings)
        self.declare(scheduler)
        await patiently(scheduler.start)
        await leaves.wait()
        await scheduler.stop()

    async def stop(self) -> None:
        """Gracefully, as by SIGTERM."""
        self.leaves.set()
        assert self.main is not None
        await self.main

    def pause(self) -> None:
        self.cluster.loop.pause(self.process)

    def resume(self) -> None:
        self.cluster.loop.resume(self.process)

    @property
    def is_alive(self) -> bool:
        return self.process.is_alive and self.main is not None and not self.main.done()


class Cluster:
    """A store, what it has served, and who calls it."""

    def __init__(self, loop: VirtualLoop, clock: StoreClock, store: Store, seed: int) -> None:
        self.loop, self.clock, self.store = loop, clock, store
        self.random = random.Random(seed)
        self.seen: list[Seen] = []
        self.server = Server(loop, self.random, PATIENCE, self._witness)
        self.processes: list[Process] = []
        self.logger = logging.Logger("virtual", logging.CRITICAL)  # noqa: LOG001 - of this cluster alone

    def _witness(self, process: str, verb: str, queue: str, args: Any, kwargs: Any, answer: Any) -> None:
        self.seen.append(Seen(process, verb, args, answer))

    def node(self, declare: Declare, name: str = "n", *, skew: float = 0.0, mishap: Mishap | None = None,
             **settings: Any) -> NodeSeat:  # fmt: skip
        """A node that starts now."""
        return NodeSeat(self, name, declare, skew, mishap, settings).start()

    async def client(
        self,
        declare: Declare = lambda scheduler: None,
        *,
        skew: float = 0.0,
        mishap: Mishap | None = None,
        **settings: Any,
    ) -> SimulatedScheduler:
        """A scheduler of the test's own, connected."""
        scheduler = Seat(self, "client", skew, mishap).scheduler(**settings)
        declare(scheduler)
        await scheduler.connect()
        return scheduler

    async def until_quiet(self, seconds: float = 300.0, queue: str = "default") -> None:
        """Until nothing is pending or leased; fails if that takes longer."""
        shard, until = self.store.shard(queue), self.loop.now + seconds
        while True:
            sizes = await shard.sizes()
            if not sizes.pending and not sizes.leased:
                return
            assert self.loop.now < until, f"not quiet after {seconds:g} s: {sizes}"
            await asyncio.sleep(0.1)

    def applied(self) -> list[tuple[str, Change]]:
        """(id, change) of each settlement that was written, in order."""
        return [
            (settlement.id, settlement.change)
            for call in self.seen
            if call.verb == "settle" and isinstance(call.answer, list)
            for settlement, answer in zip(call.args[2], call.answer, strict=True)
            if answer == "applied"
        ]

    def ends(self) -> Counter[str]:
        """How often the end or death of each job was written."""
        return Counter(id for id, change in self.applied() if change.verb != "again")

    async def fired(self, id: str) -> list[int]:
        """The moments of a schedule that the tick log says were fired, in ms, in its order."""
        page = await self.store.shard("default").history("ticks", "", 10_000)
        return [
            int(fields["nominal"]) for _, fields in page.items if (fields["schedule"], fields["state"]) == (id, "fired")
        ]

    async def bury(self) -> None:
        self.server.is_closed = True
        for process in self.processes:
            await self.loop.bury(process)


async def patiently(call: Callable[[], Awaitable[Any]]) -> Any:
    """Until the store answers."""
    while True:
        try:
            return await call()
        except StoreError:
            await asyncio.sleep(0.2)


def played(course: Course, seed: int = 0, kind: str = "memory", url: str = "") -> Cluster:
    """Play a course over an empty store of this kind; the same seed plays the same."""
    state = random.getstate()
    random.seed(seed)
    try:
        with names_from(random.Random(seed).randbytes), virtual_loop() as loop:
            clock = StoreClock(loop)
            with empty_store(kind, clock, url) as store:
                cluster = Cluster(loop, clock, store, seed)
                loop.run_until_complete(_play(cluster, course))
            assert loop.failures == [], loop.failures
            return cluster
    finally:
        random.setstate(state)


async def _play(cluster: Cluster, course: Course) -> None:
    await cluster.store.connect()
    try:
        await course(cluster)
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await cluster.bury()
