"""Where a command looks: the URL, the namespace, an application's scheduler; and what it says when nothing is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ENVIRONMENT, Duly, using
from tests.servers import free_port

APPLICATION = """
from duly import Scheduler

scheduler = Scheduler({url!r}, namespace="shop")

@scheduler.task(queue="mail")
def send(order_id: int, urgent: bool = False) -> str:
    return f"sent {{order_id}}"
"""
READING = [
    ("jobs",), ("jobs", "show", "x"), ("schedules",), ("queues",), ("queues", "pause", "x"), ("nodes",), ("doctor",),
]  # fmt: skip


@pytest.mark.parametrize("words", READING)
def test_a_command_that_looks_makes_no_file(duly: Duly, words: tuple[str, ...]) -> None:
    said = duly(*words)
    assert (said.code, said.out) == (1, "")
    assert said.err == "duly: there is no duly.db here; give --url or set DULY_URL\n"
    assert not list(Path.cwd().iterdir())


def test_a_url_of_a_file_that_is_not_there_is_said(duly: Duly, tmp_path: Path) -> None:
    said = duly("jobs", "--url", f"sqlite:///{tmp_path}/typo.db")
    assert said.code == 1
    assert f"there is no file {tmp_path}/typo.db" in said.err
    assert not (tmp_path / "typo.db").exists()


def test_a_push_makes_the_default_file(duly: Duly) -> None:
    id = duly("push", "hello").out.strip()
    assert Path("duly.db").exists()
    assert duly("jobs", "show", id, "--json").json["task"] == "hello"


def test_the_environment_says_where(duly: Duly, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DULY_URL", sqlite_url)
    monkeypatch.setenv("DULY_NAMESPACE", "shop")
    id = duly("push", "hello").out.strip()
    assert duly("jobs", "show", id, "--url", sqlite_url, "--namespace", "shop").code == 0
    assert duly("jobs", "show", id, "--namespace", "other").code == 1


def test_an_application_s_scheduler_says_where(
    duly: Duly, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("shop_of_connection.py").write_text(APPLICATION.format(url=sqlite_url))
    monkeypatch.setattr(sys, "path", [str(Path.cwd()), *sys.path])
    target = "shop_of_connection:scheduler"
    id = duly("push", "-s", target, "send", "1").out.strip()
    assert duly("jobs", "show", id, "-s", target, "--json").json["queue"] == "mail"
    assert duly("jobs", "show", id, "--url", sqlite_url, "--namespace", "shop").code == 0
    other = f"sqlite:///{tmp_path}/other.db"
    assert duly("push", "-s", target, "--url", other, "send", "1").code == 0
    assert len(duly("jobs", "--url", other, "--namespace", "shop", "--json").json) == 1


@pytest.mark.parametrize("words", [("jobs",), ("push", "hello"), ("doctor",)])
def test_a_store_inside_one_process_is_refused(duly: Duly, words: tuple[str, ...]) -> None:
    said = duly(*words, "--url", "memory://")
    assert said.code == 2
    assert "memory:// lives inside one process" in said.err


@pytest.mark.parametrize(
    "words", [("--url", "nosuch://x"), ("--namespace", "a b"), ("-s", "nowhere"), ("-s", "nowhere:scheduler")]
)
def test_a_place_that_cannot_be_one_is_asked_wrongly(duly: Duly, words: tuple[str, ...]) -> None:
    said = duly("jobs", *words)
    assert (said.code, said.err.count("\n")) == (2, 1)


def test_a_server_that_is_away_is_one_line_that_says_what_to_do(duly: Duly) -> None:
    url = f"redis://user:secret@127.0.0.1:{free_port()}/0"
    said = duly("jobs", "--url", url)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert "is it running, and is --url (or DULY_URL) right?" in said.err
    assert "secret" not in said.err


def test_a_queue_that_nobody_used_is_answered_with_the_nearest(duly: Duly, url: str) -> None:
    using(url, lambda s: s.push("send", queue="mail", remote=True))
    said = duly("jobs", "--queue", "mial", "--url", url)
    assert (said.code, said.err) == (1, "duly: there is no queue 'mial' in this namespace; did you mean 'mail'?\n")


def test_errors_cannot_drive_the_terminal(duly: Duly, sqlite_url: str) -> None:
    duly("push", "x", "--url", sqlite_url)
    said = duly("queues", "pause", "a\x1b[31m\nb", "--url", sqlite_url)
    assert "\x1b" not in said.err
    assert said.err.count("\n") == 1


def test_neither_help_nor_next_loads_what_it_does_not_need() -> None:
    """The version, the help and moments without a store: no client of a server, and tables only where one is shown."""
    script = (
        "import sys, contextlib, io, duly.cli\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): duly.cli.main(sys.argv[1:])\n"
        "print([name for name in ('redis', 'hiredis', 'sqlite3', 'rich', 'uvloop') if name in sys.modules])"
    )

    def loaded(*words: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True, env=ENVIRONMENT
        )
        return list(json.loads(done.stdout.replace("'", '"')))

    assert loaded("--version") == loaded("--help") == loaded("next", "* * * * *", "--json") == []
    assert loaded("next", "* * * * *") == ["rich"]
