"""Handlers in child processes: called like any other, ended from outside, and alone in their crashes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import select
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duly import ConfigurationError, Context, InvalidOption, JobFailed, JobHandle, JobView, Retry, Scheduler, every
from duly.clock import SYSTEM_CLOCK
from duly.core.codec import pack
from duly.core.job import Claimed
from duly.core.outcome import ChildFailed, Discard, Ending, Fail, RetryIn, Snooze
from duly.runtime import children, locate
from duly.runtime.childprocess import ChildGone, ChildProcess, died_how
from duly.runtime.messages import Cancel, Frames, Load, Loaded, Work, framed, to_child
from duly.runtime.run import Run
from tests import process_broken, process_deadly, process_endless, process_handlers
from tests import process_handlers as handlers
from tests.schedulers import running
from tests.servers import exists
from tests.waiting import eventually

ROOT = Path(__file__).parent.parent
NEVER = Retry(limit=0)
AT_ONCE = Retry(limit=3, delay=0, jitter=0)


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler("memory://", lease=1, grace=2, children=2)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path)


async def answer(scheduler: Scheduler, fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What a handler returns out of a child process of a node that runs already."""
    task = scheduler.bind(f"job-{uuid.uuid4().hex}", fn, executor="process", keep_result=True, **options)
    return await (await task.push(*args)).result(timeout=30)


async def in_state(scheduler: Scheduler, job: JobHandle[Any], state: str | None) -> JobView | None:
    """The job, once it is in this state; None: once the store knows nothing of it."""

    async def is_there() -> bool:
        found = await scheduler.jobs.get(job.id, queue=job.queue)
        return (found.state if found is not None else None) == state

    await eventually(is_there, 30)
    return await scheduler.jobs.get(job.id, queue=job.queue)


async def dead(scheduler: Scheduler, job: JobHandle[Any]) -> JobView:
    found = await in_state(scheduler, job, "dead")
    assert found is not None
    return found


async def there(folder: str, name: str) -> str:
    """What the file says, once it is there."""
    path = Path(folder) / name
    await eventually(path.exists, 30)
    return path.read_text()


def alive(scheduler: Scheduler) -> int:
    """The child processes that the node has."""
    assert scheduler._node is not None
    return len(scheduler._node.worker.children._alive)


# --- how handlers are called -----------------------------------------------------------------------------------------


DECORATED = handlers.decorated.__wrapped__  # type: ignore[attr-defined]  # the task that stands behind the decorator


@pytest.mark.parametrize("fn", [handlers.pid, handlers.pid_async, handlers.declared, DECORATED])
async def test_a_handler_runs_in_another_process(scheduler: Scheduler, fn: Any) -> None:
    async with running(scheduler):
        child = await answer(scheduler, fn)
        assert child != os.getpid()
        assert await answer(scheduler, fn) == child  # kept warm
    assert not exists(child)


@pytest.mark.server
@pytest.mark.redis
async def test_a_handler_runs_in_another_process_over_redis(redis_url: str) -> None:
    scheduler = Scheduler(redis_url, children=1)
    async with running(scheduler):
        assert await answer(scheduler, handlers.pid) not in (os.getpid(), None)


async def test_the_tasks_of_a_module_run_in_processes_as_they_declare(scheduler: Scheduler) -> None:
    async with running(process_handlers.scheduler):
        job = await handlers.declared.push()
        assert await job.result(timeout=30) != os.getpid()


async def test_arguments_arrive_in_the_types_of_the_handler(scheduler: Scheduler) -> None:
    order = handlers.Order(uuid.uuid4(), datetime(2026, 1, 1, tzinfo=UTC), 3)
    async with running(scheduler):
        task = scheduler.bind("kinds", handlers.kinds, executor="process", keep_result=True)
        result = await (await task.push(order, 4, 5, name="x")).result(timeout=30)
    assert result == ["Order", "UUID", "datetime", 3, [4, 5], "x"]


async def test_a_context_says_what_is_run(scheduler: Scheduler) -> None:
    async with running(scheduler):
        task = scheduler.bind("told", handlers.told, executor="process", keep_result=True, priority=2, queue="default")
        job = await task.push()
        facts = await job.result(timeout=30)
    id, name, queue, priority, enqueued_at = facts.pop("job")
    assert (id, name, queue, priority) == (job.id, "told", "default", 2)
    assert enqueued_at > 1.7e9
    assert facts.pop("fence") > 0
    assert facts == {
        "counts": [1, 0],
        "state": None,
        "cancelled": False,
        "current": True,
        "loading": False,
        "inheritable": [],
    }


async def test_the_current_run_is_found_in_each_async_handler(scheduler: Scheduler) -> None:
    async with running(scheduler):
        task = scheduler.bind("told", handlers.told_async, executor="process", keep_result=True)
        for _ in range(3):
            job = await task.push()
            assert await job.result(timeout=30) == job.id


async def test_the_async_handlers_of_a_child_share_one_loop(scheduler: Scheduler) -> None:
    scheduler.configure(children=1)
    async with running(scheduler):
        assert [await answer(scheduler, handlers.same_loop) for _ in range(3)] == [True] * 3


async def test_progress_can_be_seen_while_the_job_runs(scheduler: Scheduler, folder: str) -> None:
    async with running(scheduler):
        for fn in (handlers.report, handlers.report_async):
            job = await scheduler.bind("report", fn, executor="process").push(folder)

            async def reported(job: JobHandle[Any] = job) -> bool:
                found = await scheduler.jobs.get(job.id)
                return found is not None and found.progress == (0.25, "a quarter")

            await eventually(reported, 30)
            handlers.mark(folder, "go")
            await in_state(scheduler, job, None)
            (Path(folder) / "go").unlink()


async def test_what_a_run_reports_when_it_is_over_is_not_taken_for_the_next_ones(folder: str) -> None:
    scheduler = Scheduler("memory://", children=1)
    late = scheduler.bind("late", handlers.report_late, executor="process")
    held = scheduler.bind("held", handlers.held, executor="process")
    async with running(scheduler):
        await in_state(scheduler, await late.push(folder), None)
        job = await held.push(folder, "a")
        await there(folder, "begun-a")
        assert scheduler._node is not None
        (run,) = scheduler._node.worker.running
        handlers.mark(folder, "late")
        await there(folder, "told late")
        found = await scheduler.jobs.get(job.id)
        assert found is not None
        assert (found.progress, run.progress) == (None, None)
        handlers.mark(folder, "go")


@pytest.mark.parametrize("fails", [False, True])
async def test_what_a_run_pushes_is_pushed_with_its_end_or_not_at_all(fails: bool) -> None:
    scheduler = Scheduler("memory://", queues=["default", "mail"], children=1)
    notes: list[str] = []
    scheduler.bind("note", notes.append)
    task = scheduler.bind("parent", handlers.parent, executor="process", retry=NEVER)
    async with running(scheduler):
        job = await task.push(fails)
        if fails:
            await dead(scheduler, job)
        else:
            await eventually(lambda: sorted(notes) == ["here", "there"], 30)
            assert await scheduler.jobs.get("there", queue="mail") is not None  # its own id, remembered
    assert len(notes) == (0 if fails else 2)


async def test_large_arguments_and_results_travel(scheduler: Scheduler) -> None:
    async with running(scheduler):
        assert await answer(scheduler, handlers.length, b"x" * 900_000) == 900_000
        assert await answer(scheduler, handlers.big, 20_000_000) == b"x" * 20_000_000


# --- how a run ends --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fn", [handlers.raising, handlers.raising_async])
@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("error", "failed: ValueError: no such order"),
        ("odd", "failed: ValueError: ?"),
        ("exit", "failed: SystemExit: 7"),
        ("interrupt", "failed: KeyboardInterrupt"),
        ("retry in", "failed: later"),
        ("fail", "failed: never"),
    ],
)
async def test_what_a_handler_raises_ends_its_run_and_not_its_child(
    scheduler: Scheduler, fn: Any, what: str, reason: str
) -> None:
    scheduler.configure(children=1)
    task = scheduler.bind("work", fn, executor="process", retry=NEVER)
    async with running(scheduler):
        child = await answer(scheduler, handlers.pid)
        found = await dead(scheduler, await task.push(0, what))
        assert found.reason == reason
        assert await answer(scheduler, handlers.pid) == child
        if what == "error":
            assert found.error == "ValueError: no such order"
            assert "process_handlers.py" in found.trace


async def test_a_snooze_does_not_count_and_a_discarded_job_ends(scheduler: Scheduler) -> None:
    task = scheduler.bind("work", handlers.raising, executor="process", retry=NEVER)
    async with running(scheduler):
        snoozed = await task.push(3600, "snooze")
        found = await in_state(scheduler, snoozed, "pending")

        async def put_back() -> JobView | None:
            found = await scheduler.jobs.get(snoozed.id)
            return found if found is not None and found.reason == "not yet" else None

        found = await eventually(put_back, 30)
        assert found is not None
        assert found.attempts == 0
        assert found.at > found.enqueued_at + 3000
        await in_state(scheduler, await task.push(0, "discard"), None)


async def test_a_result_that_cannot_be_kept_kills_the_job_and_one_that_need_not_be_does_not(
    scheduler: Scheduler,
) -> None:
    async with running(scheduler):
        with pytest.raises(JobFailed, match="its result cannot be kept: a value of type object cannot be encoded"):
            await answer(scheduler, handlers.unencodable)
        unkept = scheduler.bind("unkept", handlers.unencodable, executor="process")
        await in_state(scheduler, await unkept.push(), None)


async def test_false_is_a_failure_where_the_policy_says_so_though_the_result_is_not_kept(scheduler: Scheduler) -> None:
    strict = scheduler.bind("strict", handlers.false, executor="process", retry=Retry(limit=0, on_false=True))
    lax = scheduler.bind("lax", handlers.false, executor="process")
    async with running(scheduler):
        assert (await dead(scheduler, await strict.push())).reason == "failed: returned False"
        await in_state(scheduler, await lax.push(), None)
        assert await answer(scheduler, handlers.false) is False


async def test_a_coroutine_that_nobody_awaits_is_a_failure(scheduler: Scheduler) -> None:
    async with running(scheduler):
        with pytest.raises(JobFailed, match="returned a coroutine"):
            await answer(scheduler, handlers.coroutine)


# --- crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("exit", "its process ended with exit code 3"),
        ("segv", "its process was killed by signal SIGSEGV"),
        ("nowhere", "its process was killed by signal SIGSEGV"),
        ("kill", "its process was killed by signal SIGKILL (out of memory, perhaps)"),
        ("forked", "its process ended with exit code 4"),
    ],
)
async def test_a_child_that_dies_is_a_crash_of_its_job(scheduler: Scheduler, how: str, said: str) -> None:
    task = scheduler.bind("die", handlers.die, executor="process", max_crashes=1)
    async with running(scheduler):
        found = await dead(scheduler, await task.push(how))
        assert (found.reason, found.error, found.crashes, found.attempts) == (f"crashed: {said}", said, 1, 0)
        assert await answer(scheduler, handlers.pid) != os.getpid()  # there is a new child


async def test_a_poison_job_dies_alone(scheduler: Scheduler, folder: str) -> None:
    poison = scheduler.bind("poison", handlers.die_in, executor="process", max_crashes=3)
    good = scheduler.bind("good", handlers.pid, executor="process", keep_result=True)
    async with running(scheduler):
        first = [await good.push() for _ in range(25)]
        job = await poison.push(folder)
        jobs = [*first, *[await good.push() for _ in range(25)]]
        assert all([await job.result(timeout=30) for job in jobs])
        found = await dead(scheduler, job)
    assert (found.crashes, found.attempts) == (3, 0)
    assert len(handlers.names(folder)) == 3


async def test_a_run_at_most_once_whose_child_dies_is_lost(scheduler: Scheduler, folder: str) -> None:
    task = scheduler.bind("die", handlers.die_in, executor="process", delivery="at_most_once")
    async with running(scheduler):
        found = await dead(scheduler, await task.push(folder))
    assert (found.reason, found.crashes) == ("lost: its process was killed by signal SIGSEGV", 1)
    assert len(handlers.names(folder)) == 1


async def test_a_child_that_dies_idle_is_replaced(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    scheduler.configure(children=1)
    async with running(scheduler):
        child = await answer(scheduler, handlers.die_after_return)
        await eventually(lambda: alive(scheduler) == 0)
        assert not exists(child)
        assert await answer(scheduler, handlers.pid) != child
    assert "an idle child process was killed by signal SIGKILL" in caplog.text


async def test_a_child_killed_while_it_is_idle_costs_the_next_job_nothing(scheduler: Scheduler) -> None:
    scheduler.configure(children=1)
    async with running(scheduler):
        for fn in (handlers.pid, handlers.false, handlers.pid, handlers.pid_async) * 2:
            child = await answer(scheduler, handlers.pid)
            os.kill(child, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):  # reaped already
                os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222  the loop shall not notice it first
            await answer(scheduler, fn, retry=NEVER, max_crashes=1)  # else JobFailed


@pytest.mark.parametrize("how", ["closed", "half closed", "nonsense"])
async def test_a_handler_that_spoils_the_line_to_its_node_loses_its_child(scheduler: Scheduler, how: str) -> None:
    task = scheduler.bind("spoil", handlers.spoil_the_line, executor="process", max_crashes=1)
    async with running(scheduler):
        assert (await dead(scheduler, await task.push(how))).crashes == 1
        assert await answer(scheduler, handlers.pid)


# --- what ends a run from outside ------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_middleware", [False, True])
async def test_a_run_over_its_time_is_killed_and_its_slot_is_free_again(folder: str, with_middleware: bool) -> None:
    async def passing(_ctx: Context, call_next: Callable[[], Any]) -> Any:
        return await call_next()

    middleware = [passing] if with_middleware else []
    scheduler = Scheduler("memory://", lease=1, children=1, concurrency=1, middleware=middleware)
    task = scheduler.bind("hang", handlers.hang, executor="process", timeout=0.5, retry=NEVER)
    async with running(scheduler):
        job = await task.push(folder)
        child = int(await there(folder, "begun"))
        found = await dead(scheduler, job)
        assert not exists(child)  # before its job is settled
        assert found.reason == "failed: ran longer than its timeout of 0.5 s"
        assert await answer(scheduler, handlers.pid) != child


async def test_the_time_that_a_job_waits_for_a_child_is_not_its_own(folder: str) -> None:
    scheduler = Scheduler("memory://", lease=1, children=1)
    holder = scheduler.bind("holder", handlers.held, executor="process")
    waits = scheduler.bind("waits", handlers.pid, executor="process", timeout=0.2, keep_result=True)

    @scheduler.task(timeout=0.4, retry=NEVER)
    async def clock() -> None:
        await asyncio.Event().wait()

    async with running(scheduler):
        await holder.push(folder, "a")
        await there(folder, "begun-a")
        job = await waits.push()
        await in_state(scheduler, job, "leased")
        assert scheduler._node is not None
        run = next(run for run in scheduler._node.worker.running if run.job.id == job.id)
        assert run.deadline is None  # its lease is kept for as long as it waits
        await dead(scheduler, await clock.push())  # longer than the job's time-out has passed
        handlers.mark(folder, "go")
        assert await job.result(timeout=30)
        assert run.deadline is not None


async def test_a_run_keeps_its_lease_for_as_long_as_it_lasts(folder: str) -> None:
    scheduler = Scheduler("memory://", lease=1, children=1)
    task = scheduler.bind("held", handlers.held, executor="process")
    async with running(scheduler):
        job = await task.push(folder, "a")
        await there(folder, "begun-a")
        first = await scheduler.jobs.get(job.id)
        assert first is not None

        async def renewed() -> bool:
            found = await scheduler.jobs.get(job.id)
            return found is not None and found.at > first.at + 1.5  # its lease would have ended

        await eventually(renewed)
        handlers.mark(folder, "go")
        await in_state(scheduler, job, None)


async def test_a_running_job_that_is_cancelled_is_killed(scheduler: Scheduler, folder: str) -> None:
    task = scheduler.bind("hang", handlers.hang, executor="process", keep_result=True)
    async with running(scheduler):
        job = await task.push(folder)
        child = int(await there(folder, "begun"))
        await job.cancel()
        with pytest.raises(JobFailed, match="cancelled while it ran"):
            await job.result(timeout=30)
        assert not exists(child)


async def test_a_handler_that_looks_may_end_by_itself_and_its_child_lives(scheduler: Scheduler, folder: str) -> None:
    scheduler.configure(children=1)
    task = scheduler.bind("cooperative", handlers.cooperative, executor="process")
    async with running(scheduler):
        job = await task.push(folder)
        child = int(await there(folder, "begun"))
        await job.cancel()
        await there(folder, "seen")
        await in_state(scheduler, job, None)
        assert await answer(scheduler, handlers.pid) == child


async def test_a_handler_that_sees_its_time_out_has_timed_out_whatever_it_returns(
    scheduler: Scheduler, folder: str
) -> None:
    scheduler.configure(children=1)
    task = scheduler.bind("cooperative", handlers.cooperative, executor="process", timeout=0.3, retry=NEVER)
    async with running(scheduler):
        job = await task.push(folder)
        child = int(await there(folder, "seen"))
        assert (await dead(scheduler, job)).reason == "failed: ran longer than its timeout of 0.3 s"
        assert await answer(scheduler, handlers.pid) == child


async def test_an_async_handler_that_is_cancelled_cleans_up_and_its_child_lives(
    scheduler: Scheduler, folder: str
) -> None:
    scheduler.configure(children=1)
    task = scheduler.bind("cleaning", handlers.cleaning, executor="process", timeout=0.3, retry=NEVER)
    async with running(scheduler):
        job = await task.push(folder)
        child = int(await there(folder, "cleaned"))
        assert "timeout" in (await dead(scheduler, job)).reason
        assert await answer(scheduler, handlers.pid) == child


async def test_a_run_whose_lease_was_taken_is_killed_at_once(scheduler: Scheduler, folder: str) -> None:
    task = scheduler.bind("cooperative", handlers.cooperative, executor="process")
    async with running(scheduler):
        await task.push(folder)
        child = int(await there(folder, "begun"))
        assert scheduler._node is not None
        worker = scheduler._node.worker
        (run,) = worker.running
        worker.renewed([(run, "taken")])
        await eventually(lambda: not exists(child) and not worker.running)
    assert not (Path(folder) / "seen").exists()  # another node runs it by now


# --- stopping --------------------------------------------------------------------------------------------------------


async def test_a_stop_lets_what_runs_end_and_hands_back_what_waits_for_a_child(folder: str) -> None:
    scheduler = Scheduler("memory://", lease=1, children=1, grace=100)
    task = scheduler.bind("held", handlers.held, executor="process", delivery="at_most_once")
    async with scheduler:
        await scheduler.start()
        first = await task.push(folder, "a")
        await there(folder, "begun-a")
        second = await task.push(folder, "b")
        await in_state(scheduler, second, "leased")
        stopping = asyncio.create_task(scheduler.stop())
        found = await in_state(scheduler, second, "pending")  # at once, not after the grace
        assert found is not None
        assert (found.attempts, found.crashes, found.reason) == (0, 0, "its node is stopping")
        handlers.mark(folder, "go")
        await stopping
        assert await scheduler.jobs.get(first.id) is None
    assert not (Path(folder) / "begun-b").exists()


async def test_a_run_that_outlasts_the_grace_is_killed_and_handed_back_uncounted(
    scheduler: Scheduler, folder: str
) -> None:
    task = scheduler.bind("hang", handlers.hang, executor="process")
    async with scheduler:
        await scheduler.start()
        job = await task.push(folder)
        child = int(await there(folder, "begun"))
        await scheduler.stop(0)
        assert not exists(child)
        found = await scheduler.jobs.get(job.id)
        assert found is not None
        assert (found.state, found.attempts, found.crashes) == ("pending", 0, 0)


async def test_an_async_run_that_a_stop_cancels_is_handed_back_uncounted(scheduler: Scheduler, folder: str) -> None:
    task = scheduler.bind("cleaning", handlers.cleaning, executor="process")
    async with scheduler:
        await scheduler.start()
        job = await task.push(folder)
        await there(folder, "begun")
        await scheduler.stop(0)
        assert (Path(folder) / "cleaned").exists()
        found = await scheduler.jobs.get(job.id)
        assert found is not None
        assert (found.state, found.attempts, found.crashes) == ("pending", 0, 0)


async def test_a_stop_while_a_child_starts_hands_its_job_back_even_at_most_once(scheduler: Scheduler) -> None:
    task = scheduler.bind("work", handlers.pid, executor="process", delivery="at_most_once")
    async with scheduler:
        await scheduler.start()
        job = await task.push()
        await eventually(lambda: alive(scheduler) == 1)
        await scheduler.stop(0)
        found = await scheduler.jobs.get(job.id)
        assert found is not None
        assert (found.state, found.reason) == ("pending", "its node is stopping")


async def test_a_stopped_node_leaves_no_process_and_no_open_file(folder: str) -> None:
    pids: set[int] = set()
    before = 0
    for turn in range(3):
        scheduler = Scheduler("memory://", children=2, child_jobs=2)
        async with running(scheduler):
            pids |= {await answer(scheduler, handlers.pid) for _ in range(5)}
        if turn == 0:  # the first one opens what stays open
            before = len(handlers.names("/proc/self/fd"))
    assert not any(map(exists, pids))
    assert len(handlers.names("/proc/self/fd")) == before


async def test_an_idle_child_ends_in_order_and_nobody_wonders(
    scheduler: Scheduler, folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(scheduler):
        child = await answer(scheduler, handlers.say_goodbye, folder)
    assert not exists(child)
    assert (Path(folder) / "goodbye").exists()
    assert "idle child" not in caplog.text


async def test_a_child_with_a_thread_that_does_not_end_ends_itself(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "EXIT_SECONDS", 30)  # the node would wait for longer
    async with running(scheduler):
        child = await answer(scheduler, handlers.leave_a_thread)
    assert not exists(child)


async def test_a_child_that_stands_still_is_killed(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "EXIT_SECONDS", 0.2)
    async with running(scheduler):
        child = await answer(scheduler, handlers.pid)
        os.kill(child, signal.SIGSTOP)
    assert not exists(child)


async def test_what_waits_after_the_stop_began_is_handed_back_too() -> None:
    pool = children.Children(Scheduler("memory://").config, SYSTEM_CLOCK)
    pool.drain()
    with pytest.raises(ChildFailed) as refused:
        await pool.call(cast(Run, None), lambda _run, _reason: None)
    assert refused.value.outcome.ending is Ending.HANDED_BACK


# --- how many, and for how long ---------------------------------------------------------------------------------------


async def test_no_more_run_at_once_than_there_are_children(folder: str) -> None:
    scheduler = Scheduler("memory://", children=2, concurrency=20)
    task = scheduler.bind("counted", handlers.counted, executor="process", keep_result=True)
    async with running(scheduler):
        jobs = [await task.push(folder, n) for n in range(20)]
        for job in jobs:
            await job.result(timeout=30)
        assert alive(scheduler) == 2
    assert {(Path(folder) / f"most-{n}").read_text() for n in range(20)} <= {"1", "2"}


async def test_a_child_is_replaced_after_its_jobs() -> None:
    scheduler = Scheduler("memory://", children=1, child_jobs=3)
    async with running(scheduler):
        pids = [await answer(scheduler, handlers.pid) for _ in range(9)]
        assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3]
        await eventually(lambda: not any(map(exists, pids)))


async def test_memory_stays_bounded() -> None:
    scheduler = Scheduler("memory://", children=1, child_memory=150)
    async with running(scheduler):
        modest = [await answer(scheduler, handlers.take_memory, 1) for _ in range(3)]
        greedy = [await answer(scheduler, handlers.take_memory, 80) for _ in range(6)]
        assert len({*modest}) == 1  # as long as it is modest it is kept
        assert max(greedy.count(pid) for pid in greedy) <= 2
        await eventually(lambda: alive(scheduler) <= 1)


@pytest.mark.parametrize("name", ["children", "child_jobs", "child_memory"])
def test_the_bounds_are_settings(name: str) -> None:
    assert getattr(Scheduler("memory://", **{name: 7}).config, name) == 7
    with pytest.raises(InvalidOption, match=name):
        Scheduler("memory://", **{name: 0})


# --- declaring -------------------------------------------------------------------------------------------------------


def nested() -> Callable[[], None]:
    def inner() -> None: ...

    return inner


@pytest.mark.parametrize("fn", [lambda: None, nested(), functools.partial(handlers.length, b"")])
def test_a_handler_without_a_place_in_a_module_is_refused(scheduler: Scheduler, fn: Any) -> None:
    with pytest.raises(ConfigurationError, match="task 'work' cannot run with executor='process'"):
        scheduler.bind("work", fn, executor="process")


def shadowed() -> int:
    return 1


first_shadowed = shadowed


def shadowed() -> int:  # type: ignore[no-redef]
    return 2


async def test_a_handler_that_is_not_found_under_its_name_is_refused_at_the_start(scheduler: Scheduler) -> None:
    with pytest.raises(ConfigurationError, match=r"task 'work' .* is not what is found as"):
        scheduler.bind("work", first_shadowed, executor="process")
    scheduler.task(name="work", executor="process")(first_shadowed)
    with pytest.raises(ConfigurationError, match=r"task 'work' .* is not what is found as"):
        await scheduler.start()


def test_the_executor_belongs_to_the_declaration(scheduler: Scheduler) -> None:
    task = scheduler.bind("work", handlers.pid, executor="process")
    with pytest.raises(InvalidOption, match=r"executor='thread' belongs to the task"):
        task.options(executor="thread")
    with pytest.raises(InvalidOption, match=r"executor='process' belongs to the task"):
        scheduler.request("work", executor="process")
    with pytest.raises(InvalidOption, match=r"executor='process' belongs to the task"):
        scheduler.schedule("work", every(seconds=5), executor="process")


def test_an_async_handler_has_no_thread(scheduler: Scheduler) -> None:
    with pytest.raises(InvalidOption, match="executor='thread' is for functions that are not"):
        scheduler.bind("work", handlers.pid_async, executor="thread")


async def test_threads_can_be_asked_for_by_name(scheduler: Scheduler) -> None:
    task = scheduler.bind("work", handlers.pid, executor="thread", keep_result=True)
    async with running(scheduler):
        assert await (await task.push()).result(timeout=30) == os.getpid()


# --- starting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "said", "child_lives"),
    [
        (process_broken, "RuntimeError: no licence for a second process", True),
        (process_deadly, "its process ended with exit code 9", False),
    ],
)
async def test_a_module_that_no_child_can_import_is_the_failure_of_its_job(
    scheduler: Scheduler, module: Any, said: str, child_lives: bool
) -> None:
    scheduler.configure(children=1)
    task = scheduler.bind("work", module.work, executor="process", retry=Retry(limit=2, delay=0))
    async with running(scheduler):
        child = await answer(scheduler, handlers.pid)
        found = await dead(scheduler, await task.push())
        assert found.reason == f"failed: no child process could load {module.__name__}:work: {said}"
        assert (found.attempts, found.crashes) == (3, 0)
        assert (await answer(scheduler, handlers.pid) == child) == child_lives


async def test_an_import_that_never_ends_is_the_failure_of_its_job(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = scheduler.bind("work", process_endless.work, executor="process", retry=NEVER)
    async with running(scheduler):
        with monkeypatch.context() as patched:
            patched.setattr(children, "START_SECONDS", 0.5)
            found = await dead(scheduler, await task.push())
        assert found.reason.endswith("its process was not ready in time")
        await eventually(lambda: alive(scheduler) == 0)


async def test_starts_that_fail_are_each_followed_by_a_longer_pause_until_one_succeeds(scheduler: Scheduler) -> None:
    class Recorder:
        pauses = resets = 0

        def pause(self) -> float:
            self.pauses += 1
            return 0

        def reset(self) -> None:
            self.resets += 1

    scheduler.configure(children=1)
    task = scheduler.bind("work", process_deadly.work, executor="process", retry=Retry(limit=2, delay=0))
    async with running(scheduler):
        assert scheduler._node is not None
        scheduler._node.worker.children._backoff = recorder = Recorder()  # type: ignore[assignment]
        await dead(scheduler, await task.push())
        assert (recorder.pauses, recorder.resets) == (3, 0)
        await answer(scheduler, handlers.pid)
        assert (recorder.pauses, recorder.resets) == (3, 1)


async def test_a_system_without_a_process_to_give_is_the_failure_of_the_job(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*args: Any, **kwargs: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    task = scheduler.bind("work", handlers.pid, executor="process", retry=NEVER)
    async with running(scheduler):
        with monkeypatch.context() as patched:
            patched.setattr(subprocess, "Popen", none_left)
            assert "Resource temporarily unavailable" in (await dead(scheduler, await task.push())).reason
        assert await answer(scheduler, handlers.pid)


SCRIPT = """
import asyncio, os, sys
from duly import Scheduler

scheduler = Scheduler("memory://", children=1)

@scheduler.task(executor="process", keep_result=True, retry=False)
def work(n: int) -> list:
    return [n, os.getpid(), sys.argv[1:], sys.flags.optimize, sys.stdin.read()]

async def main():
    async with scheduler:
        await scheduler.start()
        job = await work.push(7)
        try:
            n, pid, *told = await job.result(timeout=30)
            print(n, pid != os.getpid(), *told)
        except Exception as error:
            print(error)
        await scheduler.stop()

"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env=environment, check=False, capture_output=True, input="typed", text=True, timeout=50
    )


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ('if __name__ == "__main__":\n    asyncio.run(main())\n', "7 True ['given'] 1 \n"),
        ("asyncio.run(main())\n", "put what starts it under  if __name__ == '__main__':"),
    ],
)
def test_a_script_may_hold_the_handler_if_it_guards_its_start(tmp_path: Path, end: str, said: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + end)
    ran = run("-O", str(script), "given")
    assert said in ran.stdout, ran.stdout + ran.stderr
    assert ran.returncode == 0


def test_what_was_typed_in_is_refused() -> None:
    lines = (
        "from duly import Scheduler\ndef work(): ...\nScheduler('memory://').bind('work', work, executor='process')\n"
    )
    ran = run("-c", lines)
    assert "was typed in, and stands in no file" in ran.stderr


# --- middleware ------------------------------------------------------------------------------------------------------


async def test_middleware_goes_around_the_child() -> None:
    seen: list[Any] = []

    async def watching(ctx: Context, call_next: Callable[[], Any]) -> Any:
        seen.append((ctx.job.task, os.getpid()))
        value = await call_next()
        seen.append(value)
        return value * 2

    scheduler = Scheduler("memory://", children=1, middleware=[watching])
    task = scheduler.bind("work", handlers.length, executor="process", keep_result=True)
    async with running(scheduler):
        assert await (await task.push(b"123")).result(timeout=30) == 6
    assert seen == [("work", os.getpid()), 3]


@pytest.mark.parametrize(
    ("what", "kind"),
    [("error", ChildFailed), ("fail", Fail), ("retry in", RetryIn), ("snooze", Snooze), ("discard", Discard)],
)
async def test_middleware_sees_what_a_child_raises_and_may_decide_otherwise(what: str, kind: type[Exception]) -> None:
    async def mending(_ctx: Context, call_next: Callable[[], Any]) -> Any:
        try:
            return await call_next()
        except kind as error:
            return f"mended {type(error).__name__}: {error}"

    scheduler = Scheduler("memory://", children=1, middleware=[mending])
    task = scheduler.bind("work", handlers.raising, executor="process", keep_result=True)
    async with running(scheduler):
        mended = await (await task.push(5, what)).result(timeout=30)
    assert mended.startswith(f"mended {kind.__name__}: ")


# --- the parts -------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 50))
def test_messages_are_whole_however_they_are_cut(bodies: list[bytes], step: int) -> None:
    sent = [Work(n, "m:f", "q", 1, Claimed("id", body, 0), True, False) for n, body in enumerate(bodies)]
    stream = b"".join(map(framed, [*sent, Cancel(1, "stop")]))
    frames = Frames()
    heard = [to_child.decode(f) for at in range(0, len(stream), step) for f in frames.feed(stream[at : at + step])]
    assert heard == [*sent, Cancel(1, "stop")]


async def test_what_a_child_says_before_it_dies_is_heard() -> None:
    child = ChildProcess()
    loop = asyncio.get_running_loop()
    loop.remove_reader(child._socket)  # a loop that is busy elsewhere until the child is dead
    await child.send(Load("tests.process_handlers:pid", "pid"))
    await asyncio.to_thread(select.select, [child._socket], [], [], 30)
    child._process.kill()
    await asyncio.wait((child.exit,))
    assert await child.answer() == Loaded()
    with pytest.raises(ChildGone, match="SIGKILL"):
        await child.answer()


@pytest.mark.parametrize(
    ("code", "said"),
    [(0, "ended with exit code 0"), (-11, "was killed by signal SIGSEGV"), (-40, "was killed by signal 40")],
)
def test_a_death_has_words(code: int, said: str) -> None:
    assert died_how(code) == said


def test_a_function_is_found_behind_its_task_and_its_decorators() -> None:
    for task in (handlers.declared, DECORATED):
        fn = task.handler.fn
        assert locate.find(locate.target_of("t", fn)) is fn
    with pytest.raises(AttributeError):
        locate.find("tests.process_handlers:nothing")


def test_nothing_in_a_message_is_code() -> None:
    with pytest.raises(msgspec.ValidationError):
        to_child.decode(pack(["run", "os.system"]))
