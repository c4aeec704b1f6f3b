"""Jobs are claimed before there are slots for them: no slot is used twice, and nothing is held in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from duly import Scheduler
from duly.runtime.forecast import CALM_SECONDS, CLAIMS_AHEAD, MOST_AHEAD, Forecast
from duly.runtime.worker import Worker
from duly.testing import ManualClock
from tests.schedulers import running
from tests.waiting import eventually


def worker_of(scheduler: Scheduler) -> Worker:
    assert scheduler._node is not None
    return scheduler._node.worker


def ahead_of_slots(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Every line claims so many jobs beyond the free slots."""
    monkeypatch.setattr(Forecast, "ahead", lambda _self, _slots: count)


# --- how many -----------------------------------------------------------------------------------------------------------


def forecast() -> tuple[Forecast, ManualClock]:
    clock = ManualClock()
    return Forecast(clock), clock


def answer(expected: Forecast, clock: ManualClock, ended: int, since: float = 0.001, travelled: float = 0.001) -> None:
    """A claim is answered, so many seconds after the last one, of which it travelled some; so many runs have ended."""
    expected.ended = ended
    clock.advance(since)
    expected.answered(travelled)


def test_as_many_are_expected_as_ended_while_the_last_claim_travelled() -> None:
    expected, clock = forecast()
    answer(expected, clock, 5, 0.004, 0.004)
    assert expected.ahead(1_000) == CLAIMS_AHEAD * 5


def test_what_ended_in_a_longer_time_counts_in_proportion() -> None:
    expected, clock = forecast()
    answer(expected, clock, 40, 0.04, 0.01)
    assert expected.ahead(1_000) == CLAIMS_AHEAD * 10


def test_no_more_is_expected_than_there_are_slots() -> None:
    expected, clock = forecast()
    answer(expected, clock, 500)
    assert expected.ahead(8) == MOST_AHEAD * 8


def test_a_sudden_silence_is_believed_by_halves() -> None:
    expected, clock = forecast()
    found = []
    for ended in (8, 0, 0, 0, 0):
        answer(expected, clock, ended)
        found.append(expected.ahead(1_000) // CLAIMS_AHEAD)
    assert found == [8, 4, 2, 1, 0]


def test_what_ended_long_ago_says_nothing() -> None:
    expected, clock = forecast()
    answer(expected, clock, 8)
    clock.advance(CALM_SECONDS * 1.01)
    assert expected.ahead(1_000) == 0
    expected.answered(0.001)
    clock.advance(0.001)
    assert expected.ahead(1_000) == 0


def test_after_waiting_in_vain_nothing_is_expected() -> None:
    expected, clock = forecast()
    answer(expected, clock, 8)
    expected.failed()
    assert expected.ahead(1_000) == 0


# --- waiting for a slot -------------------------------------------------------------------------------------------------


async def test_runs_beyond_the_slots_wait_and_never_more_run_than_there_are_slots(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead_of_slots(monkeypatch, 6)
    scheduler = Scheduler(store_url, concurrency=3)
    now = most = waited = 0
    ran: list[int] = []

    @scheduler.task
    async def work(number: int) -> None:
        nonlocal now, most, waited
        now += 1
        most, waited = max(most, now), max(waited, len(worker_of(scheduler).slots.waiting))
        await asyncio.sleep(0)
        now -= 1
        ran.append(number)

    async with scheduler:
        await scheduler.push_many(work.job(number) for number in range(100))
        async with running(scheduler):
            await eventually(lambda: len(ran) == 100, 30)
            await eventually(lambda: worker_of(scheduler).slots.free == 3)
    assert sorted(ran) == list(range(100))
    assert most <= 3
    assert waited > 0


async def test_what_waits_in_vain_is_run_by_another_node_and_not_counted(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead_of_slots(monkeypatch, 4)
    full, other = Scheduler(redis_url, concurrency=1), Scheduler(redis_url, concurrency=10)
    go_on, ran = asyncio.Event(), []

    @full.task(name="work")
    async def hold(number: int) -> None:
        await go_on.wait()

    @other.task(name="work")
    async def work(number: int) -> None:
        ran.append(number)

    async with full:
        ids = await full.push_many(hold.job(number) for number in range(3))
        async with running(full):
            await eventually(lambda: len(worker_of(full).running) == 1)
            monkeypatch.undo()
            async with running(other):
                await eventually(lambda: len(ran) == 2, 10)
                go_on.set()
            await eventually(lambda: worker_of(full).slots.free == 1)
        assert [await full.jobs.get(id) for id in ids] == [None] * 3
    assert len(set(ran)) == 2


async def waiting_behind(scheduler: Scheduler, count: int = 1) -> None:
    """So many runs wait for a slot."""
    await eventually(lambda: len(worker_of(scheduler).slots.waiting) == count)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a slot waits for long."""
    monkeypatch.setattr("duly.runtime.starter.HAND_BACK_SECONDS", 60)
    ahead_of_slots(monkeypatch, 4)


@pytest.mark.usefixtures("patient")
async def test_a_stop_hands_back_what_waits_at_once(redis_url: str) -> None:
    scheduler = Scheduler(redis_url, concurrency=1)
    go_on = asyncio.Event()

    @scheduler.task
    async def hold() -> None:
        await go_on.wait()

    async with scheduler:
        await scheduler.push_many(hold.job() for _ in range(3))
        await scheduler.start()
        await waiting_behind(scheduler, 2)
        stopping = asyncio.create_task(scheduler.stop(10))
        assert await is_so(scheduler, lambda sizes: sizes.pending == 2 and sizes.leased == 1)
        go_on.set()
        await stopping
        assert await is_so(scheduler, lambda sizes: sizes.pending == 2 and sizes.leased == 0)


async def is_so(scheduler: Scheduler, holds: Callable[[Any], bool]) -> bool:
    async def look() -> bool:
        return holds(await scheduler.queues.sizes())

    await eventually(look, 10)
    return True


@pytest.mark.usefixtures("patient")
async def test_what_is_cancelled_while_it_waits_never_begins(redis_url: str) -> None:
    scheduler = Scheduler(redis_url, concurrency=1, lease=1)
    go_on, ran = asyncio.Event(), []

    @scheduler.task
    async def work(number: int) -> None:
        ran.append(number)
        await go_on.wait()

    async with running(scheduler):
        first = await work.push(1)
        await eventually(lambda: ran == [1])
        second = await work.push(2)
        await waiting_behind(scheduler)
        assert await second.cancel() == "asked"
        (run,) = [run for _, run in worker_of(scheduler).slots.waiting]
        await eventually(lambda: run.cancel_reason == "asked", 10)
        go_on.set()
        assert await is_so(scheduler, lambda sizes: sizes.leased == sizes.pending == 0)
        assert await first.status() == await second.status() == "ended"
        assert worker_of(scheduler).slots.free == 1
    assert ran == [1]


@pytest.mark.usefixtures("patient")
async def test_a_job_at_most_once_is_marked_when_it_has_a_slot_and_not_before(redis_url: str) -> None:
    scheduler = Scheduler(redis_url, concurrency=1)
    go_on, ran = asyncio.Event(), []

    @scheduler.task(delivery="at_most_once")
    async def once(number: int) -> None:
        ran.append(number)
        await go_on.wait()

    async with running(scheduler):
        await once.push(1)
        await eventually(lambda: ran == [1])
        second = await once.push(2)
        await waiting_behind(scheduler)
        (record,) = await scheduler.shard("default").get([second.id])
        assert record is not None
        assert (record.state, record.started) == ("leased", False)
        go_on.set()
        await eventually(lambda: ran == [1, 2])


@pytest.mark.usefixtures("patient")
async def test_a_run_whose_lease_is_taken_while_it_waits_never_begins(redis_url: str) -> None:
    scheduler = Scheduler(redis_url, concurrency=1)
    go_on, ran = asyncio.Event(), []

    @scheduler.task
    async def work(number: int) -> None:
        ran.append(number)
        await go_on.wait()

    async with running(scheduler):
        await work.push(1)
        await eventually(lambda: ran == [1])
        await work.push(2)
        await waiting_behind(scheduler)
        worker = worker_of(scheduler)
        (run,) = [run for _, run in worker.slots.waiting]
        worker.renewed([(run, "taken")])
        go_on.set()
        await eventually(lambda: worker.slots.free == 1 and not worker.slots.waiting)
    assert ran == [1]
