"""Slots are shared: what is handed back keeps its place, every queue gets its turn, and what cannot begin costs no slot."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from duly import Scheduler
from duly.stores.base import Batch
from duly.testing.faults import Call, WrappedStore
from tests.schedulers import running
from tests.test_starting import ahead_of_slots, is_so, waiting_behind, worker_of
from tests.waiting import eventually

# --- what is handed back --------------------------------------------------------------------------------------------------


async def test_what_is_handed_back_goes_to_where_it_stood(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead_of_slots(monkeypatch, 2)
    scheduler = Scheduler(redis_url, concurrency=1)
    go_on, ran = asyncio.Event(), []

    @scheduler.task
    async def work(number: int) -> None:
        ran.append(number)
        await go_on.wait()

    async with scheduler:
        first = time.time() - 100
        for number in range(8):
            await work.options(at=first + number).push(number)
        async with running(scheduler):
            await waiting_behind(scheduler, 2)
            monkeypatch.undo()
            assert await is_so(scheduler, lambda sizes: (sizes.pending, sizes.leased) == (7, 1))
            go_on.set()
            await eventually(lambda: len(ran) == 8)
    assert ran == list(range(8))


async def test_what_is_handed_back_is_not_taken_for_a_slot_that_came_free(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node full of long jobs would claim and hand back for ever."""
    ahead_of_slots(monkeypatch, 4)
    scheduler = Scheduler(redis_url, concurrency=1)
    go_on = asyncio.Event()

    @scheduler.task
    async def hold() -> None:
        await go_on.wait()

    async with scheduler:
        await scheduler.push_many(hold.job() for _ in range(3))
        async with running(scheduler):
            await waiting_behind(scheduler, 2)
            (line,) = worker_of(scheduler).lines
            assert line.forecast.ended == 0
            monkeypatch.undo()
            assert await is_so(scheduler, lambda sizes: (sizes.pending, sizes.leased) == (2, 1))
            assert line.forecast.ended == line.forecast.ahead(1) == line.waiting == 0
            go_on.set()


# --- several queues -------------------------------------------------------------------------------------------------------


class SlowClaims(WrappedStore):
    """A store that is some way off: a claim takes 6 ms."""

    async def through(self, verb: str, queue: str, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if verb == "claim":
            await asyncio.sleep(0.006)
        return await call(*args, **kwargs)


async def test_a_queue_with_a_backlog_leaves_turns_to_the_others_of_its_node() -> None:
    """What was claimed ahead takes each slot that comes free: the other queues never saw one."""
    scheduler = Scheduler("memory://", concurrency=50, queues=("bulk", "urgent"))
    scheduler.store = SlowClaims(scheduler.store)
    ended, urgent, backlog = 0, list[int](), 20_000

    @scheduler.task(queue="bulk")
    async def short() -> None:
        nonlocal ended
        await asyncio.sleep(0.02)
        ended += 1

    @scheduler.task(queue="urgent")
    async def now(number: int) -> None:
        urgent.append(number)

    async with scheduler:
        await scheduler.push_many(short.job() for _ in range(backlog))
        async with running(scheduler, grace=0):
            await eventually(lambda: ended > 100)
            for number in range(10):
                before = ended
                await now.push(number)
                await eventually(lambda number=number: number in urgent)  # type: ignore[misc]
                assert ended - before < 1_000  # some hundred milliseconds
            assert ended < backlog


async def test_what_waits_of_another_queue_does_not_count_as_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duly.runtime.starter.HAND_BACK_SECONDS", 60)
    ahead_of_slots(monkeypatch, 3)
    scheduler = Scheduler("memory://", concurrency=1, queues=("bulk", "urgent"))
    go_on, ran = asyncio.Event(), list[str]()

    @scheduler.task(queue="bulk")
    async def hold() -> None:
        await go_on.wait()
        ran.append("bulk")

    @scheduler.task(queue="urgent")
    async def now() -> None:
        ran.append("urgent")

    async with scheduler:
        await scheduler.push_many(hold.job() for _ in range(10))
        async with running(scheduler):
            await waiting_behind(scheduler, 3)
            await now.push()
            await waiting_behind(scheduler, 4)
            go_on.set()
            await eventually(lambda: "urgent" in ran)
    assert ran.index("urgent") == 4


async def test_a_run_finds_the_slot_that_came_free_while_it_was_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claimed for a slot that was expected, and is there by now: nobody ends a run after that to give it one."""
    ahead_of_slots(monkeypatch, 1)
    scheduler = Scheduler("memory://", concurrency=1)
    ran, waiting = list[int](), list[int]()

    @scheduler.task
    async def work(number: int) -> None:
        ran.append(number)

    async with running(scheduler):
        worker = worker_of(scheduler)
        inner = worker.admit

        def admit(line: Any, batch: Batch, slots: int | None = None) -> None:
            if batch.jobs:
                assert slots == 1
                worker.slots.release(1)  # as if it had been another run's until this moment
                slots = 0
            inner(line, batch, slots)
            waiting.append(len(worker.slots.waiting))

        monkeypatch.setattr(worker, "admit", admit)
        await work.push(1)
        await eventually(lambda: ran == [1])
        await eventually(lambda: worker.slots.free == 1)
    assert set(waiting) == {0}


# --- what cannot begin ----------------------------------------------------------------------------------------------------


def without_threads(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The system starts so many of our threads not, and then all."""
    start, left = threading.Thread.start, [count]

    def refused(thread: threading.Thread) -> None:
        if thread.name.startswith("duly-thread") and left[0]:
            left[0] -= 1
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)


async def test_what_gets_no_thread_is_run_a_little_later_and_costs_the_others_nothing(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler(store_url, concurrency=4)
    ran: list[int] = []

    @scheduler.task
    def work(number: int) -> None:
        ran.append(number)

    async with scheduler:
        without_threads(monkeypatch, 2)
        ids = await scheduler.push_many(work.job(number) for number in range(4))
        async with running(scheduler):
            await eventually(lambda: len(ran) == 4)
            assert await is_so(scheduler, lambda sizes: sizes.pending == sizes.leased == 0)
            await eventually(lambda: worker_of(scheduler).slots.free == 4)
        assert [await scheduler.jobs.get(id) for id in ids] == [None] * 4
    assert sorted(ran) == [0, 1, 2, 3]


async def test_with_fewer_threads_than_slots_sync_jobs_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Scheduler("memory://", concurrency=4)
    began, go_on, ran = threading.Event(), threading.Event(), []

    @scheduler.task
    def work(number: int) -> None:
        began.set()
        go_on.wait(10)
        ran.append(number)

    async with running(scheduler):
        await work.push(0)
        await asyncio.to_thread(began.wait, 10)
        without_threads(monkeypatch, 100)
        for number in (1, 2):
            await work.push(number)
        await eventually(lambda: len(worker_of(scheduler).running) == 3)
        go_on.set()
        await eventually(lambda: sorted(ran) == [0, 1, 2])


async def test_a_job_that_comes_back_after_its_lease_was_taken_replaces_the_run_that_lost_it(
    redis_url: str,
) -> None:
    scheduler = Scheduler(redis_url, concurrency=2)
    cancelled, ran, go_on = [], list[int](), asyncio.Event()

    @scheduler.task
    async def work() -> None:
        ran.append(1)
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    async with running(scheduler):
        await work.push()
        await eventually(lambda: ran == [1])
        worker = worker_of(scheduler)
        (line,) = worker.lines
        (run,) = line.runs.values()
        await eventually(lambda: worker.slots.take(1) == 1)  # a claim under way may hold it
        worker.admit(
            line, Batch(run.fence + 1, run.now, [run.job], None, looks_due=False, look_next=False, gap=False), 1
        )
        await eventually(lambda: (len(ran), len(cancelled)) == (2, 1))
        await eventually(lambda: worker.slots.free == 1)
        (again,) = line.runs.values()
        assert again is not run
        go_on.set()
        await eventually(lambda: worker.slots.free == 2)
