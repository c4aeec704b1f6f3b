"""`duly demo`: that it runs, that it ends with 1 when something is wrong, and that each of its checks can fail."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from duly.cli.demo.facts import Facts, check
from duly.cli.demo.ledger import Run
from duly.cli.demo.screen import KINDS, render, summary
from duly.cli.demo.story import Story
from duly.scheduler import Scheduler
from tests.acceptance.nodes import ROOT
from tests.acceptance.supervising import are_gone

VICTIM, OTHER = 11, 12


def demo(*arguments: str, **kwargs: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "duly", "demo", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **kwargs
    )


# --- whole runs ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_demo_on_a_sqlite_file_and_on_redis_ends_by_itself_and_leaves_nothing(
    tmp_path: Path, redis_url: str
) -> None:
    """Both at the same time: each waits for most of its own."""
    on_a_file, on_redis = demo("--json", cwd=tmp_path), demo("--url", redis_url)
    (out, err), (out_of_redis, err_of_redis) = (done.communicate(timeout=45) for done in (on_a_file, on_redis))
    summary = json.loads(out)
    assert [check for check in summary["checks"] if not check["ok"]] == []
    assert (on_a_file.returncode, summary["ok"], len(summary["checks"])) == (0, True, 8)
    assert "killed with SIGKILL" in err
    assert "took the report over" in err
    assert list(tmp_path.iterdir()) == []
    assert on_redis.returncode == 0, out_of_redis + err_of_redis
    assert "Everything went as promised" in out_of_redis

    async def left() -> list[int]:
        async with Scheduler(redis_url) as scheduler:
            return [(await scheduler.queues.sizes(queue)).pending for queue in await scheduler.queues.list()]

    assert sum(asyncio.run(left())) == 0


def test_a_store_that_is_not_there_ends_the_demo_with_one(tmp_path: Path) -> None:
    done = demo("--json", "--url", f"sqlite:///{tmp_path}/nowhere/duly.db")
    out, err = done.communicate(timeout=45)
    summary = json.loads(out)
    assert (done.returncode, summary["ok"]) == (1, False)
    assert "there is no folder" in str(summary["checks"])
    assert "nodes' logs" in err


def test_memory_is_refused_with_a_sentence() -> None:
    done = demo("--url", "memory://")
    _, err = done.communicate(timeout=45)
    assert done.returncode == 2
    assert "leave it out" in err


def test_a_demo_that_is_interrupted_stops_its_nodes() -> None:
    done = demo()
    assert done.stdout is not None
    online = done.stdout.readline()
    pids = [int(word) for word in online.split() if word.isdigit()]
    assert len(pids) == 2
    os.kill(done.pid, signal.SIGINT)
    done.communicate(timeout=30)
    assert done.returncode == 130
    are_gone(pids)


# --- the checks ------------------------------------------------------------------------------------------------------


def run(job: str, task: str, began: float, **more: Any) -> Run:
    given = {"nominal": None, "attempt": 1, "crashes": 0, "pid": OTHER, "ended": began + 0.01, "ok": True}
    return Run(job=job, task=task, began=began, **{**given, **more})


def good() -> Facts:
    """A demo that went as it should: online at 100, the kill at 103, the schedules paused at 110."""
    runs = [
        run("r1", "receipt", 100.1),
        run("m1", "reminder", 103.0),
        *(run("w1", "webhook", 100.5 + n, attempt=n, ok=n == 3) for n in (1, 2, 3)),
        run("big", "report", 101.0, pid=VICTIM, ended=None, ok=False),
        run("big", "report", 105.5, crashes=1),
        *(run(f"t{n}", "tick", n + 0.01, nominal=float(n)) for n in range(100, 110)),
        *(run(f"p{n}", "poll", n + 0.01, nominal=n) for n in (100.0, 102.5, 105.0, 107.5)),
    ]
    pushed = {"r1": "receipt", "m1": "reminder", "w1": "webhook", "big": "report"}
    return Facts(pushed, {"m1": 102.9}, 100.0, 110.0, VICTIM, 103.0, runs)


def test_a_demo_that_went_well_passes_every_check() -> None:
    assert [line for line in check(good()) if not line.ok] == []


def without(*jobs: str) -> Callable[[Facts], list[Run]]:
    return lambda facts: [r for r in facts.runs if r.job not in jobs]


def but(job: str, **changes: Any) -> Callable[[Facts], list[Run]]:
    return lambda facts: [msgspec.structs.replace(r, **changes) if r.job == job else r for r in facts.runs]


def and_(*more: Run) -> Callable[[Facts], list[Run]]:
    return lambda facts: [*facts.runs, *more]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"runs": without("r1")}, "every job that was pushed"),
        ({"runs": but("r1", ok=False)}, "every job that was pushed"),
        ({"pushed": {}}, "every job that was pushed"),
        ({"due": {"m1": 103.5}}, "began before its moment"),
        ({"due": {}}, "began before its moment"),
        ({"runs": but("w1", ok=True)}, "tried again"),
        ({"runs": but("big", pid=VICTIM)}, "run again by another"),
        ({"runs": but("big", crashes=0)}, "began again"),
        ({"killed": 90.0}, "began again"),
        ({"victim": 0}, "run again by another"),
        ({"runs": and_(run("r1", "receipt", 104.0))}, "no other job ran"),
        ({"runs": and_(run("r9", "receipt", 101.0, pid=VICTIM), run("r9", "receipt", 105.0))}, "no other job ran"),
        ({"runs": without("t104")}, "'tick'"),
        ({"runs": without("t100", "t101", "t102", "t103", "t104")}, "'tick'"),
        ({"runs": without("t105", "t106", "t107", "t108", "t109")}, "'tick'"),
        ({"runs": and_(run("t104-again", "tick", 104.02, nominal=104.0))}, "'tick'"),
        ({"runs": without("p102.5")}, "'poll'"),
        ({"left": 2}, "nothing is left"),
        ({"faults": ["node 3 ended with code 1"]}, "node 3 ended"),
    ],
)
def test_each_check_fails_for_what_it_watches(change: dict[str, Any], complaint: str) -> None:
    facts = good()
    for name, value in change.items():
        setattr(facts, name, value(facts) if callable(value) else value)
    assert any(complaint in line.what for line in check(facts) if not line.ok)


def test_what_the_killed_node_could_not_report_may_run_twice() -> None:
    facts = good()
    facts.runs += [run("r9", "receipt", 102.5, pid=VICTIM), run("r9", "receipt", 105.2, crashes=1)]
    (line,) = [line for line in check(facts) if "no other job" in line.what]
    assert line.ok
    assert line.detail.startswith("1 had ended there")


# --- the screen ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_the_screen_fits_whatever_the_width(tmp_path: Path, width: int) -> None:
    story = Story(Scheduler(f"sqlite:///{tmp_path}/duly.db"), tmp_path, clears=False)
    story.facts = good()
    story.tell("a [bold]sentence[/bold] that is longer than a narrow terminal, and is not cut off anywhere at all")
    console = Console(width=width, record=True, file=StringIO())
    console.print(render(story, width))
    console.print(summary(check(good())))
    text = console.export_text()
    assert max(len(line) for line in text.splitlines()) <= width
    assert all(task in text for task in KINDS)
    assert "[bold]" in text
