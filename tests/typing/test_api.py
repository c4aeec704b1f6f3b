"""The public surface as type checkers see it: checked by mypy and by pyright, never run.

Every `type: ignore` below is a proof: the check fails if its line is no error, for mypy with `warn_unused_ignores`, for
pyright with `reportUnnecessaryTypeIgnoreComment`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from duly import (
    Context,
    Discard,
    Event,
    Every,
    Fail,
    JobHandle,
    JobView,
    Lock,
    Retry,
    RetryIn,
    Scheduler,
    Semaphore,
    Snooze,
    SyncJobHandle,
    SyncLock,
    Task,
    Unique,
    at,
    cron,
    current,
    every,
)
from duly.core.trigger import At, Cron
from duly.stores.base import Sizes
from duly.task import Call, JobRequest
from duly.views.schedules import ScheduleView


@asynccontextmanager
async def resources() -> AsyncGenerator[dict[str, int], None]:
    yield {"answer": 42}


async def middleware(ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
    return await call_next()


scheduler = Scheduler("memory://", lifespan=resources, middleware=[middleware], concurrency=10, queues=["mail"])

# --- declarations, with parentheses and without ----------------------------------------------------------------------


@scheduler.task
async def send(order: int, *, to: str = "") -> str:
    return to


@scheduler.task
def send_sync(order: int, *, to: str = "") -> bytes:
    return b""


@scheduler.task
async def with_context(ctx: Context, order: int) -> float:
    return 1.0


@scheduler.task
def with_context_sync(ctx: Context, order: int) -> list[int]:
    return []


@scheduler.task(retry=Retry(limit=3, delay=5), timeout=30)
async def send_late(ctx: Context, order: int, *, to: str = "") -> str:
    return to


@scheduler.task(name="other", aliases=["former"])
def send_other(order: int) -> None: ...


@scheduler.task()
async def nothing() -> None: ...


@scheduler.cron("*/10 * * * * *", timezone="Europe/Paris")
def sweep() -> int:
    return 1


@scheduler.every(minutes=1)
async def poll(ctx: Context, limit: int = 5) -> str:
    return ""


assert_type(nothing, Task[[], None])
assert_type(sweep, Task[[], int])


async def pushes_are_typed_by_the_handler() -> None:
    assert_type(await send.push(42, to="a@b"), JobHandle[str])
    assert_type(await send_sync.push(42), JobHandle[bytes])
    assert_type(send.push_sync(42, to="a@b"), SyncJobHandle[str])
    assert_type(send_sync.options(delay=1).push_sync(42).result(timeout=1), bytes)
    send.push_sync("42")  # type: ignore[arg-type]
    assert_type(scheduler.sync.run(lambda s: s.jobs.get("x")), JobView | None)
    assert_type(await with_context.push(42), JobHandle[float])
    assert_type(await with_context_sync.push(42), JobHandle[list[int]])
    assert_type(await send_late.push(42, to="a@b"), JobHandle[str])
    assert_type(await poll.push(), JobHandle[str])
    assert_type(await poll.push(limit=3), JobHandle[str])
    assert_type(await sweep.push(), JobHandle[int])
    assert_type(await send_other.push(42), JobHandle[None])
    job = await with_context.push(order=42)
    assert_type(await job.result(timeout=10), float)
    assert_type(await (await with_context_sync.push(1)).result(), list[int])
    assert_type((job.id, job.queue, job.answer, job.created), tuple[str, str, str, bool])
    assert_type(await job.cancel(), str)
    assert_type(await job.status(), str)


async def wrong_arguments_are_errors(ctx: Context) -> None:
    await send.push("42")  # type: ignore[arg-type]
    await send.push(42, to=5)  # type: ignore[arg-type]
    await send.push()  # type: ignore[call-arg]
    await send.push(42, "a@b")  # type: ignore[call-arg]
    await send.push(42, copy="a@b")  # type: ignore[call-arg]
    await send_sync.push("42")  # type: ignore[arg-type]
    await send_late.push("42")  # type: ignore[arg-type]
    await send_other.push("42")  # type: ignore[arg-type]
    await nothing.push(1)  # type: ignore[call-arg]
    await sweep.push(1)  # type: ignore[call-arg]
    await poll.push("5")  # type: ignore[arg-type]


async def the_context_is_no_argument_of_a_push(ctx: Context) -> None:
    await with_context.push(ctx, 42)  # type: ignore[call-arg, arg-type]
    await with_context_sync.push(ctx, 42)  # type: ignore[call-arg, arg-type]
    await poll.push(ctx)  # type: ignore[arg-type]


async def options_keep_the_signature() -> None:
    call = send_late.options(delay=5, id="receipt:42")
    assert_type(await call.push(42, to="a"), JobHandle[str])
    assert_type(await call.options(priority=0).push(42), JobHandle[str])
    await call.push("42")  # type: ignore[arg-type]
    await send.options(at=datetime.now(UTC)).push("42")  # type: ignore[arg-type]
    await poll.options(unique=Unique(until="start")).push(1, 2)  # type: ignore[call-arg]
    assert_type(poll.options(delay=5).push_sync(limit=3), SyncJobHandle[str])
    poll.options(delay=5).push_sync(limit="3")  # type: ignore[arg-type]
    send_late.options(delay=5).job("42")  # type: ignore[arg-type]
    send_late.options(delay=5).job(42, too="a")  # type: ignore[call-arg]
    assert_type(await scheduler.push_many(send_late.options(delay=n).job(n, to="a") for n in range(3)), list[str])
    assert_type(send_late.options(delay=5).key(42), str)
    send_late.key("42")  # type: ignore[arg-type]
    stored: Call[[int], float] = with_context.options(timeout=timedelta(seconds=5)).options()
    assert_type(send.options(delay=1).job(1), JobRequest)
    assert stored


async def jobs_are_built_by_the_same_signature() -> None:
    assert_type(send.job(1, to="a"), JobRequest)
    send.job("1")  # type: ignore[arg-type]
    with_context.job()  # type: ignore[call-arg]
    assert_type(await scheduler.push_many(send.job(n) for n in range(10)), list[str])
    await scheduler.push_many([send.push(1)])  # type: ignore[list-item]


async def a_push_must_be_awaited() -> None:
    send.push(42)  # type: ignore[unused-coroutine]
    send.options(delay=5).push(42)  # type: ignore[unused-coroutine]


async def pushes_by_name_say_nothing_of_their_result() -> None:
    assert_type(await scheduler.push("email", {"to": "a@b"}, delay=5), JobHandle[Any])
    assert_type(await scheduler.push("email", args=[1], kwargs={"a": 2}, remote=True), JobHandle[Any])
    assert_type(await scheduler.push(send, 42), JobHandle[Any])
    assert_type(scheduler.sync.push("email", {"to": "a@b"}), SyncJobHandle[Any])
    assert_type(scheduler.sync.push_many([send.job(1), send_other.job(2)]), list[str])
    await scheduler.push("email", args=5)  # type: ignore[arg-type]
    await scheduler.push("email", kwargs=[1])  # type: ignore[arg-type]


def handlers_can_be_bound() -> None:
    assert_type(scheduler.bind("email", send_sync), Task[..., Any])
    assert_type(scheduler.unbind("email"), bool)
    scheduler.bind("email", 5)  # type: ignore[arg-type]
    scheduler.schedule(send, cron("0 9 * * *"), args=(1,), overlap="skip")
    scheduler.schedule("email", "0 9 * * *")  # type: ignore[arg-type]


def triggers_are_values() -> None:
    assert_type(cron("* * * * *", timezone="Europe/Paris"), Cron)
    assert_type(every(minutes=5), Every)
    assert_type(every(timedelta(minutes=5), start="now"), Every)
    assert_type(at(datetime.now(UTC)), At)
    cron(5)  # type: ignore[arg-type]
    every(minutes="5")  # type: ignore[arg-type]
    every(start="later")  # type: ignore[arg-type]
    at("2030-01-01")  # type: ignore[arg-type]


async def schedules_are_typed() -> None:
    assert_type(await scheduler.schedules.put("s", every(seconds=60), send, args=(1,)), bool)
    assert_type(await scheduler.schedules.get("s"), ScheduleView | None)
    assert_type([s.id async for s in scheduler.schedules.list(prefix="user:")], list[str])
    assert_type(await scheduler.schedules.trigger("s"), str)
    await scheduler.schedules.put("s", "* * * * *", send)  # type: ignore[arg-type]
    await scheduler.schedules.pause("s", note=5)  # type: ignore[arg-type]


async def the_rest_of_the_surface_is_typed() -> None:
    assert_type(await scheduler.jobs.get("i", queue="default"), JobView | None)
    assert_type(await scheduler.jobs.why("i"), str)
    assert_type(await scheduler.queues.sizes("mail"), Sizes)
    await scheduler.queues.limit("mail", 5)
    await scheduler.queues.limit("mail", "5")  # type: ignore[arg-type]
    await scheduler.jobs.list("running")  # type: ignore[arg-type]
    async with scheduler as connected, scheduler.lock("report", ttl=60) as lock:
        assert_type(connected, Scheduler)
        assert_type(lock, Lock)
        assert_type(lock.fence, int)
    assert_type(await scheduler.try_lock("user:1"), Lock | None)
    async with scheduler.semaphore("mail", 5, timeout=10, on_loss="cancel") as semaphore:
        assert_type(semaphore, Semaphore)
    assert_type(await scheduler.try_semaphore("mail", 5), Semaphore | None)
    assert_type(scheduler.sync.try_lock("user:1"), SyncLock | None)
    scheduler.lock("report", on_loss="ignore")  # type: ignore[arg-type]
    assert_type(await scheduler.clear(), int)
    scheduler.lock(5)  # type: ignore[arg-type]


async def the_context_is_typed(ctx: Context) -> None:
    assert_type((ctx.attempt, ctx.crashes, ctx.fence, ctx.cancelled), tuple[int, int, int, bool])
    assert_type(ctx.job.id, str)
    assert_type(ctx.push(send, 42), str)
    assert_type(ctx.push(send_late.options(delay=5), 42, to="a"), str)
    ctx.push(with_context, "42")  # type: ignore[arg-type]
    ctx.push(send.options(delay=5), "42")  # type: ignore[arg-type]
    ctx.push("send", 42)  # type: ignore[arg-type]
    assert_type(current(), Context)
    await ctx.progress(0.4, "almost half")
    await ctx.progress("much")  # type: ignore[arg-type]


def signals_and_policies_are_typed() -> None:
    for signal in (RetryIn(30), RetryIn(timedelta(seconds=30)), Snooze(30, "why"), Discard("why"), Fail()):
        assert isinstance(signal, Exception)
    RetryIn("30")  # type: ignore[arg-type]
    Retry(limit="3")  # type: ignore[arg-type]
    Retry(3)  # type: ignore[call-arg]


@scheduler.on("job.*")
def heard(event: Event) -> None:
    assert_type(event.name, str)


heard(Event("job.ended", {}))
