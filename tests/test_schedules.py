"""Recurring work: schedules declared and put, steered, fired once by whoever comes first."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from duly import Context, Event, Scheduler, UnknownTask, at, cron, every
from duly.errors import (
    ConfigurationError,
    DuplicateTask,
    EncodingError,
    FormatError,
    InvalidArguments,
    InvalidOption,
    InvalidTrigger,
    ScheduleConflict,
)
from duly.runtime.emitter import Emitter
from duly.runtime.ticker import BATCH, BATCHES, Ticker
from duly.stores.base import Due, NewSchedule
from duly.testing import ManualClock
from duly.views.schedules import ScheduleView
from tests.schedulers import running, shared, watched
from tests.waiting import eventually

RAN: list[Any] = []
LONG = every(hours=1)


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    RAN.clear()


@pytest.fixture
def url(store_url: str) -> str:
    return shared(store_url)


@pytest.fixture
def scheduler(url: str) -> Scheduler:
    scheduler = Scheduler(url)
    scheduler.bind("note", note)
    return scheduler


async def note(ctx: Context, *args: Any, **kwargs: Any) -> None:
    RAN.append((ctx.job.schedule, ctx.job.nominal, args, kwargs))


async def view(scheduler: Scheduler, id: str, queue: str = "default") -> ScheduleView:
    found = await scheduler.schedules.get(id, queue=queue)
    assert found is not None
    return found


async def planned(scheduler: Scheduler, id: str) -> ScheduleView:
    """The schedule, once a node has looked at it."""

    async def is_planned() -> ScheduleView | None:
        found = await view(scheduler, id)
        return found if found.next is not None else None

    found = await eventually(is_planned)
    assert found is not None
    return found


def ms(seconds: float) -> int:
    return round(seconds * 1000)


# --- put, get, list, remove ------------------------------------------------------------------------------------------


async def test_a_put_says_whether_the_schedule_is_new(scheduler: Scheduler) -> None:
    async with scheduler:
        assert await scheduler.schedules.put("s", LONG, "note", args=[1]) is True
        assert await scheduler.schedules.put("s", LONG, "note", args=[2]) is False
        found = await view(scheduler, "s")
        assert (found.id, found.queue, found.trigger, found.task, found.revision) == ("s", "default", LONG, "note", 2)
        assert (found.paused, found.last, found.fired, found.skipped, found.app, found.living) == (
            None,
            None,
            0,
            {},
            "",
            0,
        )
        assert await scheduler.schedules.get("other") is None
        assert await scheduler.schedules.get("s", queue="other") is None


async def test_an_equal_put_changes_nothing(scheduler: Scheduler) -> None:
    async def put(**more: Any) -> bool:
        return await scheduler.schedules.put("s", cron("0 9 * * *"), "note", args=[1], kwargs={"a": 1, "b": 2}, **more)

    async with running(scheduler):
        await put(timeout=5)
        before = await planned(scheduler, "s")
        assert not await put(timeout=5.0)
        assert not await scheduler.schedules.put(
            "s", cron("0  9 * * * "), "note", args=(1,), kwargs={"b": 2, "a": 1}, timeout=timedelta(seconds=5)
        )
        assert await view(scheduler, "s") == before
        await put(timeout=6)
        assert (await view(scheduler, "s")).revision == before.revision + 1


async def test_an_edit_that_has_not_seen_a_newer_one_is_refused(scheduler: Scheduler) -> None:
    async with scheduler:
        put = scheduler.schedules.put
        await put("s", LONG, "note", args=[1])
        assert await put("s", LONG, "note", args=[2], revision=1) is False
        with pytest.raises(ScheduleConflict, match="is at revision 2, not 1: read it again"):
            await put("s", LONG, "note", args=[3], revision=1)
        assert (await view(scheduler, "s")).revision == 2
        assert await put("s", LONG, "note", args=[2], revision=1) is False  # what it asks for is there already


async def test_an_edit_changes_the_trigger_and_nothing_else(scheduler: Scheduler) -> None:
    async with scheduler:
        await scheduler.schedules.put("s", LONG, "note", args=[1], kwargs={"a": 2}, overlap="skip", queue="q")
        assert await scheduler.schedules.edit("s", cron("0 9 * * *", timezone="Europe/Paris"), queue="q") is True
        assert await scheduler.schedules.edit("s", cron("0 9 * * *", timezone="Europe/Paris"), queue="q") is False
        found = await view(scheduler, "s", "q")
        assert (found.trigger, found.revision) == (cron("0 9 * * *", timezone="Europe/Paris"), 2)
        assert (
            await scheduler.schedules.put(
                "s",
                cron("0 9 * * *", timezone="Europe/Paris"),
                "note",
                args=[1],
                kwargs={"a": 2},
                overlap="skip",
                queue="q",
            )
        ) is False
        assert (await view(scheduler, "s", "q")).revision == 2  # the rest was as it had been put


async def test_what_cannot_be_edited_is_refused(scheduler: Scheduler) -> None:
    scheduler.schedule("note", LONG, id="of-code")
    async with running(scheduler):
        await scheduler.schedules.put("s", LONG, "note")
        await scheduler.schedules.edit("s", every(hours=2))
        with pytest.raises(ScheduleConflict, match="is at revision 2, not 1"):
            await scheduler.schedules.edit("s", every(hours=3), revision=1)
        with pytest.raises(InvalidOption, match="is declared in the code of app"):
            await scheduler.schedules.edit("of-code", every(hours=3))
        with pytest.raises(InvalidOption, match="has no schedule 'nobody'"):
            await scheduler.schedules.edit("nobody", every(hours=3))
        with pytest.raises(InvalidTrigger, match="give cron"):
            await scheduler.schedules.edit("s", "0 9 * * *")  # type: ignore[arg-type]
        assert (await view(scheduler, "s")).trigger == every(hours=2)


async def test_a_changed_trigger_counts_from_now(scheduler: Scheduler) -> None:
    async with running(scheduler):
        await scheduler.schedules.put("s", every(milliseconds=50), "note")
        await eventually(lambda: len(RAN) >= 2)
        await scheduler.schedules.put("s", LONG, "note")
        edited = (await scheduler.queues.sizes()).now
        found = await eventually(lambda: _planned_after(scheduler, edited / 1000 + 60))
        ran = found.fired
        await eventually(lambda: len(RAN) == ran)
        assert found.revision == 2
    assert sorted(found for found in Counter(nominal for _, nominal, _, _ in RAN).values()) == [1] * ran


async def _planned_after(scheduler: Scheduler, moment: float) -> Any:
    found = await view(scheduler, "s")
    return found if found.next is not None and found.next > moment else None


async def test_schedules_are_listed_by_prefix_through_all_pages(scheduler: Scheduler) -> None:
    async with scheduler:
        for n in range(450):
            await scheduler.schedules.put(f"{'even' if n % 2 == 0 else 'odd'}:{n}", LONG, "note", args=[n])
        found = [schedule.id async for schedule in scheduler.schedules.list()]
        assert len(found) == len(set(found)) == 450
        assert {s.id async for s in scheduler.schedules.list(prefix="odd:")} == {f"odd:{n}" for n in range(1, 450, 2)}
        assert [s async for s in scheduler.schedules.list(queue="other")] == []
        assert (await scheduler.queues.sizes()).schedules == 450
        assert await scheduler.schedules.clear() == 450
        assert [s async for s in scheduler.schedules.list()] == []
        assert await scheduler.schedules.clear() == 0


async def test_a_removed_schedule_is_gone_and_can_be_put_anew(scheduler: Scheduler) -> None:
    async with running(scheduler):
        await scheduler.schedules.put("s", every(milliseconds=50), "note")
        await eventually(lambda: RAN)
        assert await scheduler.schedules.remove("s") is True
        assert await scheduler.schedules.remove("s") is False
        assert await scheduler.schedules.get("s") is None
        assert await scheduler.schedules.put("s", LONG, "note") is True
        assert (await view(scheduler, "s")).fired == 0


@pytest.mark.parametrize("overlap", ["allow", "skip", "buffer"])
async def test_removing_a_schedule_cancels_its_job_that_has_not_started(scheduler: Scheduler, overlap: str) -> None:
    async with running(scheduler):
        scheduler.stop_executing()
        node = Scheduler(scheduler._urls)  # fires, and runs nothing: no handler of that name
        node.store = scheduler.store.sibling()
        await scheduler.queues.pause()
        await scheduler.schedules.put("s", every(hours=1, start="now"), "note", overlap=overlap)
        async with running(node):
            await eventually(lambda: _pending(scheduler, 1))
        assert await scheduler.schedules.remove("s")
        assert (await scheduler.queues.sizes()).pending == 0
        await scheduler.queues.resume()
    assert RAN == []


async def _pending(scheduler: Scheduler, count: int) -> bool:
    return (await scheduler.queues.sizes()).pending == count


async def test_a_queue_has_its_own_schedules(scheduler: Scheduler) -> None:
    async with scheduler:
        for queue in ("a", "b"):
            assert await scheduler.schedules.put("s", LONG, "note", queue=queue)
        assert await scheduler.schedules.remove("s", queue="a")
        assert await scheduler.schedules.get("s", queue="a") is None
        assert (await view(scheduler, "s", "b")).queue == "b"
        assert await scheduler.clear(queue="b") == 1


async def test_a_schedule_of_a_task_with_options_has_them(scheduler: Scheduler) -> None:
    @scheduler.task(queue="mail")
    async def send() -> None: ...

    chosen = send.options(queue="fast", priority=0)
    async with scheduler:
        await scheduler.schedules.put("s", LONG, chosen)
        found = await scheduler.jobs.get(await scheduler.schedules.trigger("s", queue="fast"), queue="fast")
        assert found is not None
        assert found.priority == 0
        await scheduler.schedules.put("s", LONG, chosen, queue="slow", priority=2)
        assert (await view(scheduler, "s", "slow")).queue == "slow"
        with pytest.raises(InvalidOption, match=r"delay=9.* makes no sense for a schedule"):
            await scheduler.schedules.put("t", LONG, send.options(delay=9))


# --- what is refused -------------------------------------------------------------------------------------------------

BAD_PUTS: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "no trigger": (InvalidTrigger, "trigger='* * * * *'", {"trigger": "* * * * *"}),
    "an empty id": (InvalidOption, "schedule id ''", {"id": ""}),
    "an id with spaces": (InvalidOption, "schedule id 'a b'", {"id": "a b"}),
    "an id that is a number": (InvalidOption, "schedule id 5", {"id": 5}),
    "an id too long": (InvalidOption, "1 to 150 characters", {"id": "x" * 151}),
    "an id of half a character": (InvalidOption, "schedule id '\\ud800'", {"id": "\ud800"}),
    "an unknown task": (UnknownTask, "did you mean 'note'?", {"task": "notes"}),
    "arguments that do not fit": (InvalidArguments, "cannot be called so", {"task": "one", "args": [1, 2]}),
    "arguments that cannot travel": (EncodingError, "argument 1 of task 'note'", {"args": [object()]}),
    "arguments that are one text": (InvalidOption, "args='ab'", {"args": "ab"}),
    "a delay": (InvalidOption, "delay=5 makes no sense for a schedule", {"delay": 5}),
    "a moment": (InvalidOption, "at=5 makes no sense", {"at": 5}),
    "replace": (InvalidOption, "replace=True makes no sense", {"replace": True}),
    "a unique key": (InvalidOption, "unique='k' makes no sense", {"unique": "k"}),
    "an unknown option": (InvalidOption, "did you mean 'timeout'?", {"timeot": 5}),
    "a bad option": (InvalidOption, "timeout=0", {"timeout": 0}),
    "a bad policy": (InvalidOption, "did you mean 'buffer'?", {"overlap": "bufer"}),
    "a bad window": (InvalidOption, "window='x'", {"window": "x"}),
    "a bad queue": (InvalidOption, "queue='{q}'", {"queue": "{q}"}),
    "an empty queue": (InvalidOption, "queue=''", {"queue": ""}),
}


@pytest.mark.parametrize("what", BAD_PUTS)
@pytest.mark.parametrize("how", ["put", "schedule"])
async def test_a_bad_schedule_gets_one_clear_error_and_nothing_is_kept(how: str, what: str) -> None:
    kind, said, facts = BAD_PUTS[what]
    async with Scheduler("memory://") as scheduler:
        scheduler.bind("note", note)
        scheduler.bind("one", lambda a: None)
        given = {"id": "s", "trigger": LONG, "task": "note", **facts}
        id, trigger, task = given.pop("id"), given.pop("trigger"), given.pop("task")
        if how == "schedule" and id == "":
            return  # there, the id is the task's name unless it is given

        async def declare() -> None:
            scheduler.schedule(task, trigger, id=id, **given)

        with pytest.raises(kind) as refused:
            await (scheduler.schedules.put(id, trigger, task, **given) if how == "put" else declare())
        assert said in str(refused.value)
        assert "\n" not in str(refused.value)
        assert (await scheduler.queues.sizes()).schedules == 0


async def test_what_speaks_of_an_unknown_schedule_says_so(scheduler: Scheduler) -> None:
    async with scheduler:
        schedules = scheduler.schedules
        assert [await schedules.remove("x"), await schedules.pause("x"), await schedules.resume("x")] == [False] * 3
        for use in (
            lambda: schedules.trigger("x"),
            lambda: schedules.preview("x"),
            lambda: schedules.backfill("x", datetime.now(UTC), datetime.now(UTC)),
        ):
            with pytest.raises(InvalidOption, match="queue 'default' has no schedule 'x'"):
                await use()


async def test_a_schedule_may_be_for_a_task_of_other_nodes(scheduler: Scheduler) -> None:
    async with scheduler:
        assert await scheduler.schedules.put("s", LONG, "elsewhere", args=[1], remote=True)
        assert (await view(scheduler, "s")).task == "elsewhere"


async def test_a_schedule_of_a_newer_duly_is_neither_overwritten_nor_waited_for_for_ever(scheduler: Scheduler) -> None:
    async with scheduler:
        await scheduler.shard("default").put(NewSchedule("s", b"\x81\xa4from\xa6future"))
        async with asyncio.timeout(5):
            for use in (
                lambda: scheduler.schedules.put("s", LONG, "note"),
                lambda: scheduler.schedules.get("s"),
                lambda: scheduler.schedules.trigger("s"),
                lambda: scheduler.schedules.preview("s"),
            ):
                with pytest.raises(FormatError, match="'s' was defined by a newer duly"):
                    await use()
        assert [found async for found in scheduler.schedules.list()] == []
        scheduler.schedule("note", LONG, id="s")
        async with asyncio.timeout(5), running(scheduler):  # a rolling deploy: the old node starts all the same
            await scheduler.push("note")
            await eventually(lambda: RAN)
        assert await scheduler.schedules.clear() == 1


# --- declared in code ------------------------------------------------------------------------------------------------


async def test_declared_schedules_are_put_at_the_start_with_their_app(url: str) -> None:
    scheduler = Scheduler(url, app="shop")

    @scheduler.cron("0 9 * * 1-5", timezone="Europe/Paris", priority=3, catch_up="all")
    def report() -> None: ...

    @scheduler.every(minutes=5, id="poll:all", args=[1], kwargs={"b": 2}, overlap="skip", timeout=5)
    async def poll(a: int, b: int) -> None: ...

    @scheduler.task(queue="mail")
    def mail() -> None: ...

    scheduler.schedule(mail, at(2_000_000_000))
    scheduler.schedule("poll", cron("* * * * *"), id="by-name", args=[3, 4])
    async with running(scheduler):
        found = {s.id: s async for s in scheduler.schedules.list()}
        assert set(found) == {"report", "poll:all", "by-name"}
        assert {s.app for s in found.values()} == {"shop"}
        assert found["report"].trigger == cron("0 9 * * 1-5", timezone="Europe/Paris")
        assert found["poll:all"].task == "poll"
        assert (await view(scheduler, "mail", "mail")).trigger == at(2_000_000_000)
    report()  # the function stays callable
    assert report.name == "report"


async def test_declared_intervals_lie_on_one_grid_for_every_deploy(url: str) -> None:
    nexts = set()
    for _ in range(2):
        scheduler = Scheduler(url)
        scheduler.bind("note", note)
        scheduler.schedule("note", LONG, id="s")
        async with running(scheduler):
            nexts.add((await planned(scheduler, "s")).next)
            assert (await view(scheduler, "s")).revision == 1
    assert len(nexts) == 1


async def test_a_schedule_put_at_run_time_survives_a_start(url: str) -> None:
    scheduler = Scheduler(url)
    scheduler.bind("note", note)
    async with scheduler:
        await scheduler.schedules.put("mine", LONG, "note", args=[1])
        async with running(scheduler):
            assert (await view(scheduler, "mine")).app == ""


def test_a_schedule_declared_twice_is_refused() -> None:
    scheduler = Scheduler("memory://")
    scheduler.bind("note", note)
    scheduler.schedule("note", LONG)
    with pytest.raises(DuplicateTask, match="'note' is declared already"):
        scheduler.schedule("note", every(seconds=5))
    scheduler.schedule("note", every(seconds=5), id="other")
    with pytest.raises(DuplicateTask):
        scheduler.cron("* * * * *", name="note")(lambda: None)


@pytest.mark.parametrize(
    ("declare", "kind", "said"),
    [
        (lambda s: s.cron("61 * * * *"), InvalidTrigger, "61"),
        (lambda s: s.cron("0 0 30 2 *"), InvalidTrigger, "never fires"),
        (lambda s: s.cron("* * * * *", timezone="Mars/Olympus"), InvalidTrigger, "Mars/Olympus"),
        (lambda s: s.cron("* * * * *", dst="sometimes"), ConfigurationError, "sometimes"),
        (lambda s: s.every(), InvalidTrigger, "at least 1 ms"),
        (lambda s: s.every(minutes=-1), InvalidTrigger, "minutes"),
        (lambda s: s.every(minuets=1), ConfigurationError, "minuets"),
        (lambda s: s.cron("* * * * *", dealy=1), InvalidOption, "did you mean 'delay'?"),
        (lambda s: s.every(minutes=1, overlap="no")(lambda: None), InvalidOption, "overlap='no'"),
        (lambda s: s.every(minutes=1)(lambda a: None), InvalidArguments, "'a' is missing"),
    ],
)
def test_a_bad_declaration_is_refused_where_it_stands(declare: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said.replace("?", r"\?")):
        declare(Scheduler("memory://"))


# --- ticks -----------------------------------------------------------------------------------------------------------


async def test_a_decorated_task_runs_by_its_schedule_and_can_be_pushed_too(url: str) -> None:
    scheduler = Scheduler(url)

    @scheduler.every(milliseconds=50, args=["tick"])
    async def sweep(ctx: Context, who: str) -> None:
        RAN.append((ctx.job.schedule, who))

    @scheduler.cron("* * * * * *")
    def second() -> None:
        RAN.append("second")

    async with running(scheduler):
        await sweep.push("hand")
        await eventually(lambda: {("sweep", "tick"), (None, "hand"), "second"} <= set(RAN))


async def test_each_tick_says_its_moment_and_is_on_time(scheduler: Scheduler) -> None:
    late: list[float] = []

    @scheduler.task
    async def tick(ctx: Context) -> None:
        assert ctx.job.nominal is not None
        RAN.append(ms(ctx.job.nominal))
        late.append(ctx.job.enqueued_at - ctx.job.nominal)

    async with running(scheduler):
        await scheduler.schedules.put("s", every(milliseconds=100), "tick")
        await eventually(lambda: len(RAN) >= 5)
    assert [b - a for a, b in pairwise(RAN)] == [100] * (len(RAN) - 1)
    assert all(0 <= seconds < 0.5 for seconds in late)


async def test_an_interval_begins_after_one_interval_or_at_once(scheduler: Scheduler) -> None:
    async with running(scheduler):
        await scheduler.schedules.put("at-once", every(hours=1, start="now"), "note")
        await scheduler.schedules.put("later", LONG, "note")
        await eventually(lambda: RAN)
        found = await planned(scheduler, "at-once")
        assert (found.fired, RAN[0][0]) == (1, "at-once")
        assert found.last is not None
        assert found.next == pytest.approx(found.last + 3600, abs=0.001)
        later = await planned(scheduler, "later")
        assert later.fired == 0
        assert later.next == pytest.approx(time.time() + 3600, abs=30)


async def test_one_moment_in_the_future_fires_once_and_is_over(scheduler: Scheduler) -> None:
    async with running(scheduler):
        moment = (await scheduler.queues.sizes()).now / 1000 + 0.3
        trigger = at(moment)
        await scheduler.schedules.put("s", trigger, "note", args=[1])
        await eventually(lambda: RAN)
        assert (ms(RAN[0][1]), RAN[0][2]) == (trigger.moment, (1,))
        found = await view(scheduler, "s")
        assert (found.fired, found.next) == (1, None)
    assert len(RAN) == 1


async def test_one_moment_of_late_still_fires_and_one_of_long_ago_is_skipped(scheduler: Scheduler) -> None:
    async with running(scheduler):
        now = (await scheduler.queues.sizes()).now / 1000
        await scheduler.schedules.put("late", at(now - 60), "note")
        await scheduler.schedules.put("old", at(now - 7200), "note")
        await eventually(lambda: [found[0] for found in RAN] == ["late"])

        async def is_skipped() -> bool:
            return (await view(scheduler, "old")).skipped == {"late": 1}

        await eventually(is_skipped)
    assert len(RAN) == 1


async def test_missed_ticks_are_caught_up_as_the_policy_says_and_counted(url: str) -> None:
    scheduler = Scheduler(url)
    scheduler.bind("note", note)
    async with scheduler:
        start = (await scheduler.queues.sizes()).now / 1000 - 10.05  # ten ticks are behind, the next comes in an hour
        trigger = every(seconds=1, start=start)
        for id, policy in {"latest": {}, "all": {"catch_up": "all"}, "few": {"catch_up": "all", "window": 5}}.items():
            await scheduler.schedules.put(id, trigger, "note", **policy)
        async with running(scheduler):

            async def are_planned() -> bool:
                found = [await view(scheduler, id) for id in ("latest", "all", "few")]
                return all(s.fired + sum(s.skipped.values()) >= 10 for s in found)

            await eventually(are_planned)
            for id in ("latest", "all", "few"):
                await scheduler.schedules.pause(id)
            found = {id: await view(scheduler, id) for id in ("latest", "all", "few")}
    moments = {s.fired + sum(s.skipped.values()) for s in found.values()}
    assert max(moments) - min(moments) <= 2  # a second may have passed meanwhile
    assert found["all"].skipped == {}
    assert found["latest"].skipped["late"] >= 9
    assert 4 <= found["few"].skipped["late"] <= 7


@pytest.mark.parametrize("kind", ["every", "cron"])
async def test_two_schedulers_fire_each_tick_once(url: str, kind: str) -> None:
    schedulers = [Scheduler(url) for _ in range(2)]
    events: list[Event] = []
    trigger: Any = every(milliseconds=100) if kind == "every" else cron("* * * * * *")
    ticks = 10 if kind == "every" else 2
    for one in schedulers:
        one.bind("note", note)
        one.schedule("note", trigger, id="s", catch_up="all")  # a busy machine may be later than the next tick
        one.on("tick.fired", events.append)
    async with running(*schedulers):
        await eventually(lambda: len(RAN) >= ticks, 15)
        await schedulers[0].schedules.pause("s")
        found = await view(schedulers[1], "s")
        await eventually(lambda: len(RAN) == found.fired)
    moments = sorted(ms(nominal) for _, nominal, _, _ in RAN)
    assert [b - a for a, b in pairwise(moments)] == [100 if kind == "every" else 1000] * (len(moments) - 1)
    assert found.skipped == {}
    await eventually(lambda: sorted(ms(event.facts["nominal"]) for event in events) == moments)


async def test_a_tick_written_by_another_is_not_fired_again(scheduler: Scheduler) -> None:
    """A node that planned, and came too late to write, changes nothing."""
    async with running(scheduler):
        shard = scheduler.store.shard("default")
        with watched(shard, "fire") as calls:
            calls.gate = asyncio.Event()
            await scheduler.schedules.put("s", every(hours=1, start="now"), "note")
            await eventually(lambda: calls.batches)  # planned, and held up on its way
            other = Scheduler(scheduler._urls)
            other.store = scheduler.store.sibling()
            async with running(other):
                await eventually(lambda: RAN)  # `due` shows it again after a second
            calls.gate.set()
        await scheduler.push("note", "after")
        await eventually(lambda: len(RAN) == 2)
        assert (await view(scheduler, "s")).fired == 1
    assert [found[0] for found in RAN] == ["s", None]


@pytest.mark.parametrize("overlap", ["allow", "skip", "buffer"])
async def test_a_slow_run_meets_the_next_tick_as_overlap_says(scheduler: Scheduler, overlap: str) -> None:
    now = most = 0
    begun, go_on = asyncio.Event(), asyncio.Event()

    @scheduler.task
    async def slow(ctx: Context) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        RAN.append(ms(ctx.job.nominal or 0))
        begun.set()
        await go_on.wait()
        now -= 1

    async with running(scheduler):
        await scheduler.schedules.put("s", every(milliseconds=50), "slow", overlap=overlap, catch_up="all")
        await begun.wait()
        held = time.monotonic()
        if overlap == "skip":
            await eventually(lambda: _skipped(scheduler, 3))
        elif overlap == "allow":
            await eventually(lambda: now >= 3)
        else:
            await eventually(lambda: time.monotonic() - held > 0.2)
        if overlap != "allow":
            assert len(RAN) == 1
            assert (await view(scheduler, "s")).living == 1
        go_on.set()
        await eventually(lambda: len(RAN) >= 5)
        await scheduler.schedules.pause("s")
        found = await view(scheduler, "s")
        await eventually(lambda: len(RAN) == found.fired)
    assert (most > 1) == (overlap == "allow")
    assert len(set(RAN)) == len(RAN)
    gaps = [b - a for a, b in pairwise(sorted(RAN))]
    if overlap == "skip":
        assert max(gaps) >= 200
        assert sum(gap // 50 - 1 for gap in gaps) <= found.skipped["overlap"]
    else:  # none is left out: the buffered ones came later
        assert gaps == [50] * (len(RAN) - 1)
        assert found.skipped == {}


async def _skipped(scheduler: Scheduler, count: int) -> bool:
    return (await view(scheduler, "s")).skipped.get("overlap", 0) >= count


async def test_a_run_that_is_retried_still_counts_as_living(scheduler: Scheduler) -> None:
    @scheduler.task(retry=2)
    async def failing() -> None:
        RAN.append(1)
        raise ValueError

    async with running(scheduler):
        await scheduler.schedules.put("s", every(milliseconds=50), "failing", overlap="skip")
        await eventually(lambda: _skipped(scheduler, 3))
        found = await view(scheduler, "s")
        assert (found.fired, found.living) == (1, 1)
    assert RAN == [1]


async def test_options_of_a_schedule_are_those_of_its_jobs(scheduler: Scheduler) -> None:
    tried: list[int] = []

    @scheduler.task
    async def failing(ctx: Context) -> None:
        tried.append(ctx.job.priority)
        raise ValueError

    async with running(scheduler):
        await scheduler.schedules.put("s", every(hours=1, start="now"), failing, priority=3, retry=False)
        await eventually(lambda: _dead(scheduler))
    assert tried == [3]


async def _dead(scheduler: Scheduler) -> bool:
    return (await scheduler.queues.sizes()).dead == 1


# --- steering --------------------------------------------------------------------------------------------------------


async def test_no_tick_comes_before_its_moment(scheduler: Scheduler) -> None:
    """Though a node fetches and plans it a little before."""
    began: list[tuple[float, float | None]] = []

    @scheduler.task
    async def tick(ctx: Context) -> None:
        began.append((time.time(), ctx.job.nominal))

    async with running(scheduler):
        await scheduler.schedules.put("s", every(seconds=0.25), "tick")
        await eventually(lambda: len(began) >= 5)
    assert [moment for moment, nominal in began if nominal is None or moment < nominal] == []


async def test_a_paused_schedule_does_not_tick_and_says_why(scheduler: Scheduler) -> None:
    async with running(scheduler):
        await scheduler.schedules.put("s", every(milliseconds=50), "note")
        await scheduler.schedules.put("other", every(milliseconds=50), "note")
        await eventually(lambda: "s" in [found[0] for found in RAN])
        assert await scheduler.schedules.pause("s", "until the audit is over")
        fired = (await view(scheduler, "s")).fired
        paused = (await scheduler.queues.sizes()).now / 1000
        assert (await view(scheduler, "s")).paused == "until the audit is over"
        await eventually(lambda: sum(found[0] == "other" and found[1] > paused + 0.2 for found in RAN) >= 1)
        assert (await view(scheduler, "s")).fired == fired
        resumed = (await scheduler.queues.sizes()).now / 1000
        assert await scheduler.schedules.resume("s")
        assert (await view(scheduler, "s")).paused is None
        await eventually(lambda: [found for found in RAN if found[0] == "s" and found[1] > resumed])
    assert not [found for found in RAN if found[0] == "s" and paused < found[1] <= resumed]  # from now on


async def test_a_tick_that_is_due_is_fired_before_a_pause(scheduler: Scheduler) -> None:
    async with scheduler:  # no node runs that could have fired it
        just_now = datetime.now(UTC) - timedelta(seconds=1)
        await scheduler.schedules.put("s", at(just_now), "note")
        await scheduler.schedules.pause("s")
        assert (await view(scheduler, "s")).fired == 1
        assert (await scheduler.queues.sizes()).pending == 1
        await scheduler.schedules.pause("s", "again")
        assert (await view(scheduler, "s")).paused == "again"


async def test_pause_without_a_note_is_a_pause(scheduler: Scheduler) -> None:
    async with scheduler:
        await scheduler.schedules.put("s", LONG, "note")
        assert await scheduler.schedules.pause("s")
        assert (await view(scheduler, "s")).paused == "paused"


async def test_an_edit_leaves_a_paused_schedule_paused(scheduler: Scheduler) -> None:
    async with running(scheduler):
        await scheduler.schedules.put("s", LONG, "note")
        await scheduler.schedules.pause("s", "why")
        await scheduler.schedules.put("s", every(milliseconds=20), "note", args=[1])
        await scheduler.push("note", "marker")
        await eventually(lambda: RAN)
        assert (await view(scheduler, "s")).paused == "why"
        assert [found[0] for found in RAN] == [None]
        await scheduler.schedules.resume("s")
        await eventually(lambda: RAN[-1][0] == "s")


async def test_a_trigger_by_hand_is_one_run_beside_the_ticks(scheduler: Scheduler) -> None:
    async with running(scheduler):
        await scheduler.schedules.put("s", LONG, "note", args=[1], kwargs={"a": 2})
        await planned(scheduler, "s")
        ids = {await scheduler.schedules.trigger("s") for _ in range(3)}
        assert len(ids) == 3
        assert all(id.startswith("s!") for id in ids)
        await eventually(lambda: len(RAN) == 3)
        found = await view(scheduler, "s")
        assert (found.fired, found.revision) == (0, 1)
    assert {(found[0], found[2], tuple(found[3].items())) for found in RAN} == {("s", (1,), (("a", 2),))}


async def test_a_backfill_is_one_run_for_each_moment_and_only_once(scheduler: Scheduler) -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    async with running(scheduler):
        await scheduler.schedules.put("s", cron("0 * * * *"), "note")
        assert await scheduler.schedules.backfill("s", start, start + timedelta(hours=5)) == 5
        await eventually(lambda: len(RAN) == 5)
        assert await scheduler.schedules.backfill("s", start, start + timedelta(hours=7)) == 7
        await eventually(lambda: len(RAN) == 7)
        assert await scheduler.schedules.backfill("s", start, start) == 0
        await scheduler.push("note", "marker")
        await eventually(lambda: len(RAN) == 8)
        assert (await view(scheduler, "s")).fired == 0
    nominal = sorted(found[1] for found in RAN if found[0] == "s")
    assert nominal == [(start + timedelta(hours=n)).timestamp() for n in range(7)]


async def test_a_backfill_of_many_moments_is_written_in_pages(scheduler: Scheduler) -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    async with scheduler:
        await scheduler.schedules.put("s", cron("* * * * *"), "note")
        assert await scheduler.schedules.backfill("s", start, start + timedelta(minutes=450)) == 450
        assert (await scheduler.queues.sizes()).pending == 450


async def test_a_backfill_takes_its_bounds_to_the_millisecond(scheduler: Scheduler) -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    async with scheduler:
        await scheduler.schedules.put("s", every(milliseconds=100, start=start), "note")
        first, last = start + timedelta(milliseconds=500), start + timedelta(milliseconds=1200)
        assert await scheduler.schedules.backfill("s", first, last) == 7
        jobs, _ = await scheduler.jobs.list()
        assert sorted(job.id for job in jobs) == sorted(f"s#{ms(first.timestamp()) + n * 100}" for n in range(7))
        with pytest.raises(InvalidOption, match="no time zone"):
            await scheduler.schedules.backfill("s", datetime(2026, 3, 1), last)


async def test_a_preview_shows_the_next_moments_in_the_zone_of_the_schedule(scheduler: Scheduler) -> None:
    paris = ZoneInfo("Europe/Paris")
    async with scheduler:
        await scheduler.schedules.put("s", cron("30 9 * * *", timezone="Europe/Paris"), "note")
        found = await scheduler.schedules.preview("s", 5)
        assert [(moment.hour, moment.minute, moment.tzinfo) for moment in found] == [(9, 30, paris)] * 5
        assert [(b.date() - a.date()).days for a, b in pairwise(found)] == [1] * 4
        assert datetime.now(UTC) - timedelta(minutes=1) < found[0] < datetime.now(UTC) + timedelta(days=1, minutes=1)
        await scheduler.schedules.put("once", at(2_000_000_000), "note")
        assert await scheduler.schedules.preview("once") == [datetime.fromtimestamp(2_000_000_000, UTC)]
        assert await scheduler.schedules.preview("s", 0) == []


async def test_ticks_are_heard_of_in_the_process_that_fired_them(scheduler: Scheduler) -> None:
    events: list[Event] = []
    scheduler.on("tick.*", events.append)
    async with running(scheduler):
        now = (await scheduler.queues.sizes()).now / 1000
        await scheduler.schedules.put("s", every(seconds=20, start=now - 50), "note")
        await eventually(lambda: len(events) >= 2)
    assert [(event.name, event.facts["schedule"], event.facts["queue"]) for event in events[:2]] == [
        ("tick.fired", "s", "default"),
        ("tick.skipped", "s", "default"),
    ]
    assert (events[1].facts["reason"], events[1].facts["count"]) == ("late", 2)


async def test_a_stop_is_heard_though_schedules_stay_due(url: str) -> None:
    """As when a node cannot keep up with a million of them: it fires so many batches, then listens."""
    scheduler = Scheduler(url)
    scheduler.bind("note", note)
    async with scheduler:
        shard, batches = scheduler.shard("default"), 0
        now = (await shard.sizes()).now
        for n in range(BATCH):
            await scheduler.schedules.put(f"s{n}", LONG, "note")
        records = (await shard.schedules(None, "", BATCH)).items

        async def always_due(limit: int, until: int | None = None) -> Due:
            nonlocal batches
            batches += 1
            return Due(now, records)

        class Backlog:
            queue, roused = "default", 0

            def __init__(self) -> None:
                self.shard = type("Shard", (), {"due": staticmethod(always_due), "fire": shard.fire})

            def rouse(self) -> None:
                self.roused += 1

        line = Backlog()
        ticker = Ticker("n", line, Emitter(scheduler.config.logger), scheduler.clock)  # type: ignore[arg-type]
        ticker.looks_due()
        assert await asyncio.wait_for(ticker.tick(), 30) == 0
        assert batches == BATCHES
        assert line.roused > 0  # what was fired is claimed


async def test_with_a_clock_that_stands_still_no_tick_is_fired_ahead() -> None:
    scheduler = Scheduler("memory://", clock=ManualClock())
    scheduler.bind("note", note)
    async with running(scheduler):
        await scheduler.schedules.put("s", every(seconds=0.2), "note")
        await planned(scheduler, "s")
        await asyncio.sleep(0.5)
        assert (await view(scheduler, "s")).fired == 0
