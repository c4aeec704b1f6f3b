"""`duly worker --reload` as real processes: code that changes runs, and code that does not import is waited for."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from duly import Scheduler
from duly.cli import supervisor
from duly.cli.reload import changes, is_code
from duly.cli.worker import supervise as supervise_with
from tests.acceptance.conftest import Supervise
from tests.acceptance.nodes import ROOT, Ledger, NodeProcess
from tests.acceptance.supervising import Supervised, are_gone, write_application


def version_of(job: str, ledger: Ledger) -> str:
    """By which version of the application a job was run to its end."""
    version: str = ledger.has(1, "end", job, within=20)[0].facts["version"]
    return version


def nap(url: str, seconds: float = 0) -> str:
    """Push one; its id."""

    async def pushed() -> str:
        async with Scheduler(url) as scheduler:
            return (await scheduler.push("nap", seconds, remote=True)).id

    return asyncio.run(pushed())


def changed(process: Supervised) -> list[str]:
    """The files that it said have changed."""
    lines = process.output.splitlines()
    return [line.split()[3] for line in lines if line.endswith(" has changed: starting the workers anew")]


def test_code_that_changes_runs(supervise: Supervise, ledger: Ledger, url: str, folder: Path) -> None:
    (folder / "part").mkdir()  # before the watch: what is put into a new folder at once may be missed
    process = supervise("--reload")
    first = process.has_online(1)
    assert version_of(nap(url), ledger) == "one"
    write_application(folder, "number two")
    second = process.has_online(2)[1:]
    assert version_of(nap(url), ledger) == "number two"
    are_gone(first)
    (folder / "part" / "code.py").write_text("")
    process.has_online(3)
    are_gone(second)
    assert set(changed(process)) == {"app.py", "part/code.py"}
    assert "detected" not in process.output  # what watchfiles logs
    process.stop_signal()
    assert process.wait() == 0
    are_gone(process.online, within=1)


def test_what_is_no_code_of_the_application_changes_nothing(supervise: Supervise, folder: Path) -> None:
    for name in (".venv/lib", "__pycache__", "lib/site-packages"):
        (folder / name).mkdir(parents=True)
    process = supervise("--reload", "--processes", "2")
    process.has_online(2)
    for name in (".venv/lib/a.py", "__pycache__/b.py", "lib/site-packages/c.py", "d.txt", ".e.py"):
        (folder / name).write_text("")
    write_application(folder, "number two")
    process.has_online(4)
    assert set(changed(process)) == {"app.py"}


def test_code_that_does_not_import_is_reported_and_the_next_change_waited_for(
    supervise: Supervise, ledger: Ledger, url: str, folder: Path
) -> None:
    process = supervise("--reload", "--processes", "2")
    process.has_online(2)
    write_application(folder, "broken", "x = (")
    process.says("before it was online; waiting for a change")
    job = nap(url)
    (line,) = [line for line in process.output.splitlines() if " INFO " not in line]
    assert line.startswith("duly: importing app failed: SyntaxError: '(' was never closed (app.py, line ")
    assert line.endswith(")")
    assert "application.py" not in line
    write_application(folder, "repaired again")
    assert version_of(job, ledger) == "repaired again"
    process.has_online(4)


def test_code_that_does_not_import_at_the_start_is_waited_for_too(
    supervise: Supervise, ledger: Ledger, url: str, folder: Path
) -> None:
    write_application(folder, "broken", "raise KeyError('broken')")
    process = supervise("--reload").says("before it was online; waiting for a change")
    write_application(folder, "repaired again")
    process.has_online(1)
    assert version_of(nap(url), ledger) == "repaired again"


def test_jobs_that_run_get_a_short_grace_and_are_handed_on(
    supervise: Supervise, ledger: Ledger, url: str, folder: Path
) -> None:
    process = supervise("--reload", DULY_GRACE="600")
    process.has_online(1)
    job = nap(url, 600)
    ledger.has(1, "begin", job)
    write_application(folder, "number two")
    process.has_online(2)
    begun = ledger.has(2, "begin", job, within=20)
    assert [entry.facts["version"] for entry in begun] == ["one", "number two"]
    assert begun[1].facts["crashes"] == 0


async def test_a_watch_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """One that is only cancelled keeps its thread, and the process, for seconds."""
    stop = asyncio.Event()

    async def watch() -> list[Path]:
        return [path async for path in changes(tmp_path, stop)]

    watching = asyncio.create_task(watch())
    asyncio.get_running_loop().call_soon(stop.set)
    assert await asyncio.wait_for(watching, 20) == []


def test_a_closed_terminal_ends_it(supervise: Supervise) -> None:
    process = supervise("--reload")
    workers = process.has_online(1)
    process.stop_signal(signal.SIGHUP)
    assert process.wait() == -signal.SIGHUP
    are_gone(workers)


def test_without_watchfiles_it_says_how_to_get_it(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['watchfiles'] = None; from duly.cli import main; main(['worker', 'a:b', '--reload'])"
    )
    process = NodeProcess(tmp_path / "log", "-c", program, env={"PYTHONPATH": str(ROOT / "src")}).start()
    try:
        assert process.wait() == 2
    finally:
        process.kill()
    assert process.output == "duly: --reload needs watchfiles: pip install 'duly[reload]'\n"


@pytest.mark.parametrize(("given", "grace"), [(None, "1.0"), (7.5, "7.5"), (0.0, "0.0")])
def test_the_grace_that_was_asked_for_is_kept(monkeypatch: pytest.MonkeyPatch, given: float | None, grace: str) -> None:
    told: list[Any] = []

    class Noted:
        def __init__(self, *args: Any) -> None:
            told.extend(args)

        async def run(self) -> int:
            return 0

    monkeypatch.setattr(supervisor, "Supervisor", Noted)
    assert supervise_with("app:scheduler", 2, True, {"grace": given, "queues": ("a", "b"), "push_timeout": None}) == 0
    assert told == ["app:scheduler", 2, ["app:scheduler", f"--grace={grace}", "--queues=a,b"], Path.cwd(), None]


@pytest.mark.parametrize("path", ["app.py", "part/code.py", "venv.py", "a/b/c/d.py"])
def test_code(path: str) -> None:
    assert is_code(Path(path))


@pytest.mark.parametrize(
    "path",
    [
        *("app.pyc", "notes.txt", "py", ".hidden.py", ".#app.py"),
        *(".venv/a.py", "part/.git/a.py", "__pycache__/a.py", "env/lib/python3.12/site-packages/a.py"),
    ],
)
def test_no_code(path: str) -> None:
    assert not is_code(Path(path))
