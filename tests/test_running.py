"""Running: how handlers are called, what each end of a run leads to, and how nodes start, share, steer and stop."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import enum
import functools
import logging
import re
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, TypedDict

import msgspec
import pytest

import duly
from duly import (
    Context,
    Discard,
    Event,
    Fail,
    JobFailed,
    JobHandle,
    JobView,
    ResultNotKept,
    ResultTimeout,
    Retry,
    RetryIn,
    Scheduler,
    Snooze,
    current,
    every,
)
from duly.core import codec
from duly.errors import ConfigurationError, DuplicateTask, InvalidOption
from tests.schedulers import running, shared
from tests.waiting import eventually

MS = 0.001
"""The clock of a store counts milliseconds: a moment may come by less than one early."""
AT_ONCE = Retry(limit=3, delay=0, jitter=0)


@pytest.fixture
def url(store_url: str) -> str:
    return shared(store_url)


@pytest.fixture
def scheduler(url: str) -> Scheduler:
    return Scheduler(url, lease=1, grace=2)


async def passing(ctx: Context, call_next: Callable[[], Any]) -> Any:
    """Middleware that does nothing."""
    return await call_next()


@pytest.fixture(params=["alone", "in middleware"])
def with_threads(request: pytest.FixtureRequest, url: str) -> Scheduler:
    """Sync handlers run in threads, by themselves or with middleware around them: both ways lead to the same ends."""
    return Scheduler(url, lease=1, grace=2, middleware=[passing] if request.param == "in middleware" else [])


async def look(scheduler: Scheduler, job: JobHandle[Any] | str) -> JobView | None:
    id, queue = (job, "default") if isinstance(job, str) else (job.id, job.queue)
    return await scheduler.jobs.get(id, queue=queue)


async def in_state(scheduler: Scheduler, job: JobHandle[Any] | str, state: str) -> JobView:
    """The job, once it is in this state."""

    async def is_there() -> JobView | None:
        found = await look(scheduler, job)
        return found if found is not None and found.state == state else None

    found = await eventually(is_there)
    assert found is not None
    return found


async def gone(scheduler: Scheduler, job: JobHandle[Any]) -> None:
    """Return once the store knows nothing of the job."""

    async def is_gone() -> bool:
        return await look(scheduler, job) is None

    await eventually(is_gone)


def heard(scheduler: Scheduler, pattern: str = "*") -> list[Event]:
    events: list[Event] = []
    scheduler.on(pattern, events.append)
    return events


# --- how handlers are called -----------------------------------------------------------------------------------------

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    RAN.clear()


async def async_plain(a: int, b: str = "x") -> None:
    RAN.append((a, b))


def sync_plain(a: int, b: str = "x") -> None:
    RAN.append((a, b))


async def async_with_context(ctx: Context, a: int, b: str = "x") -> None:
    assert (ctx.attempt, ctx.crashes, ctx.cancelled) == (1, 0, False)
    RAN.append((a, b))


def sync_with_context(context: duly.Context, a: int, b: str = "x") -> None:
    assert (context.attempt, context.crashes, context.cancelled) == (1, 0, False)
    RAN.append((a, b))


class Called:
    async def __call__(self, a: int, b: str = "x") -> None:
        RAN.append((a, b))


class Owner:
    def sync_method(self, a: int, b: str = "x") -> None:
        RAN.append((a, b))

    async def async_method(self, ctx: Context, a: int, b: str = "x") -> None:
        assert ctx.fence
        RAN.append((a, b))


HANDLERS: dict[str, Callable[..., Any]] = {
    "async": async_plain,
    "sync": sync_plain,
    "async with context": async_with_context,
    "sync with context": sync_with_context,
    "an object": Called(),
    "a method": Owner().sync_method,
    "an async method": Owner().async_method,
    "a partial": functools.partial(sync_plain, b="z"),
    "an async partial": functools.partial(async_plain, b="z"),
}


@pytest.mark.parametrize("kind", HANDLERS)
async def test_handlers_of_every_kind_are_called_with_what_was_pushed(scheduler: Scheduler, kind: str) -> None:
    task = scheduler.bind("work", HANDLERS[kind])
    async with running(scheduler):
        await task.push(1, b="y")
        await task.push(2)
        await eventually(lambda: len(RAN) == 2)
    assert sorted(RAN) == [(1, "y"), (2, "z" if "partial" in kind else "x")]


async def test_sync_handlers_run_in_threads_and_async_ones_on_the_loop(scheduler: Scheduler) -> None:
    @scheduler.task
    def sync() -> None:
        RAN.append(threading.current_thread() is threading.main_thread())

    @scheduler.task(name="async")
    async def async_() -> None:
        RAN.append(asyncio.get_running_loop() is loop)

    loop = asyncio.get_running_loop()
    async with running(scheduler):
        await sync.push()
        await async_.push()
        await eventually(lambda: len(RAN) == 2)
    assert sorted(RAN) == [False, True]


async def test_a_context_says_what_is_run(scheduler: Scheduler) -> None:
    @scheduler.task(queue="default", priority=2)
    async def work(ctx: Context) -> None:
        RAN.append((ctx.job, ctx.fence))

    async with running(scheduler):
        job = await work.push()
        await eventually(lambda: RAN)
    info, fence = RAN[0]
    assert (info.id, info.task, info.queue, info.priority) == (job.id, "work", "default", 2)
    assert (info.schedule, info.nominal) == (None, None)
    assert abs(info.enqueued_at - time.time()) < 30
    assert fence > 0


async def test_a_declared_function_stays_callable(scheduler: Scheduler) -> None:
    @scheduler.task
    def double(n: int) -> int:
        """Twice as much."""
        return 2 * n

    assert double(21) == 42
    assert (double.name, double.__doc__) == ("double", "Twice as much.")


async def test_a_name_declared_twice_is_refused(scheduler: Scheduler) -> None:
    scheduler.task(name="a", aliases=["b"])(sync_plain)
    for name, aliases in (("a", []), ("b", []), ("c", ["a"]), ("c", ["b"])):
        with pytest.raises(DuplicateTask, match=r"unbind\("):
            scheduler.task(name=name, aliases=aliases)(sync_plain)
    scheduler.task(name="c")(sync_plain)  # nothing of the refused ones was kept


@pytest.mark.parametrize("handler", [None, 5, "print"])
def test_what_cannot_be_called_is_no_handler(handler: Any) -> None:
    with pytest.raises(ConfigurationError, match="cannot be a handler"):
        Scheduler("memory://").bind("a", handler)


@pytest.mark.parametrize("name", ["id", "at", "replace"])
def test_options_of_one_push_cannot_be_declared(name: str) -> None:
    with pytest.raises(InvalidOption, match=r"use \.options"):
        Scheduler("memory://").task(**{name: 5})


def test_aliases_are_names() -> None:
    for aliases in ("old", 5, ["a{b}"], [5]):
        with pytest.raises(InvalidOption):
            Scheduler("memory://").task(aliases=aliases)  # type: ignore[arg-type]


# --- arguments in the handler's own types ----------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    LARGE = 2


@dataclasses.dataclass
class Order:
    id: int
    at: datetime
    lines: list[Decimal] = dataclasses.field(default_factory=list)


class Point(msgspec.Struct, frozen=True):
    x: float
    y: float


class Address(TypedDict):
    street: str
    number: int


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
ID = uuid.UUID(int=7)


def takes_order(value: Order) -> None:
    RAN.append(value)


def takes_point(value: Point) -> None:
    RAN.append(value)


def takes_address(value: Address) -> None:
    RAN.append(value)


def takes_moment(value: datetime) -> None:
    RAN.append(value)


def takes_date(value: date) -> None:
    RAN.append(value)


def takes_duration(value: timedelta) -> None:
    RAN.append(value)


def takes_uuid(value: uuid.UUID) -> None:
    RAN.append(value)


def takes_decimal(value: Decimal) -> None:
    RAN.append(value)


def takes_colour(value: Colour) -> None:
    RAN.append(value)


def takes_size(value: Size) -> None:
    RAN.append(value)


def takes_several(value: dict[str, tuple[Point, ...]] | None) -> None:
    RAN.append(value)


def takes_set(value: set[int]) -> None:
    RAN.append(value)


def takes_anything(value) -> None:  # type: ignore[no-untyped-def]
    RAN.append(value)


def takes_many(*value: Point) -> None:
    RAN.append(value[0])


def takes_keyword(*, value: Point) -> None:
    RAN.append(value)


def takes_keywords(**values: Point) -> None:
    RAN.append(values["value"])


CONVERSIONS: list[tuple[Callable[..., Any], Any]] = [
    (takes_order, Order(1, NOON, [Decimal("1.10"), Decimal(2)])),
    (takes_point, Point(1.5, 2.0)),
    (takes_address, {"street": "Rue", "number": 5}),
    (takes_moment, NOON),
    (takes_date, date(2026, 1, 2)),
    (takes_duration, timedelta(minutes=90, milliseconds=5)),
    (takes_uuid, ID),
    (takes_decimal, Decimal("0.1")),
    (takes_colour, Colour.RED),
    (takes_size, Size.LARGE),
    (takes_several, {"a": (Point(0, 0), Point(1, 1))}),
    (takes_several, None),
    (takes_set, {1, 2, 3}),
    (takes_anything, {"plain": [1, None, True, b"bytes"]}),
    (takes_many, Point(1, 2)),
    (takes_keyword, Point(3, 4)),
    (takes_keywords, Point(5, 6)),
]


@pytest.mark.parametrize(("handler", "value"), CONVERSIONS, ids=lambda value: getattr(value, "__name__", ""))
async def test_arguments_arrive_in_the_types_of_the_handler(handler: Callable[..., Any], value: Any) -> None:
    scheduler = Scheduler("memory://")
    task = scheduler.bind("work", handler)
    async with running(scheduler):
        await (task.push(value=value) if handler in (takes_keyword, takes_keywords) else task.push(value))
        await eventually(lambda: RAN)
    assert [value] == RAN
    assert type(RAN[0]) is type(value)


async def test_defaults_fill_what_was_not_pushed(scheduler: Scheduler) -> None:
    @scheduler.task
    async def work(a: int, b: str = "b", *rest: int, c: int = 3, **more: int) -> None:
        RAN.append((a, b, rest, c, more))

    async with running(scheduler):
        await work.push(1)
        await work.push(1, "x", 5, 6, c=7, d=8)
        await work.push(a=2)
        await eventually(lambda: len(RAN) == 3)
    assert sorted(RAN) == [(1, "b", (), 3, {}), (1, "x", (5, 6), 7, {"d": 8}), (2, "b", (), 3, {})]


# --- unfit jobs ------------------------------------------------------------------------------------------------------


class Picky(msgspec.Struct):
    n: int

    def __post_init__(self) -> None:
        raise LookupError("nothing is good enough")


async def picky(value: Picky) -> None:
    RAN.append(value)


async def stranger(a: str) -> None:
    RAN.append(a)


async def two_arguments(a: int, b: int) -> None:
    RAN.append((a, b))


MISFITS: dict[str, tuple[Callable[..., Any], list[Any], str]] = {
    "wrong type": (async_plain, ["one"], "Expected `int`, got `str`"),
    "too many": (async_plain, [2**63, "x", 3], "3 positional arguments given, at most 2"),
    "too few": (two_arguments, [1], "argument 'b' is missing"),
    "refused": (picky, [{"n": 1}], "nothing is good enough"),
    "incomplete": (picky, [{}], "missing required field `n`"),
}
"""Task -> its handler, the arguments that it is given, and what is said of them."""


async def test_arguments_that_do_not_fit_are_put_back_and_reported(scheduler: Scheduler) -> None:
    """All kinds beside each other, as each comes again only after a while."""
    for task, (handler, _, _) in MISFITS.items():
        scheduler.bind(task, handler)
    events = heard(scheduler, "job.unfit")
    async with running(scheduler):
        jobs = {task: await _from_elsewhere(scheduler, args, task) for task, (_, args, _) in MISFITS.items()}

        def came_again() -> bool:
            reports = Counter(event.facts["id"] for event in events)
            return all(reports[job.id] >= 2 for job in jobs.values())

        await eventually(came_again)
        for task, job in jobs.items():
            said = MISFITS[task][2]
            found = await in_state(scheduler, job, "pending")
            assert (found.attempts, found.crashes) == (0, 0)
            assert said in found.reason
            assert said in await scheduler.jobs.why(job.id)
        for task in jobs:
            scheduler.bind(task, stranger if task == "wrong type" else takes_anything_at_all)
        for job in jobs.values():
            await gone(scheduler, job)
    assert len(RAN) == len(jobs)
    for task, job in jobs.items():
        first = next(event for event in events if event.facts["id"] == job.id)
        assert MISFITS[task][2] in first.facts["reason"]
        assert first.facts["queue"] == "default"


def takes_anything_at_all(*args: Any) -> None:
    RAN.append(args)


async def _from_elsewhere(scheduler: Scheduler, args: list[Any], task: str = "work", **options: Any) -> JobHandle[Any]:
    """Push as a node with other code would: without looking at the handler here."""
    elsewhere = Scheduler(scheduler._urls)
    elsewhere.store = scheduler.store.sibling()
    async with elsewhere:
        pushed = await elsewhere.push(task, args=args, remote=True, **options)
    return JobHandle(scheduler, pushed.queue, pushed.id, pushed.answer, None)


async def test_arguments_that_never_fit_are_dead_in_the_end(url: str) -> None:
    scheduler = Scheduler(url, unfit_for=0.2)
    scheduler.bind("work", async_plain)
    async with running(scheduler):
        job = await _from_elsewhere(scheduler, ["one"])
        found = await in_state(scheduler, job, "dead")
    assert found.reason.startswith("misfit: the arguments of task 'work' do not fit")
    assert found.attempts == 0


async def test_a_job_of_an_unknown_task_waits_for_its_handler(scheduler: Scheduler) -> None:
    events = heard(scheduler, "job.unfit")
    async with running(scheduler):
        job = await _from_elsewhere(scheduler, [7])
        await eventually(lambda: events)
        assert "no task 'work' is declared on this node" in events[0].facts["reason"]
        scheduler.bind("work", RAN.append)
        await gone(scheduler, job)
    assert RAN == [7]


async def test_jobs_that_nobody_can_run_do_not_stand_in_the_way_of_others(url: str) -> None:
    scheduler = Scheduler(url, concurrency=2)
    scheduler.bind("good", RAN.append)
    async with running(scheduler):
        for _ in range(50):
            await scheduler.push("bad", remote=True)
        for n in range(20):
            await scheduler.push("good", n)
        await eventually(lambda: len(RAN) == 20, 5)


async def test_an_envelope_of_a_newer_duly_is_put_back(scheduler: Scheduler) -> None:
    from duly.core.job import NewJob

    async with running(scheduler):
        new = NewJob("newer", bytes((codec.VERSION + 1, 0)) + b"whatever")
        await scheduler.store.shard("default").enqueue("client", 1, [new])

        async def is_put_back() -> bool:
            found = await look(scheduler, "newer")
            return found is not None and f"version {codec.VERSION + 1}" in found.reason

        await eventually(is_put_back)
        found = await in_state(scheduler, "newer", "pending")
        assert (found.task, found.args, found.attempts) == (None, None, 0)


# --- names -----------------------------------------------------------------------------------------------------------


async def test_an_alias_serves_jobs_pushed_under_the_old_name(scheduler: Scheduler) -> None:
    @scheduler.task(aliases=["old", "older"])
    async def new(ctx: Context, n: int) -> None:
        RAN.append((ctx.job.task, n))

    async with running(scheduler):
        await new.push(1)
        await scheduler.push("old", 2)
        await scheduler.push("older", 3)
        await eventually(lambda: len(RAN) == 3)
    assert sorted(RAN) == [("new", 1), ("old", 2), ("older", 3)]


async def test_a_wildcard_takes_what_no_other_name_takes(scheduler: Scheduler) -> None:
    async def anything(ctx: Context, *args: Any) -> None:
        RAN.append((ctx.job.task, args))

    scheduler.bind("*", anything)
    scheduler.bind("own", lambda n: RAN.append(("own", n)))
    async with running(scheduler):
        await scheduler.push("own", 1)
        await scheduler.push("other", 2)
        await scheduler.push("third", args=[3, 4])
        await eventually(lambda: len(RAN) == 3)
    assert sorted(RAN, key=str) == [("other", (2,)), ("own", 1), ("third", (3, 4))]


async def test_what_is_unbound_waits_until_it_is_bound_again(scheduler: Scheduler) -> None:
    scheduler.bind("work", RAN.append)
    async with running(scheduler):
        await scheduler.push("work", 1)
        await eventually(lambda: RAN == [1])
        assert scheduler.unbind("work")
        assert not scheduler.unbind("work")
        job = await scheduler.push("work", 2, remote=True)
        await eventually(lambda: _is_unfit(scheduler, job))
        scheduler.bind("work", lambda n: RAN.append(-n))
        await eventually(lambda: RAN == [1, -2])


async def _is_unfit(scheduler: Scheduler, job: JobHandle[Any]) -> bool:
    return "could not run it" in await scheduler.jobs.why(job.id)


def test_a_bind_replaces_and_a_bind_that_fails_does_not() -> None:
    scheduler = Scheduler("memory://")
    scheduler.bind("work", sync_plain)
    scheduler.bind("work", async_plain)
    with pytest.raises(InvalidOption):
        scheduler.bind("work", sync_plain, timeout=-1)
    with pytest.raises(ConfigurationError):
        scheduler.bind("work", 5)  # type: ignore[arg-type]
    handler = scheduler.resolve("work")[1]
    assert handler is not None
    assert handler.fn is async_plain


def test_an_alias_can_be_taken_away_and_bound_anew() -> None:
    scheduler = Scheduler("memory://")
    scheduler.task(name="new", aliases=["old"])(async_plain)
    assert scheduler.unbind("old")
    scheduler.bind("old", sync_plain)
    assert [scheduler.resolve(name)[1].fn for name in ("new", "old")] == [async_plain, sync_plain]  # type: ignore[union-attr]
    scheduler.task(name="newest", aliases=["former"])(async_plain)
    scheduler.bind("former", sync_plain)
    assert scheduler.resolve("former")[1].fn is sync_plain  # type: ignore[union-attr]


# --- how a run ends --------------------------------------------------------------------------------------------------


async def test_a_run_that_returns_ends_its_job(scheduler: Scheduler) -> None:
    task = scheduler.bind("work", RAN.append)
    async with running(scheduler):
        job = await task.push(1)
        await gone(scheduler, job)
        sizes = await scheduler.queues.sizes()
        assert (sizes.pending, sizes.leased, sizes.dead) == (0, 0, 0)
        assert await job.status() == "ended"
    assert RAN == [1]


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_a_run_that_raises_is_retried_and_dead_after_the_last_try(scheduler: Scheduler, is_async: bool) -> None:
    def fail(ctx: Context) -> None:
        RAN.append(ctx.attempt)
        raise ValueError(f"no {ctx.attempt}")

    async def async_fail(ctx: Context) -> None:
        fail(ctx)

    task = scheduler.bind("work", async_fail if is_async else fail, retry=AT_ONCE)
    async with running(scheduler):
        job = await task.push()
        found = await in_state(scheduler, job, "dead")
    assert RAN == [1, 2, 3, 4]
    assert (found.attempts, found.crashes) == (4, 0)
    assert (found.reason, found.error) == ("failed: ValueError: no 4", "ValueError: no 4")
    assert 'raise ValueError(f"no {ctx.attempt}")' in found.trace


async def test_a_retry_waits_as_long_as_its_policy_says(scheduler: Scheduler) -> None:
    @scheduler.task(retry=Retry(limit=2, delay=0.15, backoff=2, jitter=0))
    async def work() -> None:
        RAN.append(time.monotonic())
        raise ValueError

    async with running(scheduler):
        await in_state(scheduler, await work.push(), "dead")
    first, second = RAN[1] - RAN[0], RAN[2] - RAN[1]
    assert 0.15 - MS <= first < 1.0
    assert 0.30 - MS <= second < 1.5


async def test_between_two_tries_a_job_says_why_it_failed(scheduler: Scheduler) -> None:
    @scheduler.task(retry=Retry(limit=1, delay=60))
    async def work() -> None:
        raise ValueError("first")

    async with running(scheduler):
        job = await work.push()
        found = await eventually(lambda: _has_failed(scheduler, job))
        assert found is not None
        assert (found.state, found.attempts, found.reason) == ("pending", 1, "ValueError: first")
        assert found.at - time.time() > 30
        assert "failed 1 time, last: ValueError: first" in await scheduler.jobs.why(job.id)


async def _has_failed(scheduler: Scheduler, job: JobHandle[Any]) -> JobView | None:
    found = await look(scheduler, job)
    return found if found is not None and found.attempts else None


async def test_retry_in_counts_and_says_when(scheduler: Scheduler) -> None:
    @scheduler.task(retry=Retry(limit=2, delay=600))
    async def work(ctx: Context) -> None:
        RAN.append((ctx.attempt, time.monotonic()))
        raise RetryIn(0.1, "not yet")

    async with running(scheduler):
        found = await in_state(scheduler, await work.push(), "dead")
    assert [attempt for attempt, _ in RAN] == [1, 2, 3]
    assert all(later - earlier >= 0.1 - MS for (_, earlier), (_, later) in pairwise(RAN))
    assert found.reason == "failed: not yet"


async def test_a_snooze_does_not_count(scheduler: Scheduler) -> None:
    @scheduler.task(retry=False)
    async def work(ctx: Context) -> None:
        RAN.append(ctx.attempt)
        if len(RAN) < 6:
            raise Snooze(0.01)

    async with running(scheduler):
        await gone(scheduler, await work.push())
    assert RAN == [1] * 6


async def test_a_discarded_job_ends_and_a_failed_one_is_dead_without_another_try(scheduler: Scheduler) -> None:
    @scheduler.task(keep_result=True)
    async def work(how: str) -> None:
        RAN.append(how)
        raise Discard("not needed") if how == "discard" else Fail("no use")

    async with running(scheduler):
        discarded, failed = await work.push("discard"), await work.push("fail")
        with pytest.raises(JobFailed) as ended:
            await discarded.result(5)
        assert ended.value.reason == "discarded: not needed"
        with pytest.raises(JobFailed) as died:
            await failed.result(5)
        assert died.value.reason == "failed: no use"
        await gone(scheduler, discarded)
        assert (await in_state(scheduler, failed, "dead")).reason == "failed: no use"
    assert sorted(RAN) == ["discard", "fail"]


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), "30", None, -1, 1e300], ids=str)
@pytest.mark.parametrize("signal", [RetryIn, Snooze])
async def test_a_delay_that_is_none_is_a_failure_that_says_so(
    scheduler: Scheduler, signal: Callable[[Any], Exception], seconds: Any
) -> None:
    @scheduler.task(retry=False)
    async def work() -> None:
        raise signal(seconds)

    async with running(scheduler):
        found = await in_state(scheduler, await work.push(), "dead")
    assert f"seconds={seconds!r}" in found.error


async def test_a_delay_can_be_a_timedelta(scheduler: Scheduler) -> None:
    @scheduler.task
    async def work(ctx: Context) -> None:
        RAN.append(ctx.attempt)
        if len(RAN) == 1:
            raise Snooze(timedelta(milliseconds=10))
        if len(RAN) == 2:
            raise RetryIn(timedelta(milliseconds=10))

    async with running(scheduler):
        await gone(scheduler, await work.push())
    assert RAN == [1, 1, 2]


class Unshowable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def _recurse() -> Any:
    return _recurse()


def _raise(error: BaseException) -> Any:
    raise error


ODD_ERRORS: dict[str, Callable[[], Any]] = {
    "SystemExit": lambda: sys.exit(3),
    "KeyboardInterrupt": lambda: _raise(KeyboardInterrupt()),
    "GeneratorExit": lambda: _raise(GeneratorExit()),
    "CancelledError": lambda: _raise(asyncio.CancelledError()),
    "StopIteration": lambda: _raise(StopIteration(5)),
    "an error of half a character": lambda: _raise(ValueError("\ud800")),
    "an error without words": lambda: _raise(ValueError()),
    "an error that cannot be shown": lambda: _raise(Unshowable()),
    "an error of a megabyte": lambda: _raise(ValueError("x" * 1_000_000)),
    "a signal without reason": lambda: _raise(Fail()),
    "a signal with an odd reason": lambda: _raise(Fail(5)),  # type: ignore[arg-type]
    "a group": lambda: _raise(ExceptionGroup("several", [ValueError("one"), KeyError("two")])),
    "an endless recursion": _recurse,
}


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("kind", ODD_ERRORS)
async def test_whatever_a_handler_raises_ends_its_run_and_not_the_node(
    scheduler: Scheduler, kind: str, is_async: bool
) -> None:
    async def async_work() -> None:
        ODD_ERRORS[kind]()

    scheduler.bind("work", async_work if is_async else ODD_ERRORS[kind], retry=False)
    scheduler.bind("good", RAN.append)
    async with running(scheduler):
        found = await in_state(scheduler, await scheduler.push("work"), "dead")
        await scheduler.push("good", 1)
        await eventually(lambda: RAN == [1])
    assert found.reason.startswith("failed")
    assert len(found.error) <= 2000
    assert len(found.trace) <= 8000


async def test_false_is_a_failure_where_the_policy_says_so(scheduler: Scheduler) -> None:
    @scheduler.task(retry=Retry(limit=5, delay=0, on_false=True))
    async def work(ctx: Context) -> bool:
        RAN.append(ctx.attempt)
        return ctx.attempt == 3

    async with running(scheduler):
        await gone(scheduler, await work.push())
    assert RAN == [1, 2, 3]


async def test_a_retry_time_out_tries_again_after_false() -> None:
    scheduler = Scheduler("memory://")

    @scheduler.task(retry_timeout=1)
    async def work(ctx: Context) -> bool:
        RAN.append((ctx.attempt, time.monotonic()))
        return ctx.attempt == 2

    async with running(scheduler):
        await gone(scheduler, await work.push())
    assert [attempt for attempt, _ in RAN] == [1, 2]
    assert 1 - MS <= RAN[1][1] - RAN[0][1] < 2.5


async def test_at_most_once_is_not_tried_again(scheduler: Scheduler) -> None:
    @scheduler.task(delivery="at_most_once")
    async def work(ctx: Context) -> None:
        RAN.append((await look(scheduler, ctx.job.id)).state)  # type: ignore[union-attr]
        raise ValueError("once")

    async with running(scheduler):
        found = await in_state(scheduler, await work.push(), "dead")
    assert (found.reason, RAN) == ("failed: ValueError: once", ["leased"])


async def test_an_async_handler_over_its_time_is_cancelled(scheduler: Scheduler) -> None:
    @scheduler.task(timeout=0.1, retry=Retry(limit=1, delay=0))
    async def work(ctx: Context) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            RAN.append((ctx.attempt, ctx.cancelled))

    async with running(scheduler):
        found = await in_state(scheduler, await work.push(), "dead")
    assert RAN == [(1, True), (2, True)]
    assert found.reason == "failed: ran longer than its timeout of 0.1 s"


async def test_a_thread_over_its_time_is_told_and_its_job_settled_at_once(with_threads: Scheduler) -> None:
    scheduler = with_threads
    events, go_on = heard(scheduler, "node.hung"), threading.Event()

    @scheduler.task(timeout=0.1, retry=False)
    def work(ctx: Context) -> None:
        go_on.wait(20)
        RAN.append(ctx.cancelled)

    async with running(scheduler):
        job = await work.push()
        found = await in_state(scheduler, job, "dead")
        assert RAN == []  # the thread still runs
        go_on.set()
        await eventually(lambda: RAN == [True])
    assert found.reason == "failed: ran longer than its timeout of 0.1 s"
    assert [event.facts["id"] for event in events] == [job.id]


@pytest.mark.parametrize("middleware", [[], [passing]], ids=["alone", "in middleware"])
async def test_a_hung_thread_keeps_its_slot_until_it_ends(url: str, middleware: Any) -> None:
    scheduler, go_on = Scheduler(url, concurrency=1, middleware=middleware), threading.Event()

    @scheduler.task(timeout=0.1, retry=False)
    def hang() -> None:
        go_on.wait(20)

    scheduler.bind("good", RAN.append)
    async with running(scheduler):
        await in_state(scheduler, await hang.push(), "dead")
        job = await scheduler.push("good", 1)
        assert (await look(scheduler, job)).state == "pending"  # type: ignore[union-attr]
        go_on.set()
        await eventually(lambda: RAN == [1])


async def test_a_job_that_waited_too_long_is_not_run(scheduler: Scheduler) -> None:
    @scheduler.task(expires=0.2, keep_result=True)
    async def work() -> None:
        RAN.append(1)

    async with running(scheduler):
        await scheduler.queues.pause()
        job = await work.push()
        pushed = time.monotonic()
        await eventually(lambda: time.monotonic() - pushed > 0.3)
        await scheduler.queues.resume()
        with pytest.raises(JobFailed) as failed:
            await job.result(5)
        assert failed.value.reason == "expired: not run within 0.2 s of its push"
        await gone(scheduler, job)
        await work.push()
        await eventually(lambda: RAN == [1])


# --- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, False, 0, "text", [1, {"a": None}], b"bytes", 2**63], ids=str)
async def test_a_result_that_is_kept_can_be_had(scheduler: Scheduler, value: Any) -> None:
    @scheduler.task(keep_result=True)
    async def work() -> Any:
        return value

    async with running(scheduler):
        job = await work.push()
        assert await job.result(timeout=5) == value
        assert await job.result() == value  # again
        await gone(scheduler, job)
        assert await job.result(timeout=5) == value  # the job is gone, its result is not


async def test_a_result_can_be_waited_for_before_the_job_ends(scheduler: Scheduler) -> None:
    go_on = asyncio.Event()

    @scheduler.task(keep_result=60)
    async def work() -> str:
        await go_on.wait()
        return "done"

    async with running(scheduler):
        job = await work.push()
        waiting = asyncio.ensure_future(job.result(timeout=10))
        with pytest.raises(ResultTimeout, match=r"did not end within 0\.05 s; it goes on"):
            await job.result(timeout=0.05)
        go_on.set()
        assert await waiting == "done"


@pytest.mark.parametrize("push", ["task", "options", "name"])
async def test_a_result_that_is_not_kept_is_refused_at_once(scheduler: Scheduler, push: str) -> None:
    task = scheduler.bind("work", sync_plain, keep_result=push == "options")
    async with scheduler:
        job = await {
            "task": lambda: task.push(1),
            "options": lambda: task.options(keep_result=False).push(1),
            "name": lambda: scheduler.push("work", 1),
        }[push]()
        begun = time.monotonic()
        with pytest.raises(ResultNotKept, match="keep_result=True"):
            await job.result(timeout=30)
        assert time.monotonic() - begun < 1


async def test_the_result_of_a_failed_job_says_how_it_failed(scheduler: Scheduler) -> None:
    @scheduler.task(keep_result=True, retry=False)
    async def work() -> None:
        raise ValueError("no")

    async with running(scheduler):
        job = await work.push()
        with pytest.raises(JobFailed, match="ended as failed: ValueError: no") as failed:
            await job.result(timeout=5)
        assert (failed.value.id, failed.value.reason, failed.value.error) == (
            job.id,
            "failed: ValueError: no",
            "ValueError: no",
        )


async def test_a_failure_that_is_retried_is_no_result_yet(scheduler: Scheduler) -> None:
    @scheduler.task(keep_result=True, retry=AT_ONCE)
    async def work(ctx: Context) -> int:
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return ctx.attempt

    async with running(scheduler):
        assert await (await work.push()).result(timeout=5) == 3


@pytest.mark.parametrize("how", ["deleted and pushed anew", "retried by hand"])
async def test_the_result_of_a_former_life_is_not_that_of_the_present_one(scheduler: Scheduler, how: str) -> None:
    open_ = asyncio.Event()
    broken = True

    @scheduler.task(keep_result=True, retry=False)
    async def work() -> str:
        if broken:
            raise ValueError("no")
        await open_.wait()
        return "done"

    async with running(scheduler):
        job = await work.options(id="a").push()
        with pytest.raises(JobFailed):
            await job.result(timeout=5)
        broken = False
        if how == "retried by hand":
            assert await scheduler.jobs.retry("a") == [True]
        else:
            assert await scheduler.jobs.delete("a") == 1
            job = await work.options(id="a").push()
        with pytest.raises(ResultTimeout):
            await job.result(timeout=0.2)
        open_.set()
        assert await job.result(timeout=5) == "done"


async def test_a_result_that_cannot_be_kept_kills_the_job_and_says_so(scheduler: Scheduler) -> None:
    @scheduler.task(keep_result=True)
    async def work() -> Any:
        RAN.append(1)
        return object()

    async with running(scheduler):
        job = await work.push()
        with pytest.raises(JobFailed, match="its result cannot be kept"):
            await job.result(timeout=5)
        await in_state(scheduler, job, "dead")
    assert RAN == [1]


async def test_a_result_is_gone_when_its_time_is_over(scheduler: Scheduler) -> None:
    @scheduler.task(keep_result=0.1)
    async def work() -> int:
        return 1

    async with running(scheduler):
        job = await work.push()
        await gone(scheduler, job)

        async def is_over() -> bool:
            try:
                await job.result(timeout=5)
            except JobFailed as failed:
                return failed.reason == "gone"
            return False

        await eventually(is_over)


async def test_the_result_of_a_job_pushed_elsewhere_can_be_had(scheduler: Scheduler) -> None:
    scheduler.bind("work", lambda n: 2 * n, keep_result=True)
    async with running(scheduler):
        job = await _from_elsewhere(scheduler, [21])
        assert await job.result(timeout=5) == 42


# --- cancelling ------------------------------------------------------------------------------------------------------


async def test_a_pending_job_that_is_cancelled_never_runs(scheduler: Scheduler) -> None:
    task = scheduler.bind("work", RAN.append)
    async with running(scheduler):
        await scheduler.queues.pause()
        job, other = await task.push(1), await task.push(2)
        assert await job.cancel() == "cancelled"
        assert await job.cancel() == "unknown"
        await scheduler.queues.resume()
        await gone(scheduler, other)
    assert RAN == [2]


async def test_a_running_async_job_that_is_cancelled_ends_soon(scheduler: Scheduler) -> None:
    begun = asyncio.Event()

    @scheduler.task(keep_result=True)
    async def work(ctx: Context) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            RAN.append(ctx.cancelled)

    async with running(scheduler):
        job = await work.push()
        await begun.wait()
        assert await job.cancel() == "asked"
        with pytest.raises(JobFailed) as failed:
            await job.result(timeout=5)
        assert failed.value.reason == "cancelled: cancelled while it ran"
        await gone(scheduler, job)
    assert RAN == [True]


async def test_a_running_thread_that_is_cancelled_sees_it(with_threads: Scheduler) -> None:
    scheduler = with_threads
    begun = threading.Event()

    @scheduler.task
    def work(ctx: Context) -> None:
        begun.set()
        until = time.monotonic() + 10
        while not ctx.cancelled and time.monotonic() < until:
            time.sleep(0.005)
        RAN.append(ctx.cancelled)
        raise ValueError("stopped half way")

    async with running(scheduler):
        job = await work.push()
        await eventually(begun.is_set)
        assert await job.cancel() == "asked"
        await gone(scheduler, job)  # and is not tried again
    assert RAN == [True]


async def test_a_job_asked_to_be_cancelled_is_not_tried_again(scheduler: Scheduler) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    @scheduler.task(retry=AT_ONCE)
    async def work() -> None:
        RAN.append(1)
        begun.set()
        await asyncio.shield(go_on.wait())
        raise ValueError("no")

    async with running(scheduler):
        job = await work.push()
        await begun.wait()
        assert await job.cancel() == "asked"
        go_on.set()
        await gone(scheduler, job)
    assert RAN == [1]


async def test_a_job_that_waits_for_its_next_try_can_be_cancelled(scheduler: Scheduler) -> None:
    @scheduler.task(retry=Retry(delay=60))
    async def work() -> None:
        raise ValueError

    async with running(scheduler):
        job = await work.push()
        await eventually(lambda: _has_failed(scheduler, job))
        assert await job.cancel() == "cancelled"
        assert await look(scheduler, job) is None


async def test_what_is_over_cannot_be_cancelled(scheduler: Scheduler) -> None:
    scheduler.bind("good", RAN.append)
    scheduler.bind("bad", lambda: 1 / 0, retry=False)
    async with running(scheduler):
        await scheduler.push("good", 1, id="good")
        await scheduler.push("bad", id="bad")
        await in_state(scheduler, "good", "ended")
        await in_state(scheduler, "bad", "dead")
        assert await scheduler.jobs.cancel("good", "bad", "never") == ["ended", "dead", "unknown"]


# --- progress, children, resources -----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_progress_can_be_seen_while_the_job_runs(scheduler: Scheduler, is_async: bool) -> None:
    go_on = threading.Event()

    async def async_work(ctx: Context) -> None:
        await ctx.progress(0.4, "almost half")
        await eventually(go_on.is_set)

    def work(ctx: Context) -> None:
        ctx.progress(0.4, "almost half")
        go_on.wait(10)

    task = scheduler.bind("work", async_work if is_async else work)
    async with running(scheduler):
        job = await task.push()

        async def is_seen() -> bool:
            found = await look(scheduler, job)
            return found is not None and found.progress == (0.4, "almost half")

        await eventually(is_seen)
        go_on.set()
        await gone(scheduler, job)


async def test_the_last_progress_wins(scheduler: Scheduler) -> None:
    go_on = asyncio.Event()

    @scheduler.task
    async def work(ctx: Context) -> None:
        for percent in range(100):
            await ctx.progress(percent / 100)
        await go_on.wait()

    async with running(scheduler):
        job = await work.push()

        async def is_seen() -> bool:
            found = await look(scheduler, job)
            return found is not None and found.progress == (0.99, "")

        await eventually(is_seen)
        go_on.set()


async def test_children_are_pushed_only_by_the_run_that_succeeds(scheduler: Scheduler) -> None:
    child = scheduler.bind("child", lambda n: RAN.append(("child", n)))

    @scheduler.task(retry=AT_ONCE)
    def parent(ctx: Context) -> None:
        id = ctx.push(child, ctx.attempt)
        ctx.push(child.options(priority=0, id="named"), -1)
        RAN.append(("parent", id))
        if ctx.attempt < 3:
            raise ValueError("not yet")

    async with running(scheduler):
        await gone(scheduler, await parent.push())
        await eventually(lambda: sorted(found for found in RAN if found[0] == "child") == [("child", -1), ("child", 3)])
        await in_state(scheduler, "named", "ended")

        async def all_is_settled() -> bool:
            sizes = await scheduler.queues.sizes()
            return (sizes.pending, sizes.leased) == (0, 0)

        await eventually(all_is_settled)


@pytest.mark.parametrize("how", ["fail", "discard", "snooze"])
async def test_a_run_that_does_not_return_has_no_children(scheduler: Scheduler, how: str) -> None:
    child = scheduler.bind("child", lambda: RAN.append("child"))

    @scheduler.task(retry=False)
    async def parent(ctx: Context) -> None:
        RAN.append("parent")
        if RAN.count("parent") == 1:
            ctx.push(child)
            raise {"fail": ValueError(), "discard": Discard(), "snooze": Snooze(0.01)}[how]

    async with running(scheduler):
        job = await parent.push()
        await (in_state(scheduler, job, "dead") if how == "fail" else gone(scheduler, job))
        assert (await scheduler.queues.sizes()).pending == 0
    assert "child" not in RAN


async def test_children_may_be_for_other_queues(url: str) -> None:
    scheduler = Scheduler(url, queues=["default", "mail"])
    child = scheduler.bind("child", lambda n: RAN.append(n), queue="mail")  # noqa: PLW0108

    @scheduler.task
    async def parent(ctx: Context) -> None:
        for n in range(3):
            ctx.push(child, n)

    async with running(scheduler):
        await parent.push()
        await eventually(lambda: sorted(RAN) == [0, 1, 2])


async def test_a_child_must_be_a_task_and_fit_it(scheduler: Scheduler) -> None:
    child = scheduler.bind("child", two_arguments)

    @scheduler.task(retry=False)
    async def parent(ctx: Context, how: str) -> None:
        if how == "name":
            ctx.push("child", 1, 2)
        ctx.push(child, 1)

    async with running(scheduler):
        by_name = await in_state(scheduler, await parent.push("name"), "dead")
        unfitting = await in_state(scheduler, await parent.push("args"), "dead")
    assert "InvalidOption: ctx.push('child', …)" in by_name.error
    assert "argument 'b' is missing" in unfitting.error


async def test_what_the_lifespan_yields_is_the_state_of_every_run(url: str) -> None:
    @asynccontextmanager
    async def resources() -> AsyncIterator[dict[str, int]]:
        RAN.append("opened")
        yield {"answer": 42}
        RAN.append("closed")

    scheduler = Scheduler(url, lifespan=resources)
    begun = asyncio.Event()

    @scheduler.task
    async def work(ctx: Context) -> None:
        begun.set()
        await asyncio.sleep(0.05)
        RAN.append(ctx.state["answer"])

    scheduler.bind("sync", lambda: RAN.append(current().state["answer"]))
    for _ in range(2):
        async with running(scheduler):
            await work.push()
            await begun.wait()
            begun.clear()
        # closed after the run that was under way
        assert RAN == ["opened", 42, "closed"]
        RAN.clear()
    async with running(scheduler):
        await scheduler.push("sync")
        await eventually(lambda: RAN == ["opened", 42])


async def test_a_lifespan_that_fails_leaves_nothing_started(url: str) -> None:
    @asynccontextmanager
    async def resources() -> AsyncIterator[None]:
        if not RAN:
            RAN.append("failed")
            raise OSError("no database")
        yield

    scheduler = Scheduler(url, lifespan=resources)
    with pytest.raises(OSError, match="no database"):
        await scheduler.start()
    with pytest.raises(ConfigurationError, match="not connected"):
        await scheduler.queues.sizes()
    async with running(scheduler):
        assert (await scheduler.queues.sizes()).pending == 0


async def test_the_current_run_is_found_anywhere_in_it_and_nowhere_else(scheduler: Scheduler) -> None:
    async def deep() -> str:
        await asyncio.sleep(0)
        return current().job.id

    @scheduler.task(name="async")
    async def async_work() -> None:
        RAN.append((await deep(), await asyncio.create_task(deep()), await asyncio.to_thread(lambda: current().job.id)))

    @scheduler.task(name="sync")
    def sync_work() -> None:
        RAN.append((current().job.id,) * 3)

    async with running(scheduler):
        jobs = [await task.push() for task in (async_work, sync_work) for _ in range(5)]
        await eventually(lambda: len(RAN) == 10)
    assert sorted(RAN) == sorted((job.id,) * 3 for job in jobs)
    with pytest.raises(LookupError, match="outside of a running job"):
        current()


async def test_runs_do_not_see_each_others_context_variables(scheduler: Scheduler) -> None:
    variable = contextvars.ContextVar("variable", default=0)

    @scheduler.task
    async def work(n: int) -> None:
        before = variable.get()
        variable.set(n)
        await asyncio.sleep(0.01)
        RAN.append((before, variable.get() == n))

    async with running(scheduler):
        for n in range(1, 11):
            await work.push(n)
        await eventually(lambda: len(RAN) == 10)
    assert set(RAN) == {(0, True)}


# --- middleware ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_middleware_goes_around_handlers_the_first_one_outermost(url: str, is_async: bool) -> None:
    async def outer(ctx: Context, call_next: Callable[[], Any]) -> Any:
        RAN.append(("outer", ctx.job.task))
        return await call_next() + 1

    async def inner(ctx: Context, call_next: Callable[[], Any]) -> Any:
        RAN.append("inner")
        try:
            return await call_next() * 10
        finally:
            RAN.append("inner after")

    scheduler = Scheduler(url, middleware=[outer, inner])

    def work(ctx: Context, n: int, *, m: int) -> int:
        assert current().job.id == ctx.job.id
        RAN.append("handler")
        return n + m

    async def async_work(ctx: Context, n: int, *, m: int) -> int:
        return work(ctx, n, m=m)

    task = scheduler.bind("work", async_work if is_async else work, keep_result=True)
    async with running(scheduler):
        assert await (await task.push(1, m=2)).result(timeout=5) == 31
    assert RAN == [("outer", "work"), "inner", "handler", "inner after"]


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_middleware_sees_errors_and_may_decide_otherwise(url: str, is_async: bool) -> None:
    async def forgiving(ctx: Context, call_next: Callable[[], Any]) -> Any:
        try:
            return await call_next()
        except LookupError:
            return "forgiven"
        except StopIteration:  # pragma: no cover - Python turns it into RuntimeError on its way
            return "never"

    scheduler = Scheduler(url, middleware=[forgiving])

    def work(kind: str) -> None:
        raise {"lookup": KeyError("a"), "value": ValueError("b"), "fail": Fail("c"), "stop": StopIteration()}[kind]

    async def async_work(kind: str) -> None:
        work(kind)

    task = scheduler.bind("work", async_work if is_async else work, keep_result=True, retry=False)
    async with running(scheduler):
        assert await (await task.push("lookup")).result(timeout=5) == "forgiven"
        for kind, said in (("value", "ValueError: b"), ("fail", "failed: c"), ("stop", "StopIteration")):
            with pytest.raises(JobFailed, match=said):
                await (await task.push(kind)).result(timeout=5)


async def test_middleware_that_calls_nothing_ends_the_run(url: str) -> None:
    async def refusing(ctx: Context, call_next: Callable[[], Any]) -> Any:
        raise Discard("not today")

    scheduler = Scheduler(url, middleware=[refusing])
    task = scheduler.bind("work", RAN.append, keep_result=True)
    async with running(scheduler):
        with pytest.raises(JobFailed, match="discarded: not today"):
            await (await task.push(1)).result(timeout=5)
    assert RAN == []


async def test_a_time_out_goes_through_middleware(url: str) -> None:
    async def noting(ctx: Context, call_next: Callable[[], Any]) -> Any:
        try:
            return await call_next()
        except asyncio.CancelledError:
            RAN.append("cancelled")
            raise

    scheduler = Scheduler(url, middleware=[noting])

    @scheduler.task(timeout=0.1, retry=False)
    async def work() -> None:
        await asyncio.Event().wait()

    async with running(scheduler):
        found = await in_state(scheduler, await work.push(), "dead")
    assert found.reason == "failed: ran longer than its timeout of 0.1 s"
    assert RAN == ["cancelled"]


# --- events ----------------------------------------------------------------------------------------------------------


async def test_events_tell_what_happens_in_this_process(scheduler: Scheduler) -> None:
    events = heard(scheduler)

    @scheduler.task(retry=Retry(limit=1, delay=0))
    async def work(how: str) -> None:
        if how == "badly":
            raise ValueError("no")

    async with running(scheduler):
        good, bad = await work.push("well"), await work.push("badly")
        await gone(scheduler, good)
        await in_state(scheduler, bad, "dead")
        await eventually(lambda: any(event.name == "job.dead" for event in events))
    names = [event.name for event in events]
    assert (names[0], names[-1]) == ("online", "offline")
    assert [e.name for e in events if e.facts.get("id") == good.id] == ["job.started", "job.ended"]
    of_bad = [e for e in events if e.facts.get("id") == bad.id]
    assert [e.name for e in of_bad] == ["job.started", "job.retried", "job.started", "job.dead"]
    assert of_bad[-1].facts == {"id": bad.id, "task": "work", "queue": "default", "reason": "failed: ValueError: no"}


async def test_listeners_hear_what_they_asked_for(scheduler: Scheduler) -> None:
    @scheduler.on("job.*")
    def job(event: Event) -> None:
        RAN.append(("job", event.name))

    @scheduler.on("online")
    async def online(event: Event) -> None:
        await asyncio.sleep(0)
        RAN.append(("online", event.facts["url"]))

    @scheduler.on("job.started")
    def broken(event: Event) -> None:
        raise ValueError("a listener")

    @scheduler.on("job.started")
    async def broken_async(event: Event) -> None:
        raise ValueError("an async listener")

    task = scheduler.bind("work", lambda: None)
    async with running(scheduler):
        await task.push()
        await eventually(lambda: ("job", "job.ended") in RAN)
    assert sorted(RAN) == [("job", "job.ended"), ("job", "job.started"), ("online", scheduler.store.url)]


def test_an_event_that_never_comes_cannot_be_listened_for() -> None:
    scheduler = Scheduler("memory://")
    with pytest.raises(InvalidOption, match=r"did you mean 'job\.ended'\?"):
        scheduler.on("job.endet", print)
    with pytest.raises(InvalidOption, match="unknown event"):
        scheduler.on("", print)


# --- start and stop --------------------------------------------------------------------------------------------------


async def test_a_stop_lets_running_jobs_end(scheduler: Scheduler) -> None:
    begun = asyncio.Event()

    @scheduler.task
    async def work() -> None:
        begun.set()
        await asyncio.sleep(0.2)
        RAN.append("ended")

    async with scheduler:
        await scheduler.start()
        job = await work.push()
        await begun.wait()
        await scheduler.stop()
        assert RAN == ["ended"]
        assert await look(scheduler, job) is None


async def test_a_run_that_outlasts_the_grace_is_cancelled_and_handed_back_uncounted(url: str) -> None:
    scheduler, other = Scheduler(url, lease=60), Scheduler(url, lease=60)
    begun = asyncio.Event()

    async def work(ctx: Context) -> None:
        RAN.append((ctx.attempt, ctx.crashes))
        if begun.is_set():
            return
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            RAN.append(ctx.cancelled)

    for one in (scheduler, other):
        one.bind("work", work, retry=False)
    async with other:
        await scheduler.start()
        job = await other.push("work")
        await begun.wait()
        await scheduler.stop(0.05)
        found = await look(other, job)
        assert found is not None
        assert (found.state, found.attempts, found.crashes) == ("pending", 0, 0)
        async with running(other):  # runs at once: it does not wait for the lease of a minute
            await gone(other, job)
    assert RAN == [(1, 0), True, (1, 0)]


async def test_a_thread_is_waited_for_and_its_end_is_written(with_threads: Scheduler) -> None:
    scheduler = with_threads
    begun, go_on = threading.Event(), threading.Event()

    @scheduler.task
    def work(ctx: Context) -> None:
        begun.set()
        go_on.wait(10)
        RAN.append(ctx.cancelled)

    async with scheduler:
        await scheduler.start()
        job = await work.push()
        await eventually(begun.is_set)
        longer = 0.3 if scheduler.middleware else 1.1  # than the grace, and once than the lease
        asyncio.get_running_loop().call_later(longer, go_on.set)
        await scheduler.stop(0)
        assert RAN == [True]  # it was told that its node stops, and is not run a second time
        assert await look(scheduler, job) is None


async def test_a_started_run_at_most_once_that_a_stop_cuts_short_is_lost(scheduler: Scheduler) -> None:
    begun = asyncio.Event()

    @scheduler.task(delivery="at_most_once")
    async def work() -> None:
        RAN.append(1)
        begun.set()
        await asyncio.Event().wait()

    async with scheduler:
        await scheduler.start()
        job = await work.push()
        await begun.wait()
        await scheduler.stop(0)
        found = await look(scheduler, job)
        assert found is not None
        assert (found.state, found.reason) == ("dead", "lost: its node stopped")
    assert RAN == [1]


async def test_a_scheduler_can_be_started_again_and_again(scheduler: Scheduler) -> None:
    task = scheduler.bind("work", RAN.append)
    nodes = heard(scheduler, "online")
    await scheduler.stop()  # nothing to stop
    async with scheduler:
        for n in range(5):
            await task.push(n)  # runs after the start
            await scheduler.start()
            with pytest.raises(ConfigurationError, match="started already"):
                await scheduler.start()
            await eventually(lambda n=n: RAN[-1:] == [n])
            await scheduler.stop()
            await scheduler.stop()
        await task.push(99)
        assert (await scheduler.queues.sizes()).pending == 1
    assert RAN == [0, 1, 2, 3, 4]
    assert len({event.facts["node"] for event in nodes}) == 5


async def test_a_stopped_node_leaves_the_registry(url: str) -> None:
    one, two = Scheduler(url), Scheduler(url)
    async with two:
        async with running(one):
            assert len((await two.store.registry()).nodes) == 1
        assert len((await two.store.registry()).nodes) == 0


async def test_start_and_stop_in_quick_turns_lose_no_job_and_leave_nothing_behind(scheduler: Scheduler) -> None:
    before = set(threading.enumerate())  # others may have left the thread of the synchronous façade

    @scheduler.task
    async def work(n: int) -> None:
        await asyncio.sleep(0.001)
        RAN.append(n)

    async with scheduler:
        for turn in range(5):
            await scheduler.start()
            for n in range(20):
                await work.push(turn * 20 + n)
            await scheduler.stop(0 if turn % 2 else None)
        await scheduler.start()
        await eventually(lambda: set(RAN) == set(range(100)))
        await scheduler.stop()
        sizes = await scheduler.queues.sizes()
        assert (sizes.pending, sizes.leased, sizes.dead) == (0, 0, 0)
    await eventually(lambda: not any(t.name.startswith("duly") and t not in before for t in threading.enumerate()))


async def test_executing_is_switched_apart_from_accepting(scheduler: Scheduler) -> None:
    task = scheduler.bind("work", RAN.append)
    scheduler.stop_executing()
    assert (scheduler.executing, scheduler.accepting) == (False, True)
    async with running(scheduler):
        job = await task.push(1)
        assert (await look(scheduler, job)).state == "pending"  # type: ignore[union-attr]
        scheduler.start_executing()
        assert scheduler.executing
        await eventually(lambda: RAN == [1])
        scheduler.stop_executing()
        scheduler.stop_accepting()
        assert (scheduler.executing, scheduler.accepting) == (False, False)


async def test_what_runs_goes_on_when_executing_is_stopped(scheduler: Scheduler) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    @scheduler.task
    async def work(n: int) -> None:
        begun.set()
        await go_on.wait()
        RAN.append(n)

    async with running(scheduler):
        first = await work.push(1)
        await begun.wait()
        scheduler.stop_executing()
        second = await work.push(2)
        go_on.set()
        await gone(scheduler, first)
        assert (await look(scheduler, second)).state == "pending"  # type: ignore[union-attr]
        assert RAN == [1]
        scheduler.start_executing()
        await gone(scheduler, second)


# --- queues and nodes ------------------------------------------------------------------------------------------------


async def test_two_nodes_share_the_work_and_each_job_runs_once(url: str) -> None:
    schedulers = [Scheduler(url, concurrency=5) for _ in range(2)]
    for number, one in enumerate(schedulers):

        async def work(n: int, number: int = number) -> None:
            RAN.append((n, number))
            await asyncio.sleep(0.002)

        task = one.bind("work", work)
    async with running(*schedulers):
        await schedulers[1].push_many(task.job(n) for n in range(300))
        await eventually(lambda: len(RAN) >= 300)
    assert Counter(n for n, _ in RAN) == dict.fromkeys(range(300), 1)
    assert {number for _, number in RAN} == {0, 1}


async def test_a_node_runs_no_more_at_once_than_it_has_slots(url: str) -> None:
    scheduler = Scheduler(url, concurrency=4, threads=2)
    now: Counter[str] = Counter()
    most: Counter[str] = Counter()

    def enter(kind: str) -> None:
        now[kind] += 1
        most[kind] = max(most[kind], now[kind])

    async def async_work() -> None:
        enter("async")
        await asyncio.sleep(0.005)
        now["async"] -= 1
        RAN.append(1)

    def sync_work() -> None:
        enter("sync")
        time.sleep(0.005)
        now["sync"] -= 1
        RAN.append(1)

    tasks = [scheduler.bind("async", async_work), scheduler.bind("sync", sync_work)]
    async with running(scheduler):
        for task in tasks:
            RAN.clear()
            await scheduler.push_many(task.job() for _ in range(40))
            await eventually(lambda: len(RAN) == 40)
    assert most == {"async": 4, "sync": 2}


async def test_a_limit_holds_for_the_whole_cluster_and_can_be_taken_away(url: str) -> None:
    schedulers = [Scheduler(url) for _ in range(2)]
    now = most = 0

    async def work() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.005)
        now -= 1
        RAN.append(1)

    tasks = [one.bind("work", work) for one in schedulers]
    async with running(*schedulers):
        await schedulers[0].queues.limit("default", 3)
        assert (await schedulers[1].queues.sizes()).limit == 3
        await schedulers[0].push_many(tasks[0].job() for _ in range(60))
        await eventually(lambda: len(RAN) == 60)
        assert most == 3
        await schedulers[1].queues.limit("default", None)
        assert (await schedulers[0].queues.sizes()).limit is None
        await schedulers[0].push_many(tasks[0].job() for _ in range(60))
        await eventually(lambda: len(RAN) == 120)
    assert most > 3


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "3"])
async def test_a_limit_that_is_none_is_refused(limit: Any) -> None:
    async with Scheduler("memory://") as scheduler:
        with pytest.raises(InvalidOption, match="limit="):
            await scheduler.queues.limit("default", limit)


async def test_a_paused_queue_stands_still_on_every_node_until_it_is_resumed(url: str) -> None:
    schedulers = [Scheduler(url) for _ in range(2)]
    tasks = [one.bind("work", RAN.append) for one in schedulers]
    async with running(*schedulers):
        await schedulers[0].queues.pause()
        assert (await schedulers[1].queues.sizes()).paused
        jobs = [await task.push(n) for n, task in enumerate(tasks)]
        other = await tasks[0].options(queue="other").push(9)
        assert "is paused" in await schedulers[0].jobs.why(jobs[0].id)
        assert "is paused" not in await schedulers[0].jobs.why(other.id, queue="other")
        assert RAN == []
        await schedulers[1].queues.resume()
        await eventually(lambda: sorted(RAN) == [0, 1])


async def test_a_node_serves_its_own_queues_only(url: str) -> None:
    both, mail = Scheduler(url, queues=["default", "mail"]), Scheduler(url, queues=["mail"])
    for one in (both, mail):
        one.bind("work", lambda queue: RAN.append((queue, current().job.queue)))
    async with running(mail):
        for queue in ("mail", "default", "other"):
            await mail.push("work", queue, queue=queue)
        await eventually(lambda: RAN == [("mail", "mail")])
        assert [(await mail.queues.sizes(queue)).pending for queue in ("mail", "default", "other")] == [0, 1, 1]
        async with running(both):
            await eventually(lambda: RAN == [("mail", "mail"), ("default", "default")])
        assert (await mail.queues.sizes("other")).pending == 1


# --- looking and steering --------------------------------------------------------------------------------------------


async def test_why_is_one_true_sentence_for_every_place_a_job_can_be_in(url: str) -> None:
    scheduler = Scheduler(url, concurrency=5)
    begun, go_on = asyncio.Event(), asyncio.Event()

    @scheduler.task
    async def hold() -> None:
        begun.set()
        await go_on.wait()

    scheduler.bind("bad", lambda: 1 / 0, retry=False)
    scheduler.bind("good", RAN.append)
    why = scheduler.jobs.why
    async with running(scheduler):
        assert await why("never") == (
            "queue 'default' knows no job 'never': it ended (only ids given by users are remembered), or never was"
        )
        later = await scheduler.push("good", 1, delay=100)
        assert re.fullmatch(r"it is due in 1 m (40|39) s \(.*\)", await why(later.id))
        held = await hold.push()
        await begun.wait()
        assert f"node {(await look(scheduler, held)).node} runs it, its lease ends in" in await why(held.id)  # type: ignore[union-attr]
        await scheduler.queues.limit("default", 1)
        waiting = await scheduler.push("good", 2)
        assert await why(waiting.id) == "queue 'default' runs its limit of 1 jobs"
        await scheduler.queues.limit("default", None)
        await held.cancel()
        assert (await why(held.id)).endswith("; a cancel was asked") or await why(held.id)
        go_on.set()
        dead = await scheduler.push("bad", id="dead")
        await in_state(scheduler, dead, "dead")
        assert await why("dead") == "it is dead: failed: ZeroDivisionError: division by zero"
        await scheduler.push("good", 3, id="ended")
        await in_state(scheduler, "ended", "ended")
        assert re.fullmatch("it has ended; its id is remembered for (1 h|59 m 59 s) more", await why("ended"))
    async with scheduler:
        due = await scheduler.push("good", 4)
        assert await why(due.id) == "no live node serves queue 'default'"


async def test_a_dead_job_can_be_run_again_from_its_first_attempt(scheduler: Scheduler) -> None:
    @scheduler.task(retry=Retry(limit=1, delay=0))
    async def work(ctx: Context) -> None:
        RAN.append(ctx.attempt)
        if len(RAN) < 4:
            raise ValueError("no")

    async with running(scheduler):
        job = await work.push()
        await in_state(scheduler, job, "dead")
        assert await scheduler.jobs.retry(job.id, "never") == [True, False]
        await eventually(lambda: len(RAN) == 4)
        await gone(scheduler, job)
        assert await scheduler.jobs.retry(job.id) == [False]
    assert RAN == [1, 2, 1, 2]


async def test_jobs_are_listed_by_state_in_pages(scheduler: Scheduler) -> None:
    scheduler.bind("bad", lambda n: 1 / 0, retry=False)
    async with running(scheduler):
        jobs = [await scheduler.push("bad", n) for n in range(25)]
        for job in jobs:
            await in_state(scheduler, job, "dead")
        await scheduler.push("bad", 99, delay=60)
        pages, cursor = [], ""
        while True:
            page, cursor = await scheduler.jobs.list("dead", limit=10, cursor=cursor)
            pages.append(page)
            if not cursor:
                break
        found = [view for page in pages for view in page]
        assert {view.id for view in found} == {job.id for job in jobs}
        assert len(found) == 25
        assert all(len(page) <= 10 for page in pages)
        assert {view.state for view in found} == {"dead"}
        assert [view.args for view in (await scheduler.jobs.list())[0]] == [[99]]
        with pytest.raises(InvalidOption, match="state='running'"):
            await scheduler.jobs.list("running")  # type: ignore[arg-type]


async def test_clear_removes_what_waits_and_what_is_dead_and_leaves_what_runs(url: str) -> None:
    scheduler = Scheduler(url, queues=["default", "mail"])
    begun, go_on = asyncio.Event(), asyncio.Event()

    @scheduler.task
    async def hold() -> None:
        begun.set()
        await go_on.wait()
        RAN.append("held")

    scheduler.bind("bad", lambda: 1 / 0, retry=False)
    scheduler.bind("good", RAN.append)
    async with running(scheduler):
        await hold.push()
        await begun.wait()
        await in_state(scheduler, await scheduler.push("bad"), "dead")
        await scheduler.push_many(scheduler.bind("later", RAN.append, delay=60).job(n) for n in range(1200))
        await scheduler.push("good", 1, delay=60, queue="mail")
        await scheduler.schedules.put("s", every(seconds=60), "good", args=[1])
        assert await scheduler.clear() == 1200 + 1 + 1 + 1
        sizes = await scheduler.queues.sizes()
        assert (sizes.pending, sizes.leased, sizes.dead, sizes.schedules) == (0, 1, 0, 0)
        assert (await scheduler.queues.sizes("mail")).pending == 0
        assert await scheduler.clear(queue="nowhere") == 0
        go_on.set()
        await eventually(lambda: RAN == ["held"])
        assert (await scheduler.push("good", 2)).created
        await eventually(lambda: RAN == ["held", 2])


async def test_clear_of_one_queue_leaves_the_others(scheduler: Scheduler) -> None:
    task = scheduler.bind("work", RAN.append)
    async with scheduler:
        for queue in ("a", "b"):
            await task.options(queue=queue).push(1)
        assert await scheduler.clear(queue="a") == 1
        assert [(await scheduler.queues.sizes(queue)).pending for queue in ("a", "b")] == [0, 1]


async def test_a_cleared_id_can_be_pushed_again(scheduler: Scheduler) -> None:
    task = scheduler.bind("work", RAN.append, unique="k").options(id="i", delay=60)
    async with scheduler:
        await task.push(1)
        assert await scheduler.clear() == 1
        assert (await task.push(1)).created


async def test_a_node_says_in_its_log_what_became_of_a_job(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "duly")

    @scheduler.task(retry=Retry(limit=1, delay=0))
    async def work() -> None:
        raise ValueError("no")

    async with running(scheduler):
        job = await work.push()
        await in_state(scheduler, job, "dead")
    said = [record.getMessage() for record in caplog.records if job.id in record.getMessage()]
    assert said[0] == f"job {job.id} (work) raised: ValueError: no; again in 0.0 s"
    assert said[1].startswith(f"job {job.id} (work) raised: ValueError: no; it is dead\nTraceback")


async def test_a_logger_of_ones_own_is_used(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mine")
    async with running(Scheduler(url, logger=logging.getLogger("mine"))):
        pass
    assert {record.name for record in caplog.records} == {"mine"}
