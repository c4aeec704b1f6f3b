"""One simulated cluster: the product's own schedulers as processes, a store, clients, and a seeded plan of misfortunes.

For a while everything that can go wrong does; then all is healed, and what was accepted must come to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from msgspec.structs import replace

from duly.errors import StoreError
from duly.runtime.heartbeat import HeartbeatThread
from duly.runtime.node import Node, NodeRecord
from duly.scheduler import Scheduler
from duly.stores.base import Store
from duly.testing.faults import Faults, FaultyStore
from duly.testing.loop import Process, VirtualLoop
from duly.testing.simulation import workload
from duly.testing.simulation.network import NodeClock, RemoteStore, Server, StoreClock
from duly.testing.simulation.oracle import Oracle
from duly.testing.simulation.trouble import Trouble

CALM = 22.0
"""Seconds after the last misfortune, before schedules are judged and stopped."""
PATIENCE = 400.0
"""Seconds that what was accepted has to come to its end."""
RENEWING = frozenset({"renew", "claim", "settle", "start"})
"""A fault in one of these may cost a lease."""


class HeartbeatTask(HeartbeatThread):
    """The heartbeat on the node's own loop."""

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def join(self, seconds: float) -> None:
        """It takes leave by itself."""


class SimulatedNode(Node):
    """A node without threads, on no machine in particular."""

    keeper = HeartbeatTask

    def record(self) -> bytes:
        record = msgspec.msgpack.decode(super().record(), type=NodeRecord)
        return msgspec.msgpack.encode(replace(record, host="simulated", pid=0))


class SimulatedScheduler(Scheduler):
    """The product's scheduler, on a store that it is given."""

    node_class = SimulatedNode

    def __init__(self, store: Store, **settings: Any) -> None:
        self._given_store = store
        super().__init__("memory://", **settings)

    def _open_store(self, url: str, config: Any) -> Store:
        return self._given_store


class Member:
    """A node of the cluster: one process after another."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number, self.life = world, number, 0
        self.is_booting = False
        self.skew = world.random.choice((0, 0, -300, 300, 17))
        self.boot()

    def boot_later(self, seconds: float) -> None:
        """One process at a time, also if it dies just after it was told to stop."""
        if not self.is_booting:
            self.is_booting = True
            self.world.later(seconds, self.boot)

    def boot(self) -> None:
        """A new process of the same code."""
        self.is_booting = False
        self.life += 1
        self.process = Process(f"n{self.number}.{self.life}")
        self.leaves = asyncio.Event()
        self.world.spawn(self.process, self._live())

    async def _live(self) -> None:
        world = self.world
        scheduler = world.scheduler(self.process, self.skew, lease=world.lease, poll=min(2.0, world.lease / 6),
                                    concurrency=world.slots, grace=world.lease / 2, queues=workload.QUEUES)  # fmt: skip
        workload.declare(scheduler, world, self)
        await workload.patiently(scheduler.start)
        await self.leaves.wait()
        leaves_at = world.loop.now
        await scheduler.stop()
        if world.was_troubled(self.process, leaves_at):
            world.trouble.happened(self.process.name, "a stop while the store was away")
        self.boot_later(0.5 * world.random.random())


class World:
    """`run` plays it; `oracle.faults` says what was broken, `trace` what happened."""

    def __init__(self, seed: int, loop: VirtualLoop, clock: StoreClock, store: Store) -> None:
        self.random = r = random.Random(seed)
        self.loop, self.clock, self.store = loop, clock, store
        self.trace: list[tuple[float, str, str, Any, Any]] = []
        self.lease = r.choice((3.0, 6.0, 10.0))
        self.slots = r.choice((2, 4, 10))
        self.pace = r.choice((1.0, 2.0, 4.0))
        self.poisons_left = r.choice((0, 0, 1, 2))
        rate = r.choice((0.0, 0.01, 0.03, 0.06))
        self.faults = Faults(rate, rate, rate, rate, longest=self.lease / 4)
        self.catch_up = {id: r.choice(("all", "latest")) for id in workload.SCHEDULES}
        self.placement = {id: r.choice(("any", "ring")) for id in workload.SCHEDULES}
        self.trouble = Trouble(loop)
        self.at_most_once: set[str] = set()
        self.oracle = Oracle(lambda: self.clock.epoch_us() // 1000, self.trouble, self._runs_once)
        self.server = Server(loop, r, self.lease / 12, self._witness)
        self.processes: list[Process] = []
        self.accepts_work = self.is_chaotic = True
        self._wrapped: list[FaultyStore] = []
        self._seen: set[str] = set()
        self._last_upset = -1e9  # when the store was last away, or its clock jumped
        self.logger = logging.Logger("simulation", logging.WARNING)  # noqa: LOG001 - one for each seed, known to nobody else
        self.logger.addHandler(_Listener(self.oracle.fault))

    def _runs_once(self, id: str) -> bool:
        return id in self.at_most_once or id.startswith("stamp@")

    def _witness(self, process: str, verb: str, queue: str, args: Any, kwargs: Any, answer: Any) -> None:
        self.trace.append((self.loop.now, process, f"{verb} {queue}", (args, kwargs) if kwargs else args, answer))
        self.oracle.witness(process, verb, queue, args, kwargs, answer)

    def note(self, who: str, what: str) -> None:
        self.trace.append((self.loop.now, who, what, "", ""))

    def first_time(self, key: str) -> bool:
        is_first = key not in self._seen
        self._seen.add(key)
        return is_first

    def scheduler(self, process: Process, skew: float, **settings: Any) -> SimulatedScheduler:
        """A scheduler in a process, its store behind a bad network."""
        name = process.name

        def heard(verb: str, fault: str) -> None:
            if verb in RENEWING:
                self.trouble.happened(name, f"{fault} of {verb}", 1.5 * self.lease)

        remote = RemoteStore(self.store.sibling(), self.server, process)
        store = FaultyStore(remote, self.random, self.faults if self.is_chaotic else Faults(), heard)
        self._wrapped.append(store)
        return SimulatedScheduler(
            store, clock=NodeClock(self.loop, skew), logger=self.logger, push_timeout=self.lease, **settings
        )

    def spawn(self, process: Process, work: Coroutine[Any, Any, None]) -> None:
        """A process whose main task must not fail."""
        self.processes.append(process)
        self.loop.spawn(process, work).add_done_callback(self._has_ended, context=self.server.context)

    def _has_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.oracle.fault(f"a process failed: {task.exception()!r}")

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """In no process."""
        self.loop.call_later(seconds, call, context=self.server.context)

    # --- misfortunes -------------------------------------------------------------------------------------------------

    def die(self, member: Member, why: str) -> None:
        """The process is gone, in the middle of whatever it did; another one is started a little later."""
        self.note(member.process.name, f"dies: {why}")
        self.trouble.happened(member.process.name, why)
        self.loop.kill(member.process)
        member.boot_later(self.random.choice((0.1, 1.0, self.lease)))

    def _crash(self, member: Member) -> None:
        self.die(member, "crash")

    def _restart(self, member: Member) -> None:
        self.note(member.process.name, "is told to stop")
        member.leaves.set()

    def _pause(self, member: Member) -> None:
        process, seconds = member.process, self.lease * self.random.choice((0.3, 0.8, 1.5, 4.0))
        self.note(process.name, f"pauses for {seconds:.1f} s")
        self.trouble.happened(process.name, "pause", seconds + 1.5 * self.lease)
        self.loop.pause(process)
        self.later(seconds, lambda: self.loop.resume(process))

    def _partition(self, member: Member) -> None:
        process, seconds = member.process, self.lease * self.random.choice((0.3, 0.8, 1.5, 4.0))
        self.note(process.name, f"is cut off for {seconds:.1f} s")
        self.trouble.happened(process.name, "partition", seconds + 1.5 * self.lease)
        self.server.cut[process] = None
        self.later(seconds, lambda: self.server.cut.pop(process, None))

    def _outage(self, _member: Member) -> None:
        seconds = self.lease * self.random.choice((0.3, 1.2, 3.0))
        self._upset(f"the store is away for {seconds:.1f} s", seconds)
        self.server.is_away = True
        self.later(seconds, self._is_back)

    def _is_back(self) -> None:
        self.server.is_away = False
        self._last_upset = self.loop.now
        for process in self.processes:
            if self.trouble.of(process.name):
                self.trouble.happened(process.name, "trouble before the outage", 1.5 * self.lease)

    def _jump(self, _member: Member) -> None:
        seconds = self.random.choice((-5.0, -0.2 * self.lease, 0.2 * self.lease, 0.7 * self.lease, 20.0))
        self._upset(f"the store's clock jumps by {seconds:.1f} s", 0.0)
        self.clock.shift(seconds)

    def _upset(self, what: str, seconds: float) -> None:
        """The gap guard serves once per lease: upsets that follow each other closely may cost live runs their leases."""
        self.note("store", what)
        if self.loop.now - self._last_upset < 1.5 * self.lease:
            for process in self.processes:
                self.trouble.happened(process.name, "a store that flaps", seconds + 1.5 * self.lease)
        self._last_upset = self.loop.now

    def was_troubled(self, process: Process, since: float) -> bool:
        return bool(self.trouble.of(process.name)) or self.server.is_away or self._last_upset >= since - self.lease

    async def _misfortunes(self, members: list[Member], until: float) -> None:
        r = self.random
        kinds = [self._crash, self._restart, self._pause, self._partition, self._outage, self._outage, self._jump]
        while self.loop.now < until:
            await asyncio.sleep(r.expovariate(1 / 4))
            member = r.choice(members)
            if member.process.is_alive and not member.process.is_paused and not self.server.is_away:
                r.choice(kinds)(member)

    # --- the course of it --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Misfortunes, then calm, then the judgement; broken off when there are faults enough."""
        course = self.loop.create_task(self._course())
        self.oracle.enough = course.cancel
        await asyncio.wait([course])
        if not course.cancelled() and course.exception() is not None:
            self.oracle.fault(f"the simulation failed: {course.exception()!r}")
        await self._bury()

    async def _course(self) -> None:
        r = self.random
        await self.store.connect()
        members = [Member(self, number) for number in range(r.choice((2, 2, 3, 4)))]
        for number in range(r.randint(1, 2)):
            process = Process(f"c{number}")
            client = workload.Client(self.scheduler(process, r.choice((-300, 0, 300))), self, process)
            self.spawn(process, client.run())
        until = self.loop.now + r.choice((10.0, 20.0, 40.0))
        await self._misfortunes(members, until)
        self._heal()
        await asyncio.sleep(CALM)
        self.oracle.ticks.judge_the_end()
        for id in workload.SCHEDULES:
            await self.directly(self.store.shard("default").steer(id, paused="the end"))
        until = self.loop.now + PATIENCE
        while self.oracle.open() and self.loop.now < until:  # noqa: ASYNC110 - it looks on from outside
            await asyncio.sleep(1)
        self.oracle.judge_the_end()
        await self._compare_accounts()

    def _heal(self) -> None:
        self.note("world", "is healed")
        self.accepts_work = self.is_chaotic = False
        self.server.cut.clear()
        if self.server.is_away:
            self._is_back()
        for process in self.processes:
            if process.is_alive and process.is_paused:
                self.loop.resume(process)
        for store in self._wrapped:
            store.faults = Faults()

    async def directly(self, work: Coroutine[Any, Any, Any]) -> Any:
        """A verb without the network."""
        return await work

    async def _compare_accounts(self) -> None:
        """The store's own account must be the oracle's."""
        for queue in workload.QUEUES:
            shard = self.store.shard(queue)
            dead = [record.id for record in (await shard.list("dead", "", 1000)).items]
            for id in dead:
                if not (self.oracle.account(id).ended or "").startswith("dead"):
                    self.oracle.fault(f"{id} lies among the dead of the store, and {self.oracle.account(id).ended}")
            sizes = await shard.sizes()
            if (sizes.pending or sizes.leased) and not self.oracle.open():
                self.oracle.fault(f"queue {queue}: {sizes.pending} pending and {sizes.leased} leased that nobody knows")
            _, found = await shard.reconcile("", 1000)
            if found.get("orphans") or found.get("ghosts") or found.get("silent"):
                self.oracle.fault(f"queue {queue}: the reconciler found {found}")

    async def _bury(self) -> None:
        self.server.is_closed = True
        faults = list(self.oracle.faults)
        for process in self.processes:
            await self.loop.bury(process)
        for store in self._wrapped:
            with contextlib.suppress(StoreError):
                await store.close()
        self.oracle.faults = faults  # what a process says while it is buried is not heard


class _Listener(logging.Handler):
    """An exception in the log is a fault of the product's own."""

    def __init__(self, fault: Callable[[str], None]) -> None:
        super().__init__()
        self._fault = fault

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self._fault(f"logged: {record.getMessage()}: {record.exc_info[1]!r}")
