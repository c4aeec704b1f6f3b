"""`duly queues`."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest

from duly import Scheduler, every
from tests.cli.conftest import ENVIRONMENT, Duly, make_dead, using
from tests.schedulers import running


def push(url: str, queue: str, count: int = 1) -> None:
    async def pushed(scheduler: Scheduler) -> None:
        for _ in range(count):
            await scheduler.push("send", queue=queue, remote=True)

    using(url, pushed)


def test_queues_are_listed_with_their_sizes_switches_and_nodes(duly: Duly, url: str) -> None:
    make_dead(url, "a", "b", queue="mail")
    push(url, "slow", 3)
    assert duly("queues", "pause", "slow", "--url", url).lines == ["slow  paused"]
    assert duly("queues", "limit", "mail", "1000", "--url", url).lines == ["mail  at most 1,000 at once"]
    scheduler = Scheduler(url, queues=("mail",))

    async def listed() -> tuple[Any, Any]:
        async with running(scheduler):
            table = await asyncio.to_thread(lambda: duly("queues", "--url", url))
            data = await asyncio.to_thread(lambda: duly("queues", "list", "--url", url, "--json"))
            return table.lines, data.json

    lines, data = asyncio.run(listed())
    assert lines[0].split() == ["queue", "pending", "leased", "dead", "schedules", "nodes", "limit"]
    assert lines[1].split() == ["mail", "0", "0", "2", "0", "1", "1,000"]
    assert lines[2].split() == ["slow", "3", "0", "0", "0", "0", "paused"]
    mail, slow = data
    assert (mail["limit"], mail["paused"], len(mail["nodes"])) == (1_000, False, 1)
    assert (slow["limit"], slow["paused"], slow["nodes"], slow["pending"]) == (None, True, [], 3)


def test_a_switch_can_be_taken_back(duly: Duly, url: str) -> None:
    push(url, "mail")
    duly("queues", "pause", "mail", "--url", url)
    duly("queues", "limit", "mail", "5", "--url", url)
    assert duly("queues", "resume", "mail", "--url", url, "--json").json == {"queue": "mail", "paused": False}
    assert duly("queues", "limit", "mail", "none", "--url", url, "--json").json == {"queue": "mail", "limit": None}
    (mail,) = duly("queues", "--url", url, "--json").json
    assert (mail["paused"], mail["limit"]) == (False, None)


@pytest.mark.parametrize("words", [("pause",), ("resume",), ("limit", "5"), ("clear", "--yes")])
def test_a_misspelled_queue_is_not_steered(duly: Duly, url: str, words: tuple[str, ...]) -> None:
    push(url, "mail")
    verb, *rest = words
    said = duly("queues", verb, "mial", *rest, "--url", url)
    assert (said.code, said.out) == (1, "")
    assert "did you mean 'mail'?" in said.err


@pytest.mark.parametrize("limit", ["0", "some", "1.5", "²"])
def test_a_limit_is_a_whole_number_or_none(duly: Duly, sqlite_url: str, limit: str) -> None:
    said = duly("queues", "limit", "mail", limit, "--url", sqlite_url)
    assert (said.code, "give a whole number from 1, or none" in said.err) == (2, True)


def test_clear_removes_what_waits_or_is_dead_of_one_queue(
    duly: Duly, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duly.handle.CLEAR_STEP", 2)
    make_dead(url, "broken", queue="mail")
    push(url, "mail", 6)
    push(url, "other")
    using(url, lambda s: s.schedules.put("hourly", every(hours=1), "send", remote=True, queue="mail"))
    assert duly("queues", "clear", "mail", "--yes", "--url", url).lines == ["mail  7 jobs removed"]
    mail, other = duly("queues", "--url", url, "--json").json
    assert (mail["pending"], mail["dead"], mail["schedules"], other["pending"]) == (0, 0, 1, 1)
    said = duly("queues", "clear", "mail", "--schedules", "--yes", "--url", url, "--json").json
    assert said == {"queue": "mail", "jobs": 0, "schedules": 1}


def test_clear_asks_first_and_without_a_terminal_wants_yes(duly: Duly, sqlite_url: str) -> None:
    push(sqlite_url, "mail", 2)
    said = duly("queues", "clear", "mail", "--url", sqlite_url, stdin="y\n")
    assert said.code == 2
    assert "this removes 2 jobs of queue 'mail' for good: say --yes" in said.err
    assert len(duly("jobs", "--url", sqlite_url, "--json").json) == 2


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 130, 2), ("y", 0, 0)])
def test_at_a_terminal_it_asks_and_shows_a_bar(duly: Duly, sqlite_url: str, answer: str, code: int, left: int) -> None:
    push(sqlite_url, "mail", 2)
    ended, said = at_a_terminal("queues", "clear", "mail", "--url", sqlite_url, keys=f"{answer}\n")
    assert ended == code
    assert "Remove 2 jobs of queue 'mail' for good?" in said
    assert ("clearing mail" in said) == (answer == "y")
    assert len(duly("jobs", "--url", sqlite_url, "--json").json) == left


def test_an_empty_store_says_so(duly: Duly, sqlite_url: str) -> None:
    using(sqlite_url, lambda s: s.queues.list())
    said = duly("queues", "--url", sqlite_url)
    assert said.out == "no queues: nothing was pushed, and no node was started\n"


def at_a_terminal(*words: str, keys: str) -> tuple[int, str]:
    """The exit code of a process at a terminal of its own, and all that it showed there."""
    master, slave = pty.openpty()
    environment = {**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(
        [sys.executable, "-m", "duly", *words], stdin=slave, stdout=slave, stderr=slave, env=environment
    )
    os.close(slave)
    os.write(master, keys.encode())
    shown = b""
    try:
        with suppress(OSError):  # the other end was closed
            while part := os.read(master, 4096):
                shown += part
        return process.wait(30), shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(master)
