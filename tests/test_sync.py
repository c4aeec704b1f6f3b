"""The scheduler in code that is not async: from scripts, threads, requests, forked children, and inside a running loop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from duly import (
    ConfigurationError,
    InvalidArguments,
    JobFailed,
    LockLost,
    NotAccepting,
    ResultTimeout,
    Scheduler,
    StoreUnavailable,
    UnknownTask,
    every,
)
from tests.schedulers import running, shared


async def add(a: int, b: int) -> int:
    return a + b


async def fail() -> None:
    raise ValueError("no")


@pytest.fixture
def scheduler(store_url: str) -> Iterator[Scheduler]:
    scheduler = Scheduler(shared(store_url), poll=0.1)
    yield scheduler
    scheduler.sync.close()


def duly_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "duly-sync"]


def test_a_push_from_plain_code_is_kept(scheduler: Scheduler) -> None:
    task = scheduler.task(add)
    job = task.push_sync(1, 2)
    assert (job.created, job.queue, job.status()) == (True, "default", "pending")
    assert scheduler.sync.jobs.get(job.id).args == [1, 2]
    assert job.cancel() == "cancelled"
    assert job.status() == "ended"


def test_options_ids_and_names_are_those_of_the_async_push(scheduler: Scheduler) -> None:
    task = scheduler.task(add)
    assert task.options(id="one", delay=60).push_sync(1, 2).answer == "created"
    again = scheduler.sync.push("add", args=(1, 2), id="one")
    assert (again.answer, again.id, again.created) == ("pending", "one", False)
    assert scheduler.sync.push("elsewhere", {"to": "a@b"}, remote=True).created
    assert len(scheduler.sync.push_many(task.job(i, i) for i in range(2_500))) == 2_500
    assert scheduler.sync.queues.sizes().pending == 2_502
    assert scheduler.sync.clear() == 2_502


def test_errors_are_those_of_the_async_push(scheduler: Scheduler) -> None:
    task = scheduler.task(add)
    with pytest.raises(InvalidArguments):
        task.push_sync(1)  # type: ignore[call-arg]
    with pytest.raises(UnknownTask):
        scheduler.sync.push("ad", 1)
    scheduler.stop_accepting()
    with pytest.raises(NotAccepting):
        task.push_sync(1, 2)
    scheduler.start_accepting()
    assert task.push_sync(1, 2).created
    with pytest.raises(AttributeError, match="gett"):
        scheduler.sync.jobs.gett("x")


def test_a_store_that_is_not_there_is_said_and_found_later(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    scheduler = Scheduler(f"sqlite:///{folder}/duly.db")
    task = scheduler.task(add)
    with pytest.raises(StoreUnavailable, match="later"):
        task.push_sync(1, 2)
    folder.mkdir()
    assert task.push_sync(1, 2).created
    scheduler.sync.close()


async def test_results_come_from_a_node_in_another_loop(scheduler: Scheduler) -> None:
    task, bad = scheduler.task(keep_result=True)(add), scheduler.task(keep_result=True, retry=False)(fail)

    def plain() -> int:
        with pytest.raises(JobFailed):
            bad.push_sync().result(timeout=10)
        with pytest.raises(ResultTimeout):
            task.options(delay=60).push_sync(1, 1).result(timeout=0.01)
        return task.push_sync(1, 2).result(timeout=10)

    async with running(scheduler):
        assert await asyncio.to_thread(plain) == 3


async def test_a_push_inside_a_running_loop_works_too(scheduler: Scheduler) -> None:
    task = scheduler.task(keep_result=True)(add)
    async with running(scheduler):
        id = task.push_sync(20, 22).id  # holds this loop up for a round trip
        job = scheduler.sync.run(lambda s: s.jobs.get(id))
        assert job is None or job.state in ("pending", "leased")
        handle = await task.options(id="again").push(1, 1)
        assert await handle.result(10) == 2


async def test_a_sync_handler_pushes_from_its_thread(scheduler: Scheduler) -> None:
    task = scheduler.task(keep_result=True)(add)
    pushed: list[Any] = []

    @scheduler.task(keep_result=True)
    def parent() -> str:
        pushed.append(task.push_sync(2, 3))
        return str(pushed[0].id)

    async with running(scheduler):
        assert await (await parent.push()).result(10) == pushed[0].id
        assert await asyncio.to_thread(pushed[0].result, 10) == 5


def test_many_threads_share_one_connection(scheduler: Scheduler) -> None:
    task = scheduler.task(add)
    with ThreadPoolExecutor(16) as pool:
        ids = [job.id for job in pool.map(lambda i: task.push_sync(i, i), range(400))]
    assert len(set(ids)) == 400
    assert scheduler.sync.queues.sizes().pending == 400
    assert duly_threads() == ["duly-sync"]


def test_close_ends_the_thread_and_a_later_call_opens_anew(scheduler: Scheduler) -> None:
    task = scheduler.task(add)
    with scheduler.sync:
        task.push_sync(1, 2)
        assert scheduler.sync.is_open
        with pytest.raises(ConfigurationError, match="configure"):
            scheduler.configure(namespace="other")
    assert (scheduler.sync.is_open, duly_threads()) == (False, [])
    scheduler.sync.close()
    assert task.push_sync(1, 2).created
    assert scheduler.sync.queues.sizes().pending == 2


def test_close_does_not_wait_for_ever_for_one_who_waits_for_ever(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duly.sync.EXIT_SECONDS", 0.05)
    begun = threading.Event()

    async def wait(_: Scheduler) -> None:
        begun.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(scheduler.sync.run, wait)
        assert begun.wait(10)
        scheduler.sync.close()
        with pytest.raises(CancelledError):
            waiting.result(10)


def test_a_plain_call_that_would_wait_for_itself_is_refused(scheduler: Scheduler) -> None:
    task = scheduler.task(add)

    async def work(_: Scheduler) -> None:
        task.push_sync(1, 2)

    with pytest.raises(ConfigurationError, match="wait for itself"):
        scheduler.sync.run(work)


def test_schedules_and_locks_from_plain_code(scheduler: Scheduler) -> None:
    scheduler.task(add)
    assert scheduler.sync.schedules.put("minutely", every(seconds=60), "add", args=(1, 2)) is True
    assert [view.id for view in scheduler.sync.schedules.list()] == ["minutely"]
    assert scheduler.sync.schedules.pause("minutely", "for now")
    with scheduler.sync.lock("report", ttl=30) as lock:
        fence = lock.fence
        assert scheduler.sync.try_lock("report") is None
    held = scheduler.sync.try_lock("report")
    assert held.fence > fence
    assert held.release() is True


def test_semaphores_from_plain_code(scheduler: Scheduler) -> None:
    with scheduler.sync.semaphore("report", 2) as one, scheduler.sync.semaphore("report", 2, timeout=10) as other:
        assert one.fence < other.fence
        assert scheduler.sync.try_semaphore("report", 2) is None
        with pytest.raises(TimeoutError), scheduler.sync.semaphore("report", 2, timeout=0.05):
            raise AssertionError("it is held")
        assert other.release() is True
        assert not other.held
        third = scheduler.sync.try_semaphore("report", 2)
        assert third is not None
        assert third.name == "report"
        assert third.acquire() is True
    assert third.held


def test_a_lock_that_was_tried_is_freed_by_its_block_in_plain_code(scheduler: Scheduler) -> None:
    lock = scheduler.sync.try_lock("report")
    assert lock is not None
    with lock:
        assert scheduler.sync.try_lock("report") is None
    assert lock.release() is False
    assert scheduler.sync.try_lock("report") is not None


def test_a_lock_that_was_lost_is_reported_in_plain_code(scheduler: Scheduler) -> None:
    def block() -> None:
        with scheduler.sync.lock("report") as lock:
            scheduler.sync.run(lambda s: s.store.unlock("report", lock._lock._owner))
            assert lock.acquire() is False  # it is free, but another may have had it meanwhile

    with pytest.raises(LockLost, match="lock 'report' was lost"):
        block()


def test_the_lock_is_released_when_the_block_raises(scheduler: Scheduler) -> None:
    with pytest.raises(ValueError, match="mine"), scheduler.sync.lock("report"):
        raise ValueError("mine")
    assert scheduler.sync.try_lock("report") is not None


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_forked_child_has_a_connection_of_its_own(tmp_path: Path) -> None:
    """A pre-forking server that has pushed before it forks (gunicorn --preload)."""
    scheduler = Scheduler(f"sqlite:///{tmp_path}/duly.db")
    task = scheduler.task(add)
    task.push_sync(0, 0)
    children = []
    for i in range(3):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if task.push_sync(i, i).created else 1
                scheduler.sync.close()
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    task.push_sync(9, 9)
    assert scheduler.sync.queues.sizes().pending == 5
    scheduler.sync.close()


SCRIPT = """
from duly import Scheduler
scheduler = Scheduler("sqlite:///{path}")

@scheduler.task
def work(n: int) -> None: ...

print(work.push_sync(1).id)
{rest}
"""


@pytest.mark.parametrize("rest", ["", "raise SystemExit(0)", "import sys; sys.stdout.flush(); 1 / 0"])
def test_a_script_that_closes_nothing_ends_cleanly_and_its_job_is_kept(tmp_path: Path, rest: str) -> None:
    path = tmp_path / "duly.db"
    script = SCRIPT.format(path=path, rest=rest)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == (1 if "1 / 0" in rest else 0)
    assert "duly" not in done.stderr.replace("ZeroDivisionError", "")
    again = Scheduler(f"sqlite:///{path}")
    assert again.sync.jobs.get(done.stdout.strip()).task == "work"
    again.sync.close()


def test_requests_of_a_wsgi_application_push(scheduler: Scheduler) -> None:
    """What Flask and Django do: each request in a thread of a server that knows nothing of event loops."""
    task = scheduler.task(add)

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        job = task.push_sync(int(environ["QUERY_STRING"]), 1)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [job.id.encode()]

    def ask(i: int) -> str:
        headers: list[str] = []
        environ = {"QUERY_STRING": str(i), "wsgi.input": BytesIO()}
        return b"".join(application(environ, lambda status, _: headers.append(status))).decode()

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(ask, range(100)))
    assert len(set(ids)) == scheduler.sync.queues.sizes().pending == 100


@pytest.mark.parametrize(
    ("forget", "warning"),
    [
        (lambda s, task: task.push(1, 2), r"'add\.push \(in code that is not async: push_sync\)' was never awaited"),
        (lambda s, task: task.options(delay=5).push(1, 2), r"'add\.push \(.*push_sync\)' was never awaited"),
        (
            lambda s, task: s.push("add", 1),
            r"scheduler\.push\('add'\) \(.*: scheduler\.sync\.push\)' was never awaited",
        ),
    ],
)
def test_a_push_that_is_not_awaited_warns_and_names_what_to_do(
    forget: Callable[[Scheduler, Any], object], warning: str
) -> None:
    scheduler = Scheduler("memory://")
    task = scheduler.task(add)
    with pytest.warns(RuntimeWarning, match=warning):
        forget(scheduler, task)
