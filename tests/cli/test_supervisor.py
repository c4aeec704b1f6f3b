"""The supervisor's decisions, and what it does with worker processes that behave as a test says."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import pytest

from duly.cli import supervisor as module
from duly.cli.supervisor import End, Restarts, Supervisor, ended_how, judge, processes, require_posix
from duly.config import Config
from duly.runtime.process import Link, patience
from tests.waiting import eventually

# --- decisions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "is_told", "was_online", "is_proven", "end"),
    [
        (0, True, True, True, End.TOLD),
        (-9, True, True, True, End.TOLD),
        (-15, True, False, False, End.TOLD),
        (0, False, True, True, End.DONE),
        (1, False, True, True, End.DIED),
        (-9, False, True, True, End.DIED),
        (2, False, False, False, End.HOPELESS),
        (0, False, False, False, End.HOPELESS),
        (-11, False, False, False, End.DIED),  # killed: the next one may live
        (2, False, False, True, End.DIED),  # another one with the same code runs
        (0, False, False, True, End.DIED),
    ],
)
def test_what_the_end_of_a_worker_means(code: int, is_told: bool, was_online: bool, is_proven: bool, end: End) -> None:
    assert judge(code, is_told=is_told, was_online=was_online, is_proven=is_proven) is end


def test_successors_wait_longer_from_death_to_death_and_at_most_ten_seconds() -> None:
    restarts = Restarts()
    for longest in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10):
        assert longest / 2 <= restarts.pause(29.9) <= longest


def test_a_death_after_thirty_seconds_of_life_has_nothing_to_do_with_those_before() -> None:
    restarts = Restarts()
    for _ in range(5):
        restarts.pause(1)
    assert restarts.pause(30) <= 0.1
    assert restarts.pause(1) <= 0.2


def test_ends_and_numbers_are_said_in_words() -> None:
    assert ended_how(3) == "ended with code 3"
    assert ended_how(-9) == "was killed by SIGKILL"
    assert ended_how(-40) == "was killed by signal 40"
    assert [processes(1), processes(2)] == ["1 worker process", "2 worker processes"]


def test_windows_is_told_what_to_do_instead() -> None:
    require_posix("linux")
    with pytest.raises(click.UsageError, match="not supported on Windows: start `duly worker` several times"):
        require_posix("win32")


def test_a_worker_may_say_that_it_is_online_to_a_supervisor_that_is_gone() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    link = Link(theirs.detach())
    link.say_online(1.0)
    with socket.socket(fileno=link._socket.detach()) as end:
        assert end.recv(1) == b""


async def test_a_worker_hears_once_that_its_supervisor_is_gone() -> None:
    """An end of file that is heard again and again keeps the loop busy during the whole stop."""
    ours, theirs = socket.socketpair()
    heard: list[str] = []
    loop = asyncio.get_running_loop()
    link = Link(theirs.detach())
    link.listen(loop, lambda: heard.append("gone"))
    ours.close()
    await eventually(lambda: heard)
    assert not loop.remove_reader(link._socket)
    link._socket.close()
    assert heard == ["gone"]


def test_a_worker_asks_for_all_the_time_that_its_stop_may_take() -> None:
    """The grace, a quarter of it for what is cancelled, a lease for the last settlements, one for the heartbeat."""
    assert patience(Config(grace=100, lease=7)) >= 100 + 25 + 1 + 7 + 7


# --- workers that do as they are told by the test --------------------------------------------------------------------

ONLINE = "os.write(link, b'1.5\\n')\n"
WAIT = "os.read(link, 1)\n"  # until the supervisor closes the line, or a signal comes

Fake = Callable[[str], None]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """`fake(body)`: workers started from now on are Python programs of that body; `link` is their end of the line."""
    program = tmp_path / "worker"
    monkeypatch.setattr(module.sys, "executable", str(program))

    def write(body: str) -> None:
        new = tmp_path / "worker.new"
        new.write_text(f"#!{PYTHON} -S\nimport os, signal, sys\nlink = int(sys.argv[-1])\n{body}")
        new.chmod(0o700)
        new.rename(program)

    return write


PYTHON = sys.executable


@asynccontextmanager
async def running(count: int = 1, **settings: Any) -> AsyncIterator[tuple[Supervisor, asyncio.Task[int]]]:
    supervisor = Supervisor("app:scheduler", count, [], **settings)
    task = asyncio.create_task(supervisor.run())
    try:
        yield supervisor, task
    finally:
        supervisor.stop()
        await asyncio.wait([task])
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(number)


def said(caplog: pytest.LogCaptureFixture, pattern: str) -> list[str]:
    """What the pattern's group matched in all that was logged."""
    return [match[1] for record in caplog.records if (match := re.search(pattern, record.getMessage()))]


@pytest.fixture(autouse=True)
def _log_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "duly")


async def test_a_worker_that_dies_again_and_again_is_started_ever_more_slowly(
    fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    fake(ONLINE + "sys.exit(3)")
    async with running():
        pauses = await eventually(lambda: found if len(found := said(caplog, "starts in (.*) s$")) >= 4 else None)
    for pause, longest in zip(pauses, (0.1, 0.2, 0.4, 0.8), strict=False):
        assert longest / 2 <= float(pause) + 0.05
        assert float(pause) - 0.05 <= longest
    assert len(said(caplog, "(ended with code 3; its successor)")) == len(pauses)


async def test_workers_that_end_well_are_followed_at_once(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    fake(ONLINE + "sys.exit(0)")
    async with running():
        await eventually(lambda: len(said(caplog, "(ended with code 0; its successor starts)$")) >= 10)
    assert said(caplog, "(starts in)") == []


async def test_a_first_worker_that_is_killed_before_it_was_online_is_tried_again(
    fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    fake("os.kill(os.getpid(), signal.SIGSEGV)")
    async with running(2) as (supervisor, _):
        await eventually(lambda: len(said(caplog, "(was killed by SIGSEGV; its successor starts in)")) >= 2)
        fake(ONLINE + WAIT)
        await eventually(lambda: [worker.is_online for worker in supervisor._workers.values()] == [True, True])


async def test_the_others_start_once_the_first_is_online(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(ONLINE + WAIT)
    start: Callable[..., Awaitable[Any]] = asyncio.create_subprocess_exec
    starts: list[bool] = []

    async def noted(*args: Any, **kwargs: Any) -> Any:
        starts.append(supervisor._is_proven)
        return await start(*args, **kwargs)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    async with running(3) as (supervisor, _):
        await eventually(lambda: len(supervisor._workers) == 3)
    assert starts == [False, True, True]


async def test_an_exit_without_a_word_at_the_start_is_a_failure_too(fake: Fake) -> None:
    fake("sys.exit(0)")
    async with running(2) as (_, task):
        assert await asyncio.wait_for(task, 10) == 1


async def test_a_worker_that_does_not_stop_in_the_time_it_asked_for_is_killed(
    fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    fake("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + "os.write(link, b'0.2\\n')\nwhile True: signal.pause()")
    async with running() as (supervisor, task):
        await eventually(lambda: supervisor._is_proven)
        supervisor.stop()
        assert await asyncio.wait_for(task, 10) == 0
    assert said(caplog, r"(has not stopped within 0\.2 s: killed)$")


async def test_a_worker_that_ends_within_its_time_is_not_killed_later(
    fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    fake(ONLINE + WAIT)
    async with running() as (supervisor, _):
        await eventually(lambda: supervisor._is_proven)
        (worker,) = supervisor._workers.values()
    assert worker.has_ended
    assert worker._limit is not None
    assert worker._limit.cancelled()
    worker.kill()  # a signal that comes too late is none


async def test_a_system_that_starts_no_process_is_asked_again(
    fake: Fake, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(ONLINE + WAIT)
    start: Callable[..., Awaitable[Any]] = asyncio.create_subprocess_exec
    refusals = iter([OSError("out of processes"), OSError("out of memory")])

    async def refused_twice(*args: Any, **kwargs: Any) -> Any:
        for error in refusals:
            raise error
        return await start(*args, **kwargs)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refused_twice)
    async with running() as (supervisor, _):
        await eventually(lambda: supervisor._is_proven)
    assert said(caplog, "no worker could be started: (.*); again in") == ["out of processes", "out of memory"]


async def test_a_worker_that_is_started_while_all_stops_is_stopped(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(ONLINE + WAIT)
    start: Callable[..., Awaitable[Any]] = asyncio.create_subprocess_exec
    supervisor = Supervisor("app:scheduler", 1, [])

    async def stopped_meanwhile(*args: Any, **kwargs: Any) -> Any:
        process = await start(*args, **kwargs)
        supervisor.stop()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", stopped_meanwhile)
    assert await asyncio.wait_for(supervisor.run(), 10) == 0


async def test_a_worker_whose_child_holds_its_line_is_seen_to_end(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    fake("if os.fork() == 0:\n    os.read(link, 1)\n    os._exit(0)\nsys.exit(4)")
    async with running() as (_, task):
        assert await asyncio.wait_for(task, 10) == 4


async def test_a_watch_that_fails_ends_all(fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake(ONLINE + WAIT)

    async def changes(root: Path, stop: asyncio.Event) -> AsyncIterator[Path]:
        await eventually(lambda: supervisor._is_proven)
        raise OSError("too many files to watch")
        yield root

    monkeypatch.setattr(module, "changes", changes)
    async with running(root=tmp_path) as (supervisor, task):
        with pytest.raises(OSError, match="too many files to watch"):
            await asyncio.wait_for(task, 10)
        assert not supervisor._workers


async def test_a_worker_that_comes_online_late_says_nothing_of_code_that_has_changed_since(
    fake: Fake, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    late = "signal.signal(signal.SIGTERM, lambda *_: (os.write(link, b'1.5\\n'), sys.exit(0)))\n"
    ready = tmp_path / "ready"
    fake(f"{late}open({str(ready)!r}, 'w').close()\n{WAIT}")

    async def changes(root: Path, stop: asyncio.Event) -> AsyncIterator[Path]:
        await eventually(ready.exists)
        fake("sys.exit(2)")
        yield Path("app.py")
        await stop.wait()

    monkeypatch.setattr(module, "changes", changes)
    async with running(root=tmp_path):
        await eventually(lambda: said(caplog, "(ended with code 2)"))
    assert said(caplog, "ended with code 2 (.*)$") == ["before it was online; waiting for a change"]
