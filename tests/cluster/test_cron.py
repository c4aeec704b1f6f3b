"""Cron on exactly one of N machines, in virtual time: whoever dies, stands still, leaves or joins, each tick runs once."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from duly.cluster import Claim, Cron, Group, LocalDriver, NodePool, Tick
from duly.core.trigger import at, every
from duly.errors import DuplicateTask, InvalidOption, InvalidTrigger, StoreUnavailable, StoreUncertain, UnknownTask
from duly.identity import names_from
from duly.testing.loop import Process, VirtualLoop, virtual_loop
from duly.testing.simulation.network import NodeClock, StoreClock
from tests.waiting import eventually

TIMEOUT = 3.0
START = 1_750_000_000
SEEDS = int(os.environ.get("CRON_SEEDS", "5"))


class Faulty(LocalDriver):
    """A way to the others that may be cut, and on which answers may be lost."""

    is_cut = False
    is_silent = False  # only beats do not arrive
    lost: tuple[str, ...] = ()  # verbs whose answers are lost
    on_claim: Callable[[int], None] = staticmethod(lambda size: None)

    def _check(self, verb: str) -> None:
        if self.is_cut or (self.is_silent and verb == "beat"):
            raise StoreUnavailable(f"{verb} was not sent, on purpose")

    def _lose(self, verb: str) -> None:
        if verb in self.lost:
            raise StoreUncertain(f"the answer of {verb} was lost, on purpose")

    async def beat(self) -> bool:
        self._check("beat")
        return await super().beat()

    async def marks(self, names: Any) -> dict[str, int]:
        self._check("marks")
        return await super().marks(names)

    async def claim(self, ticks: Sequence[tuple[str, int]], member: str = "") -> list[Claim | None]:
        self.on_claim(len(ticks))
        await asyncio.sleep(0.001)
        self._check("claim")
        answer = await super().claim(ticks, member)
        self._lose("claim")
        await asyncio.sleep(0.001)
        return answer


class World:
    """Nodes as processes of one virtual loop, and what they ran."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop, self.clock = loop, StoreClock(loop)
        self.group = Group(self.clock)
        self.ran: Counter[tuple[str, int]] = Counter()
        self.by: dict[tuple[str, int], str] = {}
        self.late: list[float] = []
        self.processes: dict[str, Process] = {}  # those of the present
        self.all: list[Process] = []
        self.drivers: dict[str, Faulty] = {}
        self.crons: dict[str, Cron] = {}

    async def node(self, id: str, names: list[str], trigger: Any = "* * * * * *", skew: float = 0.0, **of: Any) -> None:
        """A node that starts now; returns when it runs."""
        process = self.processes[id] = Process(id)
        self.all.append(process)
        ready = asyncio.Event()

        async def live() -> None:
            logger = logging.Logger(id, logging.CRITICAL)  # noqa: LOG001 - of this node alone
            driver = self.drivers[id] = Faulty(self.group, timeout=TIMEOUT)
            clock = NodeClock(self.loop, skew)
            cron = self.crons[id] = Cron(NodePool(driver, logger=logger, clock=clock), **of)
            for name in names:
                await cron.add_job(name, trigger, self.running(id))
            await cron.start()
            ready.set()
            await asyncio.Event().wait()

        self.loop.spawn(process, live())
        await ready.wait()

    def running(self, id: str) -> Callable[[Tick], Coroutine[Any, Any, None]]:
        async def run(tick: Tick) -> None:
            found = (tick.name, round(tick.nominal))
            self.ran[found] += 1
            self.by[found] = id
            self.late.append(self.clock.epoch_us() / 1e6 - tick.nominal)

        return run

    def kill(self, id: str) -> None:
        self.loop.kill(self.processes[id])
        self.group.drivers.discard(self.drivers[id])

    def require_each_once(self, names: list[str], first: int, last: int) -> None:
        """Every second of [first, last] of each name, once."""
        wanted = {(name, second) for name in names for second in range(first, last + 1)}
        assert {tick: count for tick, count in self.ran.items() if count > 1} == {}
        assert wanted - self.ran.keys() == set()

    @property
    def second(self) -> int:
        return self.clock.epoch_us() // 1_000_000


def played(course: Callable[[World], Coroutine[Any, Any, None]], seed: int = 0) -> World:
    with names_from(random.Random(seed).randbytes), virtual_loop() as loop:
        world = World(loop)

        async def whole() -> None:
            try:
                await course(world)
            finally:
                for process in world.all:
                    await loop.bury(process)

        loop.run_until_complete(whole())
        assert loop.failures == []
    return world


NAMES = [f"job {n}" for n in range(20)]
NODES = ("a", "b", "c", "d", "e")


async def five(world: World, **of: Any) -> None:
    for id in NODES:
        await world.node(id, NAMES, **of)
    await asyncio.sleep(2)


async def puts_in_doubt(world: World, id: str) -> None:
    """A tick is due, claimed, and the answer lost; from the midst of a second to the next."""
    await asyncio.sleep(1.5 - world.clock.epoch_us() % 1_000_000 / 1e6)
    world.drivers[id].lost = ("claim",)
    await asyncio.sleep(0.6)
    assert any(job.doubt is not None for job in world.crons[id]._jobs.values())
    world.drivers[id].lost = ()


def test_each_tick_runs_on_the_one_node_that_owns_its_name() -> None:
    async def course(world: World) -> None:
        await five(world)
        first = world.second + 1
        await asyncio.sleep(10)
        world.require_each_once(NAMES, first, world.second - 1)
        owners = {name: {by for (of, at), by in world.by.items() if of == name and at >= first} for name in NAMES}
        assert all(len(found) == 1 for found in owners.values())
        assert len({id for found in owners.values() for id in found}) >= 4
        assert max(world.late) < 0.2

    played(course)


def test_a_killed_owners_ticks_run_elsewhere_within_the_time_out_and_once() -> None:
    async def course(world: World) -> None:
        await five(world)
        first = world.second + 1
        await asyncio.sleep(3.4)
        world.late.clear()
        world.kill("b")
        await asyncio.sleep(10)
        world.require_each_once(NAMES, first, world.second - 1)
        assert 1 < max(world.late) < 5

    played(course)


def test_a_node_that_leaves_hands_over_at_once() -> None:
    async def course(world: World) -> None:
        await five(world)
        first = world.second + 1
        await asyncio.sleep(2.4)
        world.late.clear()
        stopping = world.loop.spawn(world.processes["c"], world.crons["c"].stop())
        await asyncio.sleep(10)
        assert stopping.done()
        world.require_each_once(NAMES, first, world.second - 1)
        assert max(world.late) < 1.5

    played(course)


def test_a_node_that_joins_takes_its_share_over_and_no_tick_runs_twice() -> None:
    async def course(world: World) -> None:
        for id in NODES[:2]:
            await world.node(id, NAMES)
        await asyncio.sleep(2)
        first = world.second + 1
        for id in NODES[2:]:
            await asyncio.sleep(1.3)
            await world.node(id, NAMES)
        await asyncio.sleep(8)
        world.require_each_once(NAMES, first, world.second - 1)
        assert set(world.by.values()) == set(NODES)

    played(course)


@pytest.mark.parametrize("seconds", [1.0, 2.5, 6.0, 20.0])
def test_a_node_that_stands_still_runs_nothing_that_others_have_taken_over(seconds: float) -> None:
    async def course(world: World) -> None:
        await five(world)
        first = world.second + 1
        await asyncio.sleep(2.4)
        world.loop.pause(world.processes["a"])
        await asyncio.sleep(seconds)
        world.loop.resume(world.processes["a"])
        await asyncio.sleep(8)
        world.require_each_once(NAMES, first, world.second - 1)

    played(course)


@pytest.mark.parametrize("seconds", [1.0, 8.0])
def test_a_node_that_is_cut_off_loses_and_doubles_nothing(seconds: float) -> None:
    async def course(world: World) -> None:
        await five(world)
        first = world.second + 1
        await asyncio.sleep(2.4)
        world.drivers["a"].is_cut = True
        await asyncio.sleep(seconds)
        world.drivers["a"].is_cut = False
        await asyncio.sleep(8)
        world.require_each_once(NAMES, first, world.second - 1)

    played(course)


def test_claims_whose_answers_are_lost_are_asked_for_again_and_run_once() -> None:
    async def course(world: World) -> None:
        await five(world)
        first = world.second + 1
        for _ in range(4):
            for driver in world.drivers.values():
                driver.lost = ("claim",)
            await asyncio.sleep(1.3)
            for driver in world.drivers.values():
                driver.lost = ()
            await asyncio.sleep(2)
        await asyncio.sleep(8)
        world.require_each_once(NAMES, first, world.second - 1)

    played(course)


def test_a_node_that_leaves_in_doubt_of_a_claim_asks_once_more() -> None:
    async def course(world: World) -> None:
        await five(world)
        first = world.second + 1
        await puts_in_doubt(world, "a")
        await world.loop.spawn(world.processes["a"], world.crons["a"].stop())
        await asyncio.sleep(8)
        world.require_each_once(NAMES, first, world.second - 1)

    played(course)


@pytest.mark.parametrize("seconds", [1.0, 8.0])
@pytest.mark.parametrize("leaves", [False, True])
def test_a_node_that_is_cut_off_in_doubt_of_a_claim_asks_as_soon_as_it_can(seconds: float, leaves: bool) -> None:
    async def course(world: World) -> None:
        await five(world)
        first = world.second + 1
        await puts_in_doubt(world, "a")
        world.drivers["a"].is_cut = True
        stopping = world.loop.spawn(world.processes["a"], world.crons["a"].stop()) if leaves else None
        await asyncio.sleep(seconds)
        world.drivers["a"].is_cut = False
        await asyncio.sleep(8)
        assert stopping is None or stopping.done()
        world.require_each_once(NAMES, first, world.second - 1)

    played(course)


def test_a_node_in_doubt_that_cannot_ask_leaves_when_its_grace_is_over() -> None:
    async def course(world: World) -> None:
        await five(world)
        await puts_in_doubt(world, "a")
        doubted = {(job.name, job.doubt) for job in world.crons["a"]._jobs.values() if job.doubt is not None}
        world.drivers["a"].is_cut = True
        begun = world.loop.now
        await world.loop.spawn(world.processes["a"], world.crons["a"].stop(grace=5))
        assert 4 < world.loop.now - begun < 5.1
        world.drivers["a"].is_cut = False
        await world.loop.spawn(world.processes["a"], world.crons["a"].start())  # as another member
        await asyncio.sleep(8)
        assert not any((name, moment // 1000) in world.ran for name, moment in doubted)
        assert all(job.doubt is None for job in world.crons["a"]._jobs.values())

    played(course)


def test_what_was_granted_in_doubt_runs_though_its_node_is_out_of_the_pool() -> None:
    async def course(world: World) -> None:
        await five(world)
        first = world.second + 1
        driver, cron = world.drivers["a"], world.crons["a"]
        driver.is_silent = True
        driver.lost = ("claim",)
        await asyncio.sleep(TIMEOUT + 0.5)
        doubted = {(job.name, job.doubt) for job in cron._jobs.values() if job.doubt is not None}
        assert doubted
        driver.lost = ()
        await asyncio.sleep(2)
        assert not cron.pool.members
        assert all(world.ran[name, moment // 1000] == 1 for name, moment in doubted if moment)
        driver.is_silent = False
        await asyncio.sleep(8)
        world.require_each_once(NAMES, first, world.second - 1)

    played(course)


def test_fifty_ticks_are_claimed_together_and_begin_before_the_next_are_claimed() -> None:
    async def course(world: World) -> None:
        await world.node("a", [f"job {n}" for n in range(130)])
        asked: list[tuple[int, int]] = []  # how many ticks were asked for, and how many had begun
        await asyncio.sleep(1.5 - world.clock.epoch_us() % 1_000_000 / 1e6)
        world.ran.clear()
        world.drivers["a"].on_claim = lambda size: asked.append((size, world.ran.total()))
        await asyncio.sleep(1)
        assert asked == [(50, 0), (50, 50), (30, 100)]

    played(course)


def test_what_nobody_could_claim_runs_late_unless_it_is_too_old() -> None:
    async def course(world: World) -> None:
        await five(world, catch_up=5)
        first = world.second + 1
        for driver in world.drivers.values():
            driver.is_cut = True
        await asyncio.sleep(12)
        for driver in world.drivers.values():
            driver.is_cut = False
        back = world.second
        await asyncio.sleep(10)
        world.require_each_once(NAMES, back - 2, world.second - 1)
        assert not any(first + 1 <= second < back - 6 for _, second in world.ran)

    played(course)


def test_clocks_that_are_off_do_not_matter() -> None:
    async def course(world: World) -> None:
        for n, id in enumerate(NODES):
            await world.node(id, NAMES, skew=(n - 2) * 200.0)
        await asyncio.sleep(2)
        first = world.second + 1
        await asyncio.sleep(5)
        world.kill("b")
        await asyncio.sleep(10)
        world.require_each_once(NAMES, first, world.second - 1)

    played(course)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nodes_killed_stopped_cut_off_and_restarted_at_random_run_each_tick_once(seed: int) -> None:
    chance = random.Random(seed)

    async def course(world: World) -> None:
        await five(world)
        first = world.second + 1
        for _ in range(12):
            id = chance.choice(NODES)
            await asyncio.sleep(chance.uniform(0.5, 3))
            what = chance.choice(["kill", "stand", "cut", "leave", "lose"])
            if what == "kill":
                await asyncio.sleep(1 - world.clock.epoch_us() % 1_000_000 / 1e6 + 0.5)  # not in the midst of a claim
                world.kill(id)
            elif what == "leave":
                world.drivers[id].is_cut = chance.random() < 0.3
                leaving = world.loop.spawn(world.processes[id], world.crons[id].stop())
                await asyncio.sleep(chance.uniform(0, 6))
                world.drivers[id].is_cut = False
                await leaving
            elif what == "lose":  # and then perhaps something more
                world.drivers[id].lost = ("claim",)
                await asyncio.sleep(chance.uniform(0.1, 2))
                world.drivers[id].lost = ()
                world.drivers[id].is_cut = chance.random() < 0.5
                if chance.random() < 0.5:
                    leaving = world.loop.spawn(world.processes[id], world.crons[id].stop())
                    await asyncio.sleep(chance.uniform(0, 6))
                    world.drivers[id].is_cut = False
                    await leaving
                    what = "leave"
                else:
                    await asyncio.sleep(chance.uniform(0, 6))
                    world.drivers[id].is_cut = False
                    await asyncio.sleep(1)
            elif what == "stand":
                world.loop.pause(world.processes[id])
                await asyncio.sleep(chance.uniform(0.5, 6))
                world.loop.resume(world.processes[id])
            else:
                world.drivers[id].is_cut = True
                await asyncio.sleep(chance.uniform(0.5, 6))
                world.drivers[id].is_cut = False
            if what in ("kill", "leave"):
                await asyncio.sleep(chance.uniform(0, 4))
                await world.node(id, NAMES)
        await asyncio.sleep(10)
        world.require_each_once(NAMES, first, world.second - 1)

    played(course, seed)


# --- what users say ----------------------------------------------------------------------------------------------------


async def test_functions_may_be_async_or_not_and_may_ask_for_the_tick() -> None:
    ran: Counter[str] = Counter()
    ticks: list[Tick] = []
    done = asyncio.Event()

    def plain() -> None:
        ran["plain"] += 1

    async def later() -> None:
        ran["async"] += 1

    def told(tick: Tick) -> None:
        ticks.append(tick)

    async def fails() -> None:
        ran["fails"] += 1
        if ran["fails"] == 3:
            done.set()
        raise ValueError("on purpose")

    cron = Cron(NodePool(LocalDriver(), logger=logging.Logger("quiet", logging.CRITICAL)))  # noqa: LOG001
    for name, fn in (("plain", plain), ("later", later), ("told", told), ("fails", fails)):
        await cron.add_job(name, every(milliseconds=50), fn)
    async with cron:
        assert cron.jobs == ("plain", "later", "told", "fails")
        async with asyncio.timeout(10):
            await done.wait()
    assert min(ran.values()) >= 2
    assert {tick.name for tick in ticks} == {"told"}
    assert len({tick.nominal for tick in ticks}) == len(ticks)


async def test_jobs_come_and_go_while_it_runs() -> None:
    ran: Counter[str] = Counter()
    async with Cron(NodePool(LocalDriver())) as cron:
        for name in ("one", "two"):
            await cron.add_job(name, every(milliseconds=20), lambda name=name: ran.update([name]))
        with pytest.raises(DuplicateTask, match="there is a job 'one' already"):
            await cron.add_job("one", every(seconds=1), print)
        await eventually(lambda: min(ran["one"], ran["two"]) >= 2)
        await cron.remove_job("one")
        with pytest.raises(UnknownTask, match="there is no job 'one'"):
            await cron.remove_job("one")
        await cron.add_job("one", "0 0 1 1 *", print)
        assert cron.next("one") is not None
    before = ran.copy()
    async with cron:  # it may start again
        await eventually(lambda: ran["two"] > before["two"])


@pytest.mark.parametrize(
    ("trigger", "fn", "error", "why"),
    [
        ("61 * * * *", print, InvalidTrigger, "61"),
        (every(seconds=1, after_completion=True), print, InvalidOption, "counts from the end of its runs"),
        (every(seconds=1), "print", InvalidOption, "give a function"),
        (every(seconds=1), lambda a, b: None, InvalidOption, "needs 2 arguments"),
        (every(seconds=1), lambda *, a: None, InvalidOption, "is given its Tick, or nothing"),
    ],
)
async def test_what_cannot_be_a_job_is_refused(trigger: Any, fn: Any, error: type[Exception], why: str) -> None:
    cron = Cron(NodePool(LocalDriver()))
    with pytest.raises(error, match=why):
        await cron.add_job("job", trigger, fn)
    assert cron.jobs == ()


async def test_a_trigger_that_is_over_keeps_nothing_busy() -> None:
    ran: list[int] = []
    async with Cron(NodePool(LocalDriver())) as cron:
        await cron.add_job("past", at(START), lambda: ran.append(1))
        assert cron.next("past") is None
        await cron.add_job("soon", every(milliseconds=20), lambda: ran.append(2))
        await eventually(lambda: 2 in ran)
    assert 1 not in ran
