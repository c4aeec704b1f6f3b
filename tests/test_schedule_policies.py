"""What a schedule does beyond its moments: so many times, with jitter, after completion, paused when it fails, its counters."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from duly import Context, Fail, Scheduler, cron, every
from duly.errors import InvalidOption, InvalidTrigger, StoreUnavailable
from duly.views.schedules import ScheduleView
from tests.schedulers import running, shared, watched
from tests.waiting import eventually

RAN: list[float] = []
FAILS = False


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    global FAILS
    FAILS = False
    RAN.clear()


@pytest.fixture
def scheduler(store_url: str) -> Scheduler:
    scheduler = Scheduler(shared(store_url), poll=0.2)
    scheduler.bind("note", note)
    return scheduler


async def note(ctx: Context, *payload: Any) -> None:
    assert ctx.job.nominal is not None
    RAN.append(ctx.job.nominal)
    if FAILS:
        raise Fail("as it was told")


async def view(scheduler: Scheduler, id: str = "s") -> ScheduleView:
    found = await scheduler.schedules.get(id)
    assert found is not None
    return found


async def test_a_schedule_with_times_fires_so_many_ticks_and_stays(scheduler: Scheduler) -> None:
    async with running(scheduler):
        await scheduler.schedules.put("s", every(milliseconds=50), "note", times=3, catch_up="all")

        async def is_over() -> bool:
            found = await view(scheduler)
            return found.fired == 3 and found.next is None and len(RAN) == 3

        await eventually(is_over)
        assert await scheduler.schedules.put("s", every(milliseconds=50), "note", times=5, catch_up="all") is False
        await eventually(lambda: len(RAN) == 5)


async def test_an_interval_after_completion_waits_for_its_run(scheduler: Scheduler) -> None:
    """The next run begins one interval after the end of the last, however long that takes."""
    running_now = 0
    ends: list[float] = []
    gate = asyncio.Event()

    @scheduler.task
    async def slow(ctx: Context) -> None:
        nonlocal running_now
        running_now += 1
        assert running_now == 1
        RAN.append(ctx.job.nominal or 0)
        if len(RAN) == 1:
            await gate.wait()
        running_now -= 1

    async with running(scheduler):
        await scheduler.schedules.put("s", every(milliseconds=200, after_completion=True), slow)
        await eventually(lambda: len(RAN) == 1)
        first = await view(scheduler)
        assert (first.fired, first.living, first.ended) == (1, 1, None)
        gate.set()
        for n in (2, 3):
            ended = (await eventually(lambda: _ended_after(scheduler, ends))).ended
            assert ended is not None
            ends.append(ended)
            await eventually(lambda n=n: len(RAN) >= n)
            assert RAN[n - 1] == pytest.approx(ended + 0.2, abs=0.0011)
        assert (await view(scheduler)).skipped == {}


async def _ended_after(scheduler: Scheduler, ends: list[float]) -> ScheduleView | None:
    found = await view(scheduler)
    return found if found.ended is not None and found.ended > max(ends, default=0) else None


async def test_jitter_moves_the_run_and_not_the_moment(scheduler: Scheduler) -> None:
    async with running(scheduler):
        await scheduler.schedules.put("s", cron("* * * * * *"), "note", jitter=3600)

        async def jobs() -> Any:
            found, _ = await scheduler.jobs.list("pending")
            return found

        (job, *_) = await eventually(jobs)
        nominal = int(job.id.partition("@")[2]) / 1000
        assert nominal == int(nominal)
        assert nominal < job.at <= nominal + 3600


async def test_a_schedule_is_paused_after_so_many_failures_in_a_row(scheduler: Scheduler) -> None:
    global FAILS
    FAILS = True
    async with running(scheduler):
        await scheduler.schedules.put("s", every(milliseconds=100), "note", pause_after=3, overlap="buffer")

        async def is_paused() -> bool:
            return (await view(scheduler)).paused is not None

        await eventually(is_paused)
        found = await view(scheduler)
        assert found.paused == "3 runs in a row have failed"
        assert (found.failures, found.outcome, len(RAN)) == (3, "dead: failed: as it was told", 3)
        FAILS = False
        assert await scheduler.schedules.resume("s")
        await eventually(lambda: len(RAN) > 4)
        found = await view(scheduler)
        assert (found.paused, found.failures, found.outcome) == (None, 0, "ended")


async def test_a_success_between_failures_begins_the_count_anew(scheduler: Scheduler) -> None:
    global FAILS
    async with running(scheduler):
        await scheduler.schedules.put("s", every(hours=1), "note", pause_after=2)
        for FAILS in (True, False, True):
            ran = len(RAN)
            await scheduler.schedules.trigger("s")
            await eventually(lambda ran=ran: len(RAN) == ran + 1)
            expected = 1 if FAILS else 0

            async def is_noted(expected: int = expected) -> bool:
                return (await view(scheduler)).failures == expected

            await eventually(is_noted)
        assert (await view(scheduler)).paused is None


async def test_combined_triggers_fire(scheduler: Scheduler) -> None:
    now = datetime.now(UTC)
    tomorrow = (now + timedelta(days=1)).strftime("%Y-%m-%d")
    trigger = every(milliseconds=70).excluding(tomorrow) | cron("0 0 1 1 *")
    async with running(scheduler):
        await scheduler.schedules.put("s", trigger.between(end=now + timedelta(days=2)), "note", catch_up="all")
        await eventually(lambda: len(RAN) >= 4)
        found = await view(scheduler)
    assert found.trigger.describe().endswith("UTC")
    gaps = {round((b - a) * 1000) for a, b in pairwise(sorted(RAN))}
    assert gaps == {70}


async def test_a_trigger_in_a_union_that_starts_now_fires_at_once(scheduler: Scheduler) -> None:
    async with running(scheduler):
        await scheduler.schedules.put("s", every(hours=1, start="now") | cron("0 0 1 1 *"), "note")
        await eventually(lambda: len(RAN) == 1)


async def test_a_put_makes_its_queue_known(scheduler: Scheduler) -> None:
    async with scheduler:
        await scheduler.schedules.put("s", every(hours=1), "note", queue="rare")
        assert "rare" in await scheduler.queues.list()
        assert await scheduler.clear() == 1


async def test_what_makes_no_sense_is_refused_before_anything_is_written(scheduler: Scheduler) -> None:
    async with scheduler:
        for options, complaint in (
            ({"times": 0}, "times=0"),
            ({"jitter": -1}, "jitter=-1"),
            ({"pause_after": 1.5}, "1.5"),
        ):
            with pytest.raises(InvalidOption, match=complaint):
                await scheduler.schedules.put("s", every(hours=1), "note", **options)
        with pytest.raises(InvalidTrigger, match="joined with"):
            await scheduler.schedules.put("s", "0 9 * * *", "note")  # type: ignore[arg-type]
        assert await scheduler.schedules.get("s") is None


async def test_declared_schedules_take_the_same_policies(store_url: str) -> None:
    scheduler = Scheduler(shared(store_url), poll=0.2)

    @scheduler.every(milliseconds=60, times=2, jitter=0.01, catch_up="all")
    async def twice(ctx: Context) -> None:
        RAN.append(ctx.job.nominal or 0)

    async with running(scheduler):

        async def is_over() -> bool:
            return (await view(scheduler, "twice")).outcome == "ended" and len(RAN) == 2

        await eventually(is_over)


# --- objects that say themselves when they run (interval-scheduler's way), updates after the pending moment ----------


class Refresh:
    """As a user of interval-scheduler writes it."""

    def __init__(self, user: int, interval: float | None, first: datetime) -> None:
        self.user, self.on_execute_reschedule_to, self.execute_on = user, interval, first

    @property
    def id(self) -> str:
        return f"user:{self.user}"

    def serialize(self) -> dict[str, int]:
        return {"user": self.user}


async def test_an_object_is_put_as_it_is(scheduler: Scheduler) -> None:
    got: list[dict[str, int]] = []

    @scheduler.task(name="*")
    async def execute(payload: dict[str, int]) -> None:
        got.append(payload)

    now = datetime.now(UTC)
    async with running(scheduler):
        assert await scheduler.schedules.put(Refresh(7, 3600, now)) is True
        assert await scheduler.schedules.put(Refresh(8, None, now)) is True
        await eventually(lambda: len(got) == 2)
        assert sorted(payload["user"] for payload in got) == [7, 8]
        found = await view(scheduler, "user:7")
        assert (found.task, found.fired, found.next) == ("Refresh", 1, pytest.approx(now.timestamp() + 3600, abs=0.002))
        assert (await view(scheduler, "user:8")).next is None


async def test_of_two_schedulers_that_assign_the_same_object_the_second_changes_nothing(scheduler: Scheduler) -> None:
    now = datetime.now(UTC) + timedelta(hours=1)
    async with scheduler:
        assert await scheduler.schedules.put(Refresh(7, 60, now), task="note") is True
        first = await view(scheduler, "user:7")
        assert await scheduler.schedules.put(Refresh(7, 60, now + timedelta(seconds=3)), task="note") is False
        assert await view(scheduler, "user:7") == first


async def test_an_update_of_an_object_takes_effect_after_the_pending_run(scheduler: Scheduler) -> None:
    """From one minute to ten: it runs in a minute, and every ten minutes from there."""
    async with running(scheduler):
        await scheduler.schedules.put("s", every(seconds=60), "note")
        pending = (await eventually(lambda: _planned(scheduler))).next
        assert await scheduler.schedules.put("s", every(minutes=10), "note", after_pending=True) is False
        edited = await eventually(lambda: _planned(scheduler))
        assert edited.revision == 2
        moments = [moment.timestamp() for moment in await scheduler.schedules.preview("s", 3)]
        assert pending is not None
        assert moments == [pytest.approx(pending + n * 600, abs=0.001) for n in range(3)]
        assert await scheduler.schedules.put("s", cron("0 0 * * *"), "note", after_pending=True) is False
        nightly = await scheduler.schedules.preview("s", 2)
        assert nightly[0].timestamp() == pytest.approx(pending, abs=0.001)
        assert (nightly[1].hour, nightly[1].minute, nightly[1].second) == (0, 0, 0)
        now_at_once = await scheduler.schedules.put("s", every(minutes=10), "note")
        assert now_at_once is False
        assert (await eventually(lambda: _planned(scheduler))).next > pending + 300


async def _planned(scheduler: Scheduler) -> ScheduleView | None:
    found = await view(scheduler)
    return found if found.next is not None else None


async def test_an_object_that_says_too_little_is_refused(scheduler: Scheduler) -> None:
    async with scheduler:
        with pytest.raises(InvalidOption, match="says them itself"):
            await scheduler.schedules.put(object())  # type: ignore[arg-type]
        with pytest.raises(InvalidOption, match="says them itself"):
            await scheduler.schedules.put(Refresh(1, 60, datetime.now(UTC)), every(hours=1))
        with pytest.raises(InvalidTrigger, match="time zone"):
            await scheduler.schedules.put(Refresh(1, 60, datetime(2026, 1, 1)), task="note")


# --- audit -----------------------------------------------------------------------------------------------------------


async def test_an_audit_of_a_schedule_that_ran_is_clean(scheduler: Scheduler) -> None:
    async with running(scheduler):
        await scheduler.schedules.put("s", every(milliseconds=100), "note", catch_up="all")
        await scheduler.schedules.put("other", every(milliseconds=70), "note", catch_up="all")
        await eventually(lambda: len(RAN) > 12)
        found = await scheduler.schedules.audit("s")
        assert found.is_clean
        assert found.fired >= 4
        assert found.expected - found.fired == len(found.overdue) <= 1
        later = await scheduler.schedules.audit("s", since=datetime.now(UTC))
        assert later.expected <= 1
        with pytest.raises(InvalidOption, match="no schedule 'x'"):
            await scheduler.schedules.audit("x")


async def test_an_audit_after_an_outage_says_what_was_skipped(scheduler: Scheduler) -> None:
    async with scheduler:
        await scheduler.schedules.put("s", every(milliseconds=100), "note")
        made = (await scheduler.queues.sizes()).now

        async def is_late() -> bool:
            return (await scheduler.queues.sizes()).now > made + 450

        await eventually(is_late)  # nobody runs: four moments pass
        async with running(scheduler):
            await eventually(lambda: len(RAN) > 0)
            found = await scheduler.schedules.audit("s")
    assert found.skipped["late"] >= 3
    assert found.is_clean


# --- moves -----------------------------------------------------------------------------------------------------------


async def test_a_schedule_moves_to_another_queue_without_losing_or_doubling_a_tick(store_url: str) -> None:
    scheduler = Scheduler(shared(store_url), poll=0.2, queues=["default", "slow"])
    queues: list[tuple[str, float]] = []

    @scheduler.task
    async def where(ctx: Context) -> None:
        queues.append((ctx.job.queue, ctx.job.nominal or 0))

    async with running(scheduler):
        await scheduler.schedules.put("s", every(milliseconds=100), where, catch_up="all")
        await eventually(lambda: len(queues) >= 3)
        assert await scheduler.schedules.move("s", to="slow") is True
        await eventually(lambda: sum(queue == "slow" for queue, _ in queues) >= 3)
        assert await scheduler.schedules.move("s", to="slow") is False
        assert await scheduler.schedules.get("s") is None
        await scheduler.schedules.pause("s", queue="slow")
        moments = sorted(nominal for _, nominal in queues)
    assert {round((after - before) * 1000) for before, after in pairwise(moments)} == {100}
    assert [queue for queue, _ in sorted(queues, key=lambda one: one[1])] == sorted(queue for queue, _ in queues)


@pytest.mark.parametrize("verb", ["steer", "put"])
async def test_a_move_that_was_interrupted_is_finished_by_the_next(scheduler: Scheduler, verb: str) -> None:
    async with scheduler:
        await scheduler.schedules.put("s", every(hours=1), "note")
        made = await view(scheduler)
        shard = scheduler.store.shard("slow" if verb == "put" else "default")
        with watched(shard, verb) as calls:
            calls.faults = [StoreUnavailable("gone")] if verb == "put" else [None, StoreUnavailable("gone")]
            with pytest.raises(StoreUnavailable):
                await scheduler.schedules.move("s", to="slow")
        assert (await view(scheduler)).paused == "it moves to queue 'slow'"
        assert await scheduler.schedules.move("s", to="slow") is True
        moved = await scheduler.schedules.get("s", queue="slow")
        assert moved is not None
        assert (moved.paused, moved.trigger.describe()[:10], made.task) == (None, "every hour", "note")
        assert await scheduler.schedules.get("s") is None


async def test_a_paused_schedule_stays_paused_where_it_goes(scheduler: Scheduler) -> None:
    async with scheduler:
        await scheduler.schedules.put("s", every(hours=1) | cron("0 9 * * *").excluding("sat"), "note")
        await scheduler.schedules.pause("s", "holidays")
        preview = await scheduler.schedules.preview("s", 5)
        await scheduler.schedules.move("s", to="slow")
        moved = await scheduler.schedules.get("s", queue="slow")
        assert moved is not None
        assert moved.paused == "holidays"
        assert await scheduler.schedules.preview("s", 5, queue="slow") == preview


async def test_what_cannot_be_moved_is_refused(scheduler: Scheduler) -> None:
    scheduler.schedule("note", every(hours=1), id="declared")
    async with running(scheduler):
        with pytest.raises(InvalidOption, match="change its queue= there"):
            await scheduler.schedules.move("declared", to="slow")
        with pytest.raises(InvalidOption, match="no schedule 'x'"):
            await scheduler.schedules.move("x", to="slow")
