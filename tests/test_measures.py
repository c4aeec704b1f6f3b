"""What a node counts of its runs, and what of it the store keeps."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from duly import Discard, Retry, RetryIn, Scheduler, Snooze
from duly.core.lifecycle import END
from duly.core.measures import KEEP_MINUTES, LATE, MOST_TASKS, OTHERS, RAN, Counts, buckets_of, key_of, percentile
from duly.errors import StoreUnavailable
from duly.runtime.meter import Meter, Tallies
from duly.stores.base import Settled
from duly.stores.capabilities import Measured
from duly.stores.redis import keys
from duly.stores.redis.store import RedisStore
from duly.testing import ManualClock
from tests.schedulers import running, shared
from tests.servers import Server
from tests.waiting import eventually


def meter_of(scheduler: Scheduler) -> Meter:
    assert scheduler._node is not None
    meter = scheduler._node.worker.meter
    assert meter is not None
    return meter


def counted(scheduler: Scheduler, task: str, queue: str = "default") -> Mapping[str, int]:
    """The counters of a task in this process, without times."""
    counts = meter_of(scheduler).counts().get(key_of(queue, task), {})
    return {name: n for name, n in counts.items() if ":" not in name}


async def kept(scheduler: Scheduler) -> dict[str, dict[str, int]]:
    """All that the store has kept, whichever minute it is in."""
    store = scheduler.store
    assert isinstance(store, Measured)
    minute = (await store.registry()).now // 60_000
    total: dict[str, dict[str, int]] = {}
    for tasks in (await store.measured(minute - 5, minute + 5)).values():
        for task, counts in tasks.items():
            there = total.setdefault(task, {})
            for name, n in counts.items():
                there[name] = there.get(name, 0) + n
    return total


async def test_runs_are_counted_by_what_becomes_of_them(store_url: str) -> None:
    scheduler = Scheduler(store_url)
    raised: list[int] = []

    @scheduler.task
    async def well() -> None: ...

    @scheduler.task(keep_result=True)
    def in_thread() -> int:
        return 1

    @scheduler.task(retry=Retry(limit=1, delay=0))
    async def bad() -> None:
        raise ValueError

    @scheduler.task
    async def once(kind: str) -> None:
        if not raised:
            raised.append(1)
            raise Snooze(0) if kind == "snooze" else RetryIn(0)

    @scheduler.task
    async def unwanted() -> None:
        raise Discard("not needed")

    async with running(scheduler):
        for _ in range(3):
            await well.push()
        await in_thread.push()
        await bad.push()
        await unwanted.push()
        await once.push("snooze")
        await eventually(lambda: counted(scheduler, "well").get("succeeded") == 3)
        await eventually(lambda: counted(scheduler, "bad").get("dead"))
        await eventually(lambda: counted(scheduler, "once").get("succeeded"))
        await eventually(lambda: counted(scheduler, "unwanted").get("cancelled"))
        await eventually(lambda: counted(scheduler, "in_thread").get("succeeded"))
        assert counted(scheduler, "well") == {"started": 3, "succeeded": 3}
        assert counted(scheduler, "in_thread") == {"started": 1, "succeeded": 1}
        assert counted(scheduler, "bad") == {"started": 2, "failed": 1, "dead": 1}
        assert counted(scheduler, "once") == {"started": 2, "put_back": 1, "succeeded": 1}
        assert counted(scheduler, "unwanted") == {"started": 1, "cancelled": 1}


async def test_a_run_is_counted_as_started_while_it_runs() -> None:
    scheduler, go = Scheduler("memory://"), asyncio.Event()

    @scheduler.task
    async def slow() -> None:
        await go.wait()

    async with running(scheduler):
        await slow.push()
        await eventually(lambda: counted(scheduler, "slow") == {"started": 1})
        go.set()
        await eventually(lambda: counted(scheduler, "slow") == {"started": 1, "succeeded": 1})


async def test_times_are_those_of_the_run_and_of_the_wait_for_it(store_url: str) -> None:
    scheduler = Scheduler(store_url, concurrency=1)

    @scheduler.task
    async def nap() -> None:
        await asyncio.sleep(0.1)

    async with running(scheduler):
        scheduler.stop_executing()
        await nap.options(delay=0.05).push()
        await asyncio.sleep(0.2)  # it gets late
        scheduler.start_executing()
        await eventually(lambda: counted(scheduler, "nap").get("succeeded"))
        counts = meter_of(scheduler).counts()[key_of("default", "nap")]
    assert 0.085 <= percentile(buckets_of(counts, RAN), 0.5) < 5
    assert 0.1 <= percentile(buckets_of(counts, LATE), 0.5) < 5  # from when it was due, not from the push


async def test_the_time_in_a_thread_begins_when_there_is_one() -> None:
    scheduler, go = Scheduler("memory://", threads=1), threading.Event()

    @scheduler.task
    def hold() -> None:
        go.wait(10)

    async with running(scheduler):
        await hold.push()
        await hold.push()
        await eventually(lambda: counted(scheduler, "hold").get("started") == 2)
        assert scheduler._node is not None
        runs = scheduler._node.worker.running
        await eventually(lambda: [run for run in runs if run.began is not None])
        assert [run.began is None for run in runs] == [False, True]
        go.set()
        await eventually(lambda: counted(scheduler, "hold").get("succeeded") == 2)
        assert all(run.took is not None for run in runs)


async def test_what_was_counted_is_in_the_store_after_a_stop_and_adds_up_over_nodes(store_url: str) -> None:
    url = shared(store_url)
    one, two = Scheduler(url, queues=["default", "mail"]), Scheduler(url, queues=["default", "mail"])
    for scheduler in (one, two):

        @scheduler.task
        async def work() -> None: ...

    async with one:
        for scheduler in (one, two):
            async with running(scheduler):
                for queue in ("default", "mail", "mail"):
                    await scheduler.push("work", queue=queue)
                await eventually(lambda: counted(scheduler, "work", "mail").get("succeeded") == 2)  # noqa: B023
                await eventually(lambda: counted(scheduler, "work").get("succeeded") == 1)  # noqa: B023
        found = await kept(one)
    ends = {task: {name: n for name, n in counts.items() if ":" not in name} for task, counts in found.items()}
    assert ends == {
        key_of("default", "work"): {"started": 2, "succeeded": 2},
        key_of("mail", "work"): {"started": 4, "succeeded": 4},
    }
    assert sum(buckets_of(found[key_of("mail", "work")], RAN).values()) == 4
    assert sum(buckets_of(found[key_of("mail", "work")], LATE).values()) == 4


async def test_each_write_brings_only_what_is_new() -> None:
    scheduler = Scheduler("memory://")

    @scheduler.task
    async def work() -> None: ...

    async with running(scheduler):
        for n in range(1, 4):
            await work.push()
            await eventually(lambda: counted(scheduler, "work").get("succeeded") == n)  # noqa: B023
            assert await meter_of(scheduler).tick() > 0
            assert (await kept(scheduler))[key_of("default", "work")]["succeeded"] == n


class Keeping:
    """A store that keeps measures, or fails to."""

    def __init__(self, *faults: Exception | None) -> None:
        self.faults = list(faults)
        self.calls: list[tuple[int, Mapping[str, Counts], int]] = []

    async def measure(self, minute: int, counts: Mapping[str, Counts], keep: int) -> None:
        self.calls.append((minute, counts, keep))
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault

    async def measured(self, first: int, last: int) -> Mapping[int, Mapping[str, Counts]]:
        return {}


def metered(store: Any) -> tuple[Meter, Tallies]:
    clock = ManualClock()
    meter = Meter(store, logging.getLogger("duly"), clock)
    tallies = meter.of("q")
    tallies.ahead = 7 * 60_000 + 59_999 - int(clock.monotonic() * 1000)
    return meter, tallies


async def test_a_slice_that_the_store_did_not_take_is_lost_and_said_only_to_those_who_look(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Keeping(StoreUnavailable("away"))
    meter, tallies = metered(store)
    tallies["t"].started += 1
    with caplog.at_level("DEBUG", "duly"):
        await meter.flush()
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    tallies["t"].started += 4
    await meter.flush()
    assert store.calls[1] == (7, {key_of("q", "t"): {"started": 4}}, KEEP_MINUTES)
    await meter.flush()
    assert len(store.calls) == 2  # nothing is new


async def test_a_store_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duly.runtime.meter.PATIENCE", 0.01)

    class Hanging(Keeping):
        async def measure(self, minute: int, counts: Mapping[str, Counts], keep: int) -> None:
            await asyncio.Event().wait()

    meter, tallies = metered(Hanging())
    tallies["t"].started += 1
    async with asyncio.timeout(10):
        await meter.flush()


async def test_a_store_that_keeps_no_measures_is_not_asked() -> None:
    meter, tallies = metered(object())
    tallies["t"].started += 1
    await meter.flush()


async def test_names_without_end_take_room_for_so_many() -> None:
    tallies = Tallies()
    for n in range(2 * MOST_TASKS):
        tallies[f"task {n}"].started += 1
    assert len(tallies) == MOST_TASKS + 1
    assert tallies[OTHERS].started == MOST_TASKS
    assert tallies["task 0"].started == 1


async def test_a_run_whose_lease_was_taken_is_counted_so() -> None:
    scheduler, go = Scheduler("memory://"), asyncio.Event()

    @scheduler.task
    async def slow() -> None:
        await go.wait()

    async with running(scheduler):
        await slow.push()
        await eventually(lambda: counted(scheduler, "slow").get("started"))
        assert scheduler._node is not None
        worker = scheduler._node.worker
        (run,) = worker.running
        worker.renewed([(run, "taken")])
        await eventually(lambda: counted(scheduler, "slow").get("taken"))
        assert counted(scheduler, "slow") == {"started": 1, "taken": 1}


def test_an_answer_that_asks_for_another_end_is_none() -> None:
    tallies = Tallies()
    run: Any = SimpleNamespace(tally=None, took=None, job=None, handler=SimpleNamespace(name="t"))
    answers: list[Settled] = ["cancel asked", "map changed", "repeated", "taken"]
    for answer in answers:
        tallies.settled(run, END, answer)
    assert {end: n for end, n in tallies["t"].ends.items() if n} == {"succeeded": 1, "taken": 1}


async def test_nothing_is_counted_or_kept_where_that_is_switched_off(store_url: str) -> None:
    scheduler, ran = Scheduler(store_url, measures=False), asyncio.Event()

    @scheduler.task
    async def work() -> None:
        ran.set()

    async with scheduler:
        async with running(scheduler):
            await work.push()
            await asyncio.wait_for(ran.wait(), 10)
            assert scheduler._node is not None
            assert scheduler._node.worker.meter is None
        assert await kept(scheduler) == {}


@pytest.mark.redis
@pytest.mark.server
async def test_in_redis_a_minute_expires_and_a_namespace_forgets_all(redis_url: str, redis_server: Server) -> None:
    store = RedisStore(redis_url, "mine")
    await store.connect()
    minute = (await store.registry()).now // 60_000
    for ago in (0, 5, KEEP_MINUTES - 1):
        await store.measure(minute - ago, {key_of("q", "t"): {"started": 1}}, KEEP_MINUTES)
    with redis_server.client() as client:
        key = keys.measures("mine", minute)
        assert 0 < client.pttl(key) <= KEEP_MINUTES * 60_000
        await store.forget()
        assert client.keys("*measures*") == []
    await store.close()
