"""When a process has run long enough: the limits, their jitter, and what is refused."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from duly import InvalidOption, Scheduler
from duly.runtime import recycling as module
from duly.runtime.memory import resident_bytes
from duly.runtime.recycling import MB, Recycling, jittered


def test_the_limit_of_a_process_is_ten_percent_more_or_less() -> None:
    assert [jittered(1000, chance) for chance in (0, 0.25, 0.5, 0.75, 1)] == [900, 950, 1000, 1050, 1100]
    assert [jittered(1, chance) for chance in (0, 1)] == [1, 1]


def test_processes_of_one_limit_do_not_all_stop_together() -> None:
    assert len({Recycling(max_jobs=1_000_000)._enough for _ in range(20)}) > 10


def test_it_asks_once_when_enough_jobs_have_ended() -> None:
    asked: list[str] = []
    recycling = Recycling(max_jobs=3)
    recycling.ask = asked.append
    for _ in range(2):
        recycling.run_ended()
    assert asked == []
    for _ in range(5):
        recycling.run_ended()
    assert asked == ["max-jobs: 3 jobs have ended"]


def test_without_limits_it_never_asks() -> None:
    asked: list[str] = []
    recycling = Recycling()
    recycling.ask = asked.append
    recycling.run_ended()
    asyncio.run(recycling.watch())
    assert asked == []


async def test_it_asks_when_the_memory_is_above_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([90, 100, 100.5, 130])
    monkeypatch.setattr(module, "resident_bytes", lambda: int(next(taken) * MB))
    monkeypatch.setattr(module, "LOOK", 0)
    asked: list[str] = []
    recycling = Recycling(max_memory=100)
    recycling.ask = asked.append
    await recycling.watch()
    assert asked == ["max-memory: the process takes 100 MB"]
    assert next(taken) == 130


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"max_jobs": 0}, "max_jobs=0: give a whole number from 1 to 1000000000"),
        ({"max_jobs": 1.5}, r"max_jobs=1\.5: give a whole number"),
        ({"max_jobs": True}, "max_jobs=True: give a whole number"),
        ({"max_memory": 0.5}, r"max_memory=0\.5: give a number of megabytes from 1 to 1000000000"),
        ({"max_memory": "1G"}, "max_memory='1G': give a number of megabytes"),
        ({"max_memory": 2}, r"max_memory=2: the process takes \d+ MB before its first job; give more"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused_before_anything_runs(limits: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidOption, match=sentence):
        Scheduler("memory://").run(**limits)


def test_a_limit_of_memory_is_refused_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(InvalidOption, match="max_memory: not on Windows"):
        Recycling(max_memory=1000)
    Recycling(max_jobs=10)


def test_memory_that_is_taken_shows() -> None:
    before = resident_bytes()
    kept = b"x" * (64 * MB)
    assert 50 * MB < resident_bytes() - before < 500 * MB
    del kept
