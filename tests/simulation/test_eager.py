"""Jobs that run where they are pushed, and pushes that are only noted."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
from collections.abc import Awaitable, Callable

import pytest

import duly
from duly import Context, Discard, Fail, RetryIn, Scheduler, Snooze
from duly.core.outcome import Ending
from duly.errors import ConfigurationError, EncodingError, InvalidArguments, JobFailed, NotAccepting, UnknownTask
from duly.testing import EagerJob, eager, recorded


@dataclasses.dataclass
class Order:
    number: int
    at: dt.date


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler("memory://")


# --- eager -----------------------------------------------------------------------------------------------------------


async def test_a_push_runs_the_handler_in_place_and_keeps_its_result(scheduler: Scheduler) -> None:
    @scheduler.task
    async def double(number: int) -> int:
        return 2 * number

    with eager(scheduler):
        job = await double.push(21)
        assert await job.result() == 42
        assert await job.status() == "ended"
        assert await job.cancel() == "ended"
        assert await (await scheduler.push("double", 4)).result() == 8


async def test_a_sync_handler_runs_in_the_same_thread(scheduler: Scheduler) -> None:
    @scheduler.task
    def where() -> int:
        return threading.get_ident()

    with eager(scheduler):
        assert await (await where.push()).result() == threading.get_ident()


def test_plain_code_runs_async_handlers_too(scheduler: Scheduler) -> None:
    @scheduler.task
    async def double(number: int) -> int:
        return 2 * number

    with eager(scheduler):
        job = double.push_sync(3)
        assert job.created
        assert len(scheduler.sync.push_many([double.job(1), double.job(2)])) == 2


async def test_plain_code_inside_a_loop_runs_async_handlers_too(scheduler: Scheduler) -> None:
    ran: list[int] = []

    @scheduler.task
    async def note(number: int) -> None:
        ran.append(number)

    with eager(scheduler):
        note.push_sync(3)
    assert ran == [3]


async def test_arguments_travel_as_they_always_do(scheduler: Scheduler) -> None:
    @scheduler.task
    async def take(order: Order) -> str:
        return type(order.at).__name__

    with eager(scheduler):
        assert await (await take.push(Order(1, dt.date(2026, 1, 2)))).result() == "date"
        with pytest.raises(EncodingError):
            await take.push(object())  # type: ignore[arg-type]
        with pytest.raises(InvalidArguments):
            await take.push("an order")  # type: ignore[arg-type]
        with pytest.raises(InvalidArguments):
            await take.push()  # type: ignore[call-arg]


async def test_what_a_handler_raises_comes_out_of_the_push(scheduler: Scheduler) -> None:
    @scheduler.task
    async def fail() -> None:
        raise LookupError("nobody there")

    with eager(scheduler), pytest.raises(LookupError, match="nobody there"):
        await fail.push()


async def test_what_a_handler_raises_may_be_kept_instead(scheduler: Scheduler) -> None:
    @scheduler.task
    async def fail() -> None:
        raise LookupError("nobody there")

    with eager(scheduler, raises=False):
        job = await fail.push()
    assert await job.status() == "dead"
    with pytest.raises(JobFailed, match="nobody there") as caught:
        await job.result()
    assert isinstance(caught.value.__cause__, LookupError)


@pytest.mark.parametrize(
    ("signal", "ending", "status"),
    [
        (RetryIn(5), Ending.RETRY_IN, "pending"),
        (Snooze(5), Ending.SNOOZED, "pending"),
        (Discard("no"), Ending.DISCARDED, "ended"),
        (Fail("no"), Ending.FAILED, "dead"),
    ],
)
async def test_how_a_handler_says_it_ended_is_known(
    scheduler: Scheduler, signal: Exception, ending: Ending, status: str
) -> None:
    @scheduler.task
    async def say() -> None:
        raise signal

    with eager(scheduler):
        job = await say.push()
    assert isinstance(job, EagerJob)
    assert job.outcome.ending is ending
    assert await job.status() == status


async def test_children_run_after_their_parent_and_not_if_it_failed(scheduler: Scheduler) -> None:
    ran: list[str] = []

    @scheduler.task
    async def child() -> None:
        ran.append("child")

    @scheduler.task
    async def parent(ctx: Context, fails: bool) -> None:
        ctx.push(child)
        ran.append("parent")
        if fails:
            raise Fail

    with eager(scheduler):
        await parent.push(False)
        assert ran == ["parent", "child"]
        await parent.push(True)
        assert ran == ["parent", "child", "parent"]


async def test_the_context_and_the_middleware_are_there(scheduler: Scheduler) -> None:
    async def shout(ctx: Context, call_next: Callable[[], Awaitable[object]]) -> object:
        return f"{await call_next()}!"

    scheduler.middleware.append(shout)

    @scheduler.task(queue="mail")
    async def tell(ctx: Context) -> str:
        await ctx.progress(0.5)
        return f"{ctx.state} {ctx.job.queue} {ctx.attempt} {duly.current().job.id == ctx.job.id}"

    with eager(scheduler, state="s"):
        assert await (await tell.push()).result() == "s mail 1 True!"


async def test_a_task_that_is_declared_elsewhere_cannot_run_here(scheduler: Scheduler) -> None:
    with eager(scheduler), pytest.raises(UnknownTask):
        await scheduler.push("elsewhere", remote=True)


# --- recorded --------------------------------------------------------------------------------------------------------


async def test_pushes_are_noted_and_nothing_runs(scheduler: Scheduler) -> None:
    @scheduler.task(queue="mail")
    async def send(to: str, *, copies: int = 1) -> None:
        raise AssertionError("not to be run")

    with recorded(scheduler) as pushed:
        job = await send.options(delay=5).push("a@b", copies=2)
        await scheduler.push_many([send.job("c@d")])
        send.push_sync("e@f")
    assert len(pushed) == 3
    first = pushed.jobs("send")[0]
    assert (first.id, first.queue, first.args, first.kwargs) == (job.id, "mail", ("a@b",), {"copies": 2})
    assert first.new.delay == 5000
    assert pushed.assert_pushed(send, "a@b", copies=2) is first
    assert pushed.assert_pushed("send", "c@d").args == ("c@d",)
    assert [job.args for job in pushed.jobs()] == [("a@b",), ("c@d",), ("e@f",)]


async def test_arguments_are_compared_as_they_travel(scheduler: Scheduler) -> None:
    @scheduler.task
    async def take(order: Order, notes: dict[str, int]) -> None: ...

    with recorded(scheduler) as pushed:
        await take.push(Order(1, dt.date(2026, 1, 2)), {"b": 1, "a": 2})
    pushed.assert_pushed(take, Order(1, dt.date(2026, 1, 2)), {"a": 2, "b": 1})
    with pytest.raises(AssertionError, match=r"was not pushed; pushed: take\("):
        pushed.assert_pushed(take, Order(2, dt.date(2026, 1, 2)), {})


async def test_what_was_not_pushed_can_be_asserted(scheduler: Scheduler) -> None:
    @scheduler.task
    async def send(to: str) -> None: ...

    with recorded(scheduler) as pushed:
        pushed.assert_not_pushed()
        pushed.assert_not_pushed(send)
        await send.push("a")
        with pytest.raises(AssertionError, match="send was pushed"):
            pushed.assert_not_pushed(send)
        with pytest.raises(AssertionError, match="something was pushed"):
            pushed.assert_not_pushed()
        pushed.assert_not_pushed("another")


async def test_faults_of_a_push_show_when_it_is_only_noted(scheduler: Scheduler) -> None:
    @scheduler.task
    async def send(to: str) -> None: ...

    with recorded(scheduler):
        with pytest.raises(InvalidArguments):
            await send.push()  # type: ignore[call-arg]
        scheduler.stop_accepting()
        with pytest.raises(NotAccepting):
            await send.push("a")


async def test_pushes_go_to_the_store_again_after_the_block(scheduler: Scheduler) -> None:
    @scheduler.task
    async def send(to: str) -> None: ...

    with recorded(scheduler) as pushed, pytest.raises(ConfigurationError, match="already"), eager(scheduler):
        raise AssertionError("not reached")
    async with scheduler:
        job = await send.push("a")
        assert await job.status() == "pending"
    assert len(pushed) == 0
