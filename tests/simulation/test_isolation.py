"""A job that kills its node, and what becomes of those that stood beside it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from duly import Context, Scheduler
from duly.errors import StoreUnavailable
from duly.runtime.loop import Backoff
from duly.testing import Harness
from tests.schedulers import running, shared
from tests.waiting import eventually


async def test_neighbours_of_a_poison_job_are_not_buried_when_it_kills_the_node_before_they_are_put_back() -> None:
    scheduler = Scheduler("memory://", concurrency=20)
    ran: list[int] = []
    kills = 0

    @scheduler.task
    async def poison() -> None:
        nonlocal kills
        kills += 1
        next(node for node in harness.nodes if node.acts).crash()

    @scheduler.task
    async def harmless(number: int) -> None:
        ran.append(number)

    async with Harness(scheduler) as harness:
        deadly = await poison.push()
        beside = [await harmless.push(number) for number in range(3)]
        for crashes in range(1, 4):
            await harness.nodes[-1].tick()
            assert kills == crashes
            harness.node()
            await harness.advance(15, drain=False)
        await harness.drain()
        assert kills == 3
        assert await deadly.status() == "dead"
        assert "lost 3 times" in await scheduler.jobs.why(deadly.id)
        assert [await job.status() for job in beside] == ["ended"] * 3


async def test_a_suspect_runs_when_its_start_is_marked() -> None:
    scheduler = Scheduler("memory://")
    seen: list[tuple[int, bool]] = []

    @scheduler.task(max_crashes=2)
    async def look(ctx: Context) -> None:
        (record,) = await harness.store.shard("default").get([ctx.job.id])
        assert record is not None
        seen.append((ctx.crashes, record.started))
        if ctx.crashes == 0:
            harness.nodes[0].crash()

    async with Harness(scheduler) as harness:
        await look.push()
        await harness.nodes[0].tick()
        harness.node()
        await harness.advance(15)
    assert seen == [(0, False), (1, True)]


async def test_a_suspect_keeps_others_back_until_its_end_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "pause", lambda self: 0.0)
    scheduler = Scheduler("memory://", queues=("default", "other"))
    began: list[int] = []

    @scheduler.task(max_crashes=2)
    async def look(ctx: Context, number: int) -> None:
        if ctx.crashes == 0:
            harness.nodes[0].crash()
            await asyncio.Event().wait()
        began.append(number)

    async def lost(*_: object) -> None:
        raise StoreUnavailable("on purpose")

    async with Harness(scheduler) as harness:
        jobs = [await look.push(1), await look.options(queue="other").push(2)]
        await harness.nodes[0].tick()
        node = harness.node()
        shard: Any = node._node.worker.lines[0].shard
        settle = shard.settle
        shard.settle = lost
        for _ in range(40):
            harness.clock.advance(0.5)
            await node.tick()
        assert began == [1]  # it has ended, and the store does not know it
        shard.settle = settle
        await harness.advance(5)
        assert began == [1, 2]
        assert [await job.status() for job in jobs] == ["ended", "ended"]


async def test_a_mark_that_is_answered_after_the_stop_hands_the_job_back() -> None:
    url = shared("memory://")
    scheduler, other = Scheduler(url), Scheduler(url)
    asked, answered = asyncio.Event(), asyncio.Event()
    ran: list[str] = []

    @scheduler.task(name="once", delivery="at_most_once")
    async def once() -> None:
        ran.append("here")

    @other.task(name="once", delivery="at_most_once")
    async def once_there() -> None:
        ran.append("there")

    await scheduler.start()
    shard: Any = scheduler.shard("default")
    start = shard.start

    async def late(*args: Any) -> Any:
        marks = await start(*args)
        asked.set()
        await answered.wait()
        return marks

    shard.start = late
    await once.push()
    await asyncio.wait_for(asked.wait(), 10)
    stopping = asyncio.get_running_loop().create_task(scheduler.stop())
    await asyncio.sleep(0)  # it has begun to stop
    answered.set()
    await stopping
    async with other:
        sizes = await other.queues.sizes()
        assert (sizes.pending, sizes.leased, sizes.dead) == (1, 0, 0)
    async with running(other):
        await eventually(lambda: ran == ["there"])
