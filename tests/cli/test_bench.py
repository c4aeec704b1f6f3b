"""`duly bench`: it measures, and leaves nothing behind."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

import pytest

from duly.cli import bench
from tests.cli.conftest import Duly, using
from tests.servers import Server

SHORT = ("bench", "--seconds", "0.4")


def test_without_a_url_it_measures_a_file_that_is_gone_afterwards(
    duly: Duly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "here"))
    found = duly(*SHORT, "--json").json
    assert found["store"].startswith("sqlite:///")
    assert all(found[name] > 0 for name in ("pushes", "push_many", "jobs", "start_p50", "start_p99"))
    assert found["start_p50"] <= found["start_p99"]
    assert not list(Path.cwd().iterdir())


def test_people_get_a_table(duly: Duly, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = duly(*SHORT).lines
    assert [line.partition("  ")[0] for line in lines[3:]] == [
        "pushes", "push_many", "jobs", "push to start, p50", "push to start, p99",
    ]  # fmt: skip


def test_a_server_is_left_as_it_was(
    duly: Duly, redis_server: Server, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    using(redis_url, lambda s: s.push("send", remote=True))
    with redis_server.client() as client:
        before = set(client.keys("*"))
        monkeypatch.setenv("DULY_URL", redis_url)
        assert duly(*SHORT, "--json").json["store"] == redis_url
        assert set(client.keys("*")) == before


def test_a_fault_on_the_way_still_clears(duly: Duly, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_bench: object) -> None:
        raise RuntimeError("no measure")

    monkeypatch.setattr(bench._Bench, "_measure_starts", fail)
    said = duly(*SHORT, "--url", sqlite_url)
    assert (said.code, said.err) == (1, "duly: no measure\n")
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as db:
        assert db.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
    db.close()


def test_a_url_that_is_none_is_asked_wrongly(duly: Duly) -> None:
    assert duly(*SHORT, "--url", "nosuch://x").code == 2
