"""`placement="ring"`: the ticks of a schedule run on the node that owns its id; whoever dies or is mistaken, each runs once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from duly import Context, Scheduler, cron, every
from duly.core.job import Claimed
from duly.core.ring import Ring
from duly.core.schedule import Definition, encode, is_placed
from duly.errors import InvalidOption, StoreUncertain, UnfitJob
from duly.runtime.neighbours import ring_of
from duly.runtime.node import NodeRecord
from duly.stores.base import Batch, Fired, Firing
from duly.testing import Harness
from duly.testing.harness import HarnessNode
from tests.schedulers import running
from tests.waiting import eventually

NAMES = [f"poll:{n}" for n in range(12)]
EACH = every(seconds=10)


def polling(**config: Any) -> tuple[Scheduler, list[tuple[str, str]]]:
    """A scheduler, and which node ran which schedule's ticks."""
    scheduler, ran = Scheduler("memory://", lease=30, **config), list[tuple[str, str]]()

    @scheduler.task
    async def poll(ctx: Context, name: str) -> None:
        job = await scheduler.jobs.get(ctx.job.id)
        assert job is not None
        ran.append((name, job.node))

    return scheduler, ran


async def put_all(scheduler: Scheduler, names: Sequence[str] = NAMES, **options: Any) -> None:
    for name in names:
        await scheduler.schedules.put(name, EACH, "poll", args=[name], placement="ring", **options)


def owners(nodes: Sequence[HarnessNode], names: Sequence[str] = NAMES) -> dict[str, str]:
    ring = Ring(node.id for node in nodes)
    return {name: ring.owner(name) for name in names}


async def test_every_tick_runs_once_on_the_owner_of_its_schedule() -> None:
    scheduler, ran = polling()
    async with Harness(scheduler) as harness:
        nodes = [harness.nodes[0], harness.node(), harness.node()]
        await put_all(scheduler)
        await harness.advance(30)  # by then all know of all
        ran.clear()
        await harness.advance(100)
        wanted = owners(nodes)
        assert Counter(ran) == {(name, wanted[name]): 10 for name in NAMES}
        assert len(set(wanted.values())) == 3
        late = [(await scheduler.schedules.get(name)).late for name in NAMES]  # type: ignore[union-attr]
        await harness.advance(50)
        assert [(await scheduler.schedules.get(name)).late for name in NAMES] == late  # type: ignore[union-attr]


async def test_when_an_owner_dies_others_fire_a_second_late_until_its_names_are_theirs() -> None:
    scheduler, ran = polling()
    async with Harness(scheduler) as harness:
        nodes = [harness.nodes[0], harness.node(), harness.node()]
        await put_all(scheduler)
        await harness.advance(35)
        before = owners(nodes)
        dead = max(nodes, key=lambda node: list(before.values()).count(node.id))
        dead.crash()
        ran.clear()
        await harness.advance(50)
        assert {name: count for (name, _), count in Counter((name, "") for name, _ in ran).items()} == dict.fromkeys(
            NAMES, 5
        )
        assert dead.id not in {node for _, node in ran}
        left = owners([node for node in nodes if node is not dead])
        assert all(before[name] in (left[name], dead.id) for name in NAMES)
        assert set(ran[-len(NAMES) :]) == {(name, left[name]) for name in NAMES}


async def test_a_node_that_joins_takes_its_part() -> None:
    scheduler, ran = polling()
    async with Harness(scheduler) as harness:
        await put_all(scheduler)
        await harness.advance(25)
        harness.node()
        await harness.advance(20)
        ran.clear()
        await harness.advance(10)
        assert set(ran) == set(owners(harness.nodes).items())
        assert len(set(owners(harness.nodes).values())) == 2


class Losing:
    """A shard of which answers to `fire` are lost, or whose calls come late."""

    def __init__(self, shard: Any, lost: Callable[[], None]) -> None:
        self._shard, self._lost = shard, lost
        self.losses = self.delays = 0
        self.late: list[tuple[str, Sequence[Firing]]] = []

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._shard, verb)

    async def fire(self, node: str, firings: Sequence[Firing]) -> list[Fired]:
        if self.delays and any(firing.lease for firing in firings):
            self.delays -= 1
            self.late.append((node, firings))
            raise StoreUncertain("it is still on its way")
        answers: list[Fired] = await self._shard.fire(node, firings)
        if self.losses and any(firing.lease for firing in firings):
            self.losses -= 1
            self._lost()
            raise StoreUncertain("the answer was lost")
        return answers

    async def arrive(self) -> list[Fired]:
        """The calls that were held up come through."""
        return [answer for node, firings in self.late for answer in await self._shard.fire(node, firings)]


def losing(node: HarnessNode, lost: Callable[[], None] = lambda: None) -> Losing:
    (line,) = node._node.worker.lines
    line.shard = shard = Losing(line.shard, lost)  # type: ignore[assignment]
    return shard


async def test_jobs_whose_lease_was_granted_unheard_are_run_by_their_node() -> None:
    scheduler, ran = polling()
    async with Harness(scheduler) as harness:
        await put_all(scheduler)
        await harness.advance(15)
        losing(harness.nodes[0]).losses = 2
        ran.clear()
        await harness.advance(20)
        assert Counter(name for name, _ in ran) == dict.fromkeys(NAMES, 2)
        assert (await scheduler.queues.sizes()).leased == 0


async def test_a_call_that_comes_late_leases_nothing_any_more() -> None:
    scheduler, ran = polling()
    async with Harness(scheduler) as harness:
        await put_all(scheduler)
        await harness.advance(15)
        shard = losing(harness.nodes[0])
        shard.delays = 1
        ran.clear()
        await harness.advance(9)
        assert Counter(name for name, _ in ran) == dict.fromkeys(NAMES, 1)
        assert set(await shard.arrive()) == {"stale"}
        assert (await scheduler.queues.sizes()).leased == 0
        await harness.advance(10)
        assert Counter(name for name, _ in ran) == dict.fromkeys(NAMES, 2)


async def test_what_an_owner_has_no_slot_for_waits_for_any_node() -> None:
    scheduler, ran = polling(concurrency=2)
    async with Harness(scheduler) as harness:
        await put_all(scheduler)
        await harness.advance(40)
        assert Counter(name for name, _ in ran) == dict.fromkeys(NAMES, 4)
        assert harness.nodes[0]._node.worker.slots.free == 2


@pytest.mark.parametrize("how", ["pause the queue", "pause the schedule", "remove the schedule", "another trigger"])
async def test_an_owner_heeds_what_becomes_of_a_schedule(how: str) -> None:
    scheduler, ran = polling()
    async with Harness(scheduler) as harness:
        await put_all(scheduler, ["s"])
        await harness.advance(15)
        ran.clear()
        if how == "pause the queue":
            await scheduler.queues.pause()
        elif how == "pause the schedule":
            await scheduler.schedules.pause("s")
        elif how == "remove the schedule":
            await scheduler.schedules.remove("s")
        else:
            await scheduler.schedules.put("s", every(seconds=7), "poll", args=["s"], placement="ring")
        await harness.advance(28)
        assert len(ran) == (4 if how == "another trigger" else 0)
        if how == "pause the queue":
            await scheduler.queues.resume()
            await harness.advance(1)
            assert len(ran) == 3


async def test_a_run_holds_the_next_one_back_also_on_the_ring() -> None:
    scheduler, begun, go = Scheduler("memory://", lease=60), list[str](), asyncio.Event()

    @scheduler.task
    async def slow(ctx: Context) -> None:
        begun.append(ctx.job.id)
        await go.wait()

    async with Harness(scheduler) as harness:
        harness.node()
        await scheduler.schedules.put("s", EACH, slow, placement="ring", overlap="buffer")
        await harness.advance(45, drain=False)
        assert len(begun) == 1
        go.set()
        await harness.advance(30)
        assert len(begun) == len(set(begun)) >= 3


async def test_a_worker_that_is_told_twice_of_a_lease_runs_it_once() -> None:
    scheduler, ran = polling()
    async with Harness(scheduler) as harness:
        job = await scheduler.push("poll", "once")
        worker = harness.nodes[0]._node.worker
        (line,) = worker.lines
        batch = await line.shard.claim(worker.node, 1_000, 1, 30_000, 30_000)
        worker.slots.take(2)
        again = Batch(batch.fence, batch.now, [Claimed(one.id, one.body, one.enqueued_at) for one in batch.jobs])
        worker.admit(line, batch)
        worker.admit(line, again)
        await harness.drain()
        assert ran == [("once", worker.node)]
        assert worker.slots.free == worker.slots.count
        assert await job.status() == "ended"


@pytest.mark.parametrize("overlap", ["skip", "buffer"])
async def test_a_run_that_has_vanished_does_not_silence_its_schedule(overlap: str) -> None:
    scheduler, ran = polling()
    async with Harness(scheduler) as harness:
        await put_all(scheduler, ["s"], overlap=overlap)
        await harness.advance(25)
        state = harness.store.shard("default")._state  # type: ignore[attr-defined]
        state.schedules["s"] = msgspec.structs.replace(state.schedules["s"], live=("s@0",))  # its job was evicted
        ran.clear()
        await harness.advance(120)
        assert len(ran) >= 10


async def test_a_lease_that_is_found_late_is_renewed_before_its_run_begins() -> None:
    scheduler, begun, go = Scheduler("memory://", lease=30), list[tuple[str, int]](), asyncio.Event()

    @scheduler.task
    async def slow(ctx: Context) -> None:
        begun.append((ctx.job.id, ctx.crashes))
        await go.wait()

    async with Harness(scheduler) as harness:
        harness.node()
        await scheduler.schedules.put("s", every(seconds=100), slow, placement="ring")
        await harness.advance(15)
        (owner,) = (node for node in harness.nodes if node.id == owners(harness.nodes, ["s"])["s"])
        losing(owner, owner.partition).losses = 1
        await harness.advance(86, drain=False)
        assert begun == []
        await harness.advance(28, drain=False)
        owner.heal()
        await harness.advance(10, drain=False)
        go.set()
        await harness.advance(1)
        assert begun == [(begun[0][0], 0)]


async def test_an_owner_that_dies_loses_no_tick_of_a_short_interval() -> None:
    scheduler, ran = polling()
    async with Harness(scheduler) as harness:
        harness.node()
        for name in NAMES:
            await scheduler.schedules.put(
                name, every(seconds=1), "poll", args=[name], placement="ring", catch_up="latest"
            )
        await harness.advance(20)
        harness.nodes[1].crash()
        ran.clear()
        await harness.advance(15.5)
        assert Counter(name for name, _ in ran) == dict.fromkeys(NAMES, 15)


async def test_a_schedule_that_an_owner_cannot_read_keeps_the_others_from_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheduler, ran = polling()

    @scheduler.task
    async def odd(name: str) -> None: ...

    def unfit(options: object) -> object:
        raise UnfitJob("options", "of a newer duly")

    async with Harness(scheduler) as harness:
        await put_all(scheduler, ["s"])
        await scheduler.schedules.put("odd", EACH, odd, args=["odd"], placement="ring")
        handler = scheduler._book.find("odd")
        assert handler is not None
        monkeypatch.setattr(handler, "policy_for", unfit)
        await harness.advance(35, drain=False)
        assert [name for name, _ in ran] == ["s"] * 3
        assert harness.nodes[0]._node.worker.slots.free == harness.nodes[0]._node.worker.slots.count


async def test_a_schedule_that_waits_for_its_run_is_not_written_meanwhile() -> None:
    scheduler, go = Scheduler("memory://", lease=60), asyncio.Event()

    @scheduler.task
    async def slow() -> None:
        await go.wait()

    async with Harness(scheduler) as harness:
        await scheduler.schedules.put("s", EACH, slow, placement="ring", overlap="buffer")
        await harness.advance(25, drain=False)
        shard, fires = losing(harness.nodes[0]), list[int]()
        fire = shard.fire

        async def counted(node: str, firings: Sequence[Firing]) -> list[Fired]:
            fires.append(len(firings))
            return await fire(node, firings)

        shard.fire = counted  # type: ignore[method-assign]
        await harness.advance(30, drain=False)
        assert sum(fires) <= 1
        go.set()


async def test_a_node_that_stops_while_it_fires_leaves_nothing_leased() -> None:
    scheduler, ran = Scheduler("memory://"), list[str]()

    @scheduler.task
    async def poll(name: str) -> None:
        ran.append(name)

    await scheduler.start()
    await scheduler.schedules.put("s", every(seconds=0.2), poll, args=["s"], placement="ring")
    await eventually(lambda: len(ran) >= 2)
    node = scheduler._node
    assert node is not None
    (line,) = node.worker.lines
    fire, leased = line.shard.fire, asyncio.Event()

    async def slow(id: str, firings: Sequence[Firing]) -> list[Fired]:
        answers = await fire(id, firings)
        if any(isinstance(answer, int) for answer in answers):
            leased.set()
            await eventually(lambda: any(ring._stopping for ring in node._rings))
        return answers

    line.shard.fire = slow  # type: ignore[method-assign]
    await leased.wait()
    shard = line.shard
    await scheduler.stop()
    async with scheduler:
        assert (await shard.sizes()).leased == 0


async def test_beats_come_soon_enough_when_they_become_seldom() -> None:
    scheduler, _ = polling()
    async with Harness(scheduler) as harness:
        await put_all(scheduler, ["s"])
        await harness.advance(20)
        await scheduler.schedules.remove("s")
        for _ in range(40):
            await harness.advance(1)
            assert (await harness.store.registry()).nodes
        assert not harness.nodes[0]._node.neighbours.is_placing


# --- nodes of their own -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["redis", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    found: str = f"sqlite:///{tmp_path}/ring.db" if request.param == "sqlite" else request.getfixturevalue("redis_url")
    return found


async def test_nodes_that_meet_in_a_store_share_the_schedules(url: str) -> None:
    ran: list[tuple[str, str]] = []
    schedulers = [Scheduler(url, namespace="ring") for _ in range(3)]

    def declare(scheduler: Scheduler) -> None:
        @scheduler.task
        async def poll(name: str) -> None:
            node = scheduler._node
            assert node is not None
            ran.append((name, node.id))

        for name in NAMES:
            scheduler.schedule(poll, every(seconds=0.25), id=name, args=[name], placement="ring")

    for scheduler in schedulers:
        declare(scheduler)
    async with running(schedulers[0]), running(schedulers[1]), running(schedulers[2]):
        nodes = [scheduler._node for scheduler in schedulers]
        ring = Ring(node.id for node in nodes if node is not None)

        def all_at_home() -> bool:
            return set(ran[-3 * len(NAMES) :]) == {(name, ring.owner(name)) for name in NAMES}

        await eventually(all_at_home, 30)


async def test_a_queue_with_an_empty_shard_keeps_its_ring(redis_url: str) -> None:
    scheduler, ran = Scheduler(redis_url), list[str]()
    scheduler.queue("default", partitions=3)

    @scheduler.task
    async def poll(name: str) -> None:
        ran.append(name)

    scheduler.schedule(poll, every(seconds=0.5), id="s", args=["s"], placement="ring")
    async with running(scheduler):
        await eventually(lambda: len(ran) >= 2)
        node = scheduler._node
        assert node is not None
        for placement in node.placements.values():
            await placement._walk()
        assert node.neighbours.placing == ["default"]
        found = await scheduler.schedules.get("s")
        assert found is not None
        await eventually(lambda: len(ran) >= 8)
        after = await scheduler.schedules.get("s")
        assert after is not None
        assert after.late == found.late


async def test_an_owner_that_cannot_run_a_task_leaves_it_to_those_who_can(redis_url: str) -> None:
    ran: list[str] = []
    knows, other = Scheduler(redis_url), Scheduler(redis_url)

    @knows.task
    async def poll(name: str) -> None:
        ran.append(name)

    async with running(knows), running(other):
        for name in NAMES:
            await knows.schedules.put(name, every(seconds=0.5), poll, args=[name], placement="ring")
        await eventually(lambda: set(ran) == set(NAMES), 30)


# --- what is said -----------------------------------------------------------------------------------------------------


async def test_a_placement_that_cannot_be_is_refused() -> None:
    scheduler, _ = polling()
    async with Harness(scheduler):
        with pytest.raises(InvalidOption, match="placement='rong'; did you mean 'ring'"):
            await scheduler.schedules.put("s", EACH, "poll", args=["s"], placement="rong")
        with pytest.raises(InvalidOption, match="jitter=3 with placement='ring'"):
            await scheduler.schedules.put("s", EACH, "poll", args=["s"], placement="ring", jitter=3)
        with pytest.raises(InvalidOption, match="window=1 with placement='ring': give 2 seconds"):
            await scheduler.schedules.put("s", EACH, "poll", args=["s"], placement="ring", window=1)


def test_a_definition_says_whether_it_is_placed() -> None:
    for placement in ("any", "ring"):
        definition = Definition(cron("* * * * *"), "ring", placement=placement)  # type: ignore[arg-type]
        assert is_placed(encode(definition)) is (placement == "ring")


def test_only_nodes_that_serve_a_queue_are_in_its_ring() -> None:
    nodes = [NodeRecord(id, "h", 1, "v", "", queues, (), 1, 0) for id, queues in (("a", ("x", "y")), ("b", ("y",)))]
    assert sorted(ring_of(nodes, "y").weights) == ["a", "b"]
    assert sorted(ring_of(nodes, "x").weights) == ["a"]
    assert sorted(ring_of(nodes, "z").weights) == []
