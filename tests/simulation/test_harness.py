"""The harness: nodes that move when they are told to."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from duly import Context, Retry, Scheduler
from duly.errors import ConfigurationError
from duly.testing import Harness


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler("memory://", lease=10)


async def test_what_is_due_has_run_when_it_is_drained(scheduler: Scheduler) -> None:
    ran: list[int] = []

    @scheduler.task
    async def note(number: int) -> None:
        ran.append(number)

    @scheduler.task
    def note_plainly(number: int) -> None:
        ran.append(-number)

    async with Harness(scheduler) as harness:
        await note.push(1)
        await note_plainly.push(2)
        assert ran == []
        await harness.drain()
        assert sorted(ran) == [-2, 1]


async def test_jobs_that_handlers_push_are_drained_too(scheduler: Scheduler) -> None:
    ran: list[int] = []

    @scheduler.task
    async def count_down(ctx: Context, number: int) -> None:
        ran.append(number)
        if number:
            ctx.push(count_down, number - 1)

    async with Harness(scheduler) as harness:
        await count_down.push(3)
        await harness.drain()
    assert ran == [3, 2, 1, 0]


async def test_a_delayed_job_runs_at_its_moment(scheduler: Scheduler) -> None:
    ran: list[int] = []

    @scheduler.task
    async def note() -> None:
        ran.append(harness.clock.epoch_us() // 1_000_000)

    async with Harness(scheduler) as harness:
        began = harness.clock.epoch_us() // 1_000_000
        await note.options(delay=3600).push()
        await harness.advance(3599)
        assert ran == []
        await harness.advance(10)
    assert ran == [began + 3600]


async def test_a_retry_comes_after_its_delay(scheduler: Scheduler) -> None:
    attempts: list[int] = []

    @scheduler.task(retry=Retry(limit=2, delay=60, jitter=0))
    async def fail(ctx: Context) -> None:
        attempts.append(ctx.attempt)
        raise ValueError("again")

    async with Harness(scheduler) as harness:
        job = await fail.push()
        await harness.drain()
        assert attempts == [1]
        await harness.advance(60)
        assert attempts == [1, 2]
        await harness.advance(60)
        assert await job.status() == "dead"


async def test_a_day_of_a_schedule_passes_in_a_moment(scheduler: Scheduler) -> None:
    ticks: list[float] = []

    @scheduler.cron("0 * * * *")
    async def hourly(ctx: Context) -> None:
        assert ctx.job.nominal is not None
        ticks.append(ctx.job.nominal)

    async with Harness(scheduler) as harness:
        await harness.advance(86_400)
    assert len(ticks) == 24
    assert [b - a for a, b in itertools.pairwise(ticks)] == [3600] * 23


@asynccontextmanager
async def a_held_job(scheduler: Scheduler) -> AsyncIterator[tuple[Harness, list[tuple[int, int]]]]:
    """A harness whose first node runs a job that does not end, with a second node beside it."""
    began: list[tuple[int, int]] = []

    @scheduler.task(name="hold")
    async def hold(ctx: Context) -> None:
        began.append((ctx.crashes, ctx.fence))
        if len(began) == 1:
            await asyncio.Event().wait()

    async with Harness(scheduler) as harness:
        await hold.push()
        await harness.nodes[0].tick()
        assert len(harness.nodes[0].running) == 1
        harness.node()
        yield harness, began


async def test_the_job_of_a_crashed_node_is_taken_over(scheduler: Scheduler) -> None:
    async with a_held_job(scheduler) as (harness, began):
        harness.nodes[0].crash()
        await harness.advance(9)
        assert len(began) == 1
        await harness.advance(6)
        assert [crashes for crashes, _ in began] == [0, 1]
        assert began[1][1] > began[0][1]


async def test_a_node_that_lives_keeps_its_job(scheduler: Scheduler) -> None:
    async with a_held_job(scheduler) as (harness, began):
        await harness.advance(100, drain=False)
        assert len(began) == 1


async def test_a_node_that_paused_finds_its_lease_taken(scheduler: Scheduler) -> None:
    async with a_held_job(scheduler) as (harness, began):
        first = harness.nodes[0]
        first.pause()
        await harness.advance(20)
        assert len(began) == 2
        first.resume()
        await first.tick()
        await first.tick()
        assert first.running == []


async def test_a_node_that_is_cut_off_loses_its_job_and_works_on_when_healed(scheduler: Scheduler) -> None:
    async with a_held_job(scheduler) as (harness, began):
        first, second = harness.nodes
        first.partition()
        await harness.advance(20)
        assert len(began) == 2
        first.heal()
        second.crash()
        await scheduler.push("hold")
        await harness.drain()
        assert len(began) == 3


async def test_a_handler_that_does_not_end_is_named(scheduler: Scheduler) -> None:
    async with a_held_job(scheduler) as (harness, _):
        (id,) = harness.nodes[0].running
        with pytest.raises(TimeoutError, match=id):
            await harness.drain(patience=0.01)


async def test_the_scheduler_is_as_before_afterwards(scheduler: Scheduler) -> None:
    store, clock = scheduler.store, scheduler.clock
    async with Harness(scheduler):
        assert scheduler.store is not store
    assert (scheduler.store, scheduler.clock) == (store, clock)


async def test_a_scheduler_that_is_connected_cannot_be_harnessed(scheduler: Scheduler) -> None:
    async with scheduler:
        with pytest.raises(ConfigurationError, match="connected"):
            async with Harness(scheduler):
                raise AssertionError("not reached")


async def test_the_lifespan_gives_the_state() -> None:
    seen: list[object] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[str]:
        yield "resources"

    scheduler = Scheduler("memory://", lifespan=lifespan)

    @scheduler.task
    async def look(ctx: Context) -> None:
        seen.append(ctx.state)

    async with Harness(scheduler) as harness:
        await look.push()
        await harness.drain()
    async with Harness(scheduler, state="others") as harness:
        await look.push()
        await harness.drain()
    assert seen == ["resources", "others"]


async def test_a_job_that_makes_jobs_without_end_is_noticed(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duly.testing.harness.MOST_TURNS", 20)

    @scheduler.task
    async def breed(ctx: Context) -> None:
        ctx.push(breed)

    async with Harness(scheduler) as harness:
        await breed.push()
        with pytest.raises(AssertionError, match="without end"):
            await harness.drain()
