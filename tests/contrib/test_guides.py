"""The guides for those who come from another system, or use a framework: their examples run, and what they name is there."""

from __future__ import annotations

import ast
import asyncio
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import duly
from duly.cli import commands
from duly.core.events import NAMES
from tests.acceptance.nodes import ROOT
from tests.schedulers import running
from tests.waiting import eventually

GUIDES = ["celery", "apscheduler", "rq", "arq"]


def page(guide: str) -> str:
    return (ROOT / "docs" / f"from-{guide}.md").read_text()


def blocks(guide: str, info: str) -> list[str]:
    """Its code blocks whose opening line ends so."""
    return re.findall(rf"^```python{info}\n(.*?)^```", page(guide), re.MULTILINE | re.DOTALL)


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The page's blocks in duly as a module, over an SQLite file of the test."""
    guide = request.param
    (tmp_path / f"from_{guide}_example.py").write_text("\n".join(blocks(guide, "")))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DULY_POLL", "0.1")
    monkeypatch.delenv("DULY_URL", raising=False)
    module = importlib.import_module(f"from_{guide}_example")
    monkeypatch.delitem(importlib.sys.modules, module.__name__)  # type: ignore[attr-defined]  # the next test has its own
    yield module
    module.scheduler.sync.close()


@pytest.mark.parametrize("example", ["celery"], indirect=True)
async def test_the_example_of_the_guide_from_celery(example: Any) -> None:
    scheduler = example.scheduler
    async with running(scheduler):
        for _ in range(2):
            await asyncio.to_thread(example.order_placed, 42)
        await eventually(lambda: example.mailed == [(42, 1), (42, 1)])
        assert example.paid == [42, 42]
        pending, _ = await scheduler.jobs.list("pending")
        assert [(job.id, job.task) for job in pending] == [("reminder:42", "remind")]
        assert (await scheduler.schedules.get("sweep")).trigger == duly.cron("30 2 * * *", timezone="Europe/Paris")
        await asyncio.to_thread(example.upload, "summer", "beach", "lake")
        await eventually(lambda: example.published == ["summer"])


@pytest.mark.parametrize("example", ["apscheduler"], indirect=True)
async def test_the_example_of_the_guide_from_apscheduler(example: Any) -> None:
    scheduler = example.scheduler
    await example.start()
    try:
        await example.watch("example.org")
        found = {schedule.id: schedule async for schedule in scheduler.schedules.list()}
        assert found.keys() == {"report", "poll:example.org"}
        assert found["poll:example.org"].revision == 1
        assert (found["report"].app, found["poll:example.org"].app) == ("sites", "")
        assert found["report"].trigger == duly.cron("0 9 * * mon-fri", timezone="Europe/Paris")
        pending, _ = await scheduler.jobs.list("pending")
        assert [(job.task, job.args) for job in pending] == [("remind", [7])]
        await scheduler.schedules.trigger("poll:example.org")
        await eventually(lambda: example.polled == ["example.org"])
    finally:
        await example.end()


@pytest.mark.parametrize("example", ["rq"], indirect=True)
async def test_the_example_of_the_guide_from_rq(example: Any) -> None:
    scheduler = example.scheduler
    scheduler.configure(queues=("words", "default"))
    async with running(scheduler):
        id = await asyncio.to_thread(example.ask, "so many words", 7)
        await eventually(lambda: example.told == [7])
        assert (await scheduler.jobs.get(id, queue="words")) is None
        assert duly.core.codec.unpack(await scheduler.shard("words").result(id))[1] == 3
        pending, _ = await scheduler.jobs.list("pending", queue="words")
        assert [job.task for job in pending] == ["tell"]


@pytest.mark.parametrize("example", ["arq"], indirect=True)
async def test_the_example_of_the_guide_from_arq(example: Any) -> None:
    async with running(example.scheduler):
        assert await example.main() == 5
        assert (await example.scheduler.schedules.get("tidy")).trigger == duly.cron("12 9,12,18 * * *")


@pytest.mark.parametrize("guide", GUIDES)
def test_the_examples_of_other_systems_are_python(guide: str) -> None:
    (before,) = blocks(guide, ' title="[^"]*"')
    ast.parse(before)


def options(command: Any) -> set[str]:
    """The flags of a command, or of all in a group."""
    below = [options(one) for one in getattr(command, "commands", {}).values()]
    return {flag for parameter in command.params for flag in parameter.opts}.union(*below)


def command_of(name: str) -> Any:
    return commands.get_command(None, name)  # type: ignore[arg-type]  # it asks for none


@pytest.mark.parametrize("guide", GUIDES)
def test_commands_that_a_guide_names_are_there_with_their_flags(guide: str) -> None:
    calls = re.findall(r"`duly ([a-z][^`]*)`", page(guide))
    assert calls
    for call in calls:
        name, *rest = call.split()
        command = command_of(name)
        assert command is not None, call
        if hasattr(command, "commands") and rest and not rest[0].startswith("-"):
            command = command.commands[rest[0]]
        assert {word for word in rest if word.startswith("--")} <= options(command), call


@pytest.mark.parametrize("guide", GUIDES)
def test_flags_events_and_exceptions_in_the_column_of_duly_are_there(guide: str) -> None:
    rows = [line.split(" | ") for line in page(guide).splitlines() if line.startswith("| ")]
    ours = "\n".join(row[1] for row in rows[2:])
    flags = options(command_of("worker")) | options(command_of("jobs"))
    assert set(re.findall(r"--[a-z][a-z-]+", ours)) <= flags
    assert set(re.findall(r'"((?:job|tick|node)\.\w+)"', ours)) <= set(NAMES)
    raised = set(re.findall(r"raise (\w+)\(", ours))
    assert all(hasattr(duly, name) for name in raised), raised


def test_what_the_page_on_frameworks_shows_is_in_the_examples() -> None:
    text = (ROOT / "docs" / "frameworks.md").read_text()
    shown = re.findall(r"^<!-- not run: taken from (\S+) -->\n```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert {Path(name).parts[1] for name, _ in shown} == {"fastapi_app.py", "django_project", "flask_app.py"}
    for name, code in shown:
        assert code in (ROOT / name).read_text(), f"docs/frameworks.md shows other code than {name} has: {code}"
    assert text.count("```python") == len(shown)
