"""`duly worker` as a real process on a real Redis: how it ends, how it dies, and what becomes of its jobs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from typing import Any

import pytest

from duly import Scheduler
from duly.stores.redis.keys import ShardKeys
from tests.acceptance.conftest import StartNode
from tests.acceptance.nodes import ROOT, Ledger, until
from tests.servers import Server

NAPS = pytest.mark.parametrize("task", ["nap", "nap_in_thread"])
LEASE = 2.0  # seconds, as start_node gives it


def state(url: str, job: str) -> str | None:
    """Where the job is, or None if the store knows nothing of it any more."""

    async def found() -> str | None:
        async with Scheduler(url) as scheduler:
            view = await scheduler.jobs.get(job)
            return view.state if view else None

    return asyncio.run(found())


# --- stopping --------------------------------------------------------------------------------------------------------


@NAPS
def test_a_node_told_to_stop_lets_its_job_end(
    start_node: StartNode, push: Any, ledger: Ledger, redis_url: str, task: str
) -> None:
    node = start_node(NAP="0.5").is_up()
    job = push(task)
    ledger.has(1, "begin", job)
    node.stop_signal()
    assert node.wait(5) == 0
    assert [entry.what for entry in ledger.read(job=job)] == ["begin", "end"]
    assert state(redis_url, job) is None  # settled: it has ended


@NAPS
def test_a_job_longer_than_the_grace_is_handed_back_uncounted(
    start_node: StartNode, push: Any, ledger: Ledger, task: str
) -> None:
    stuck = start_node("--grace", "0.3", NAP="30").is_up()
    job = push(task)
    ledger.has(1, "begin", job)
    other = start_node(NAP="0").is_up()
    stuck.stop_signal()
    assert stuck.wait(5) == 0
    ledger.has(1, "end", job)
    first, second = ledger.read("begin", job)
    assert (first.pid, second.pid) == (stuck.pid, other.pid)
    assert (second.facts["attempt"], second.facts["crashes"]) == (1, 0)
    assert second.facts["fence"] > first.facts["fence"]


def test_a_second_signal_ends_the_node_at_once(start_node: StartNode, push: Any, ledger: Ledger) -> None:
    node = start_node("--grace", "20", NAP="30").is_up()
    job = push("nap")
    ledger.has(1, "begin", job)
    node.stop_signal()
    node.says("once more ends at once")  # else the two signals could arrive as one
    node.stop_signal()
    assert node.wait(2) == 128 + signal.SIGTERM
    assert ledger.read("end", job) == []


def test_a_second_signal_ends_a_node_whose_loop_is_blocked(start_node: StartNode, push: Any, ledger: Ledger) -> None:
    node = start_node().is_up()
    job = push("compute_on_loop", 30)
    ledger.has(1, "begin", job)
    node.stop_signal()
    node.says("once more ends at once")
    node.stop_signal()
    assert node.wait(2) == 128 + signal.SIGTERM


# --- dying -----------------------------------------------------------------------------------------------------------


def test_the_job_of_a_killed_node_is_run_again_within_three_seconds(
    start_node: StartNode, push: Any, ledger: Ledger, redis_url: str
) -> None:
    doomed = start_node(NAP="30").is_up()
    job = push("nap")
    ledger.has(1, "begin", job)
    other = start_node(NAP="0").is_up()
    ledger.write("kill", job)
    doomed.kill()
    ledger.has(1, "end", job)
    killed = ledger.read("kill", job)[0].at
    again = ledger.read("begin", job)[1]
    print(f"run again {again.at - killed:.2f} s after the kill")  # noqa: T201  the figure, for pytest -s
    assert again.at - killed < LEASE + 3  # two seconds more than promised: this machine may be busy
    assert again.pid == other.pid
    assert (again.facts["attempt"], again.facts["crashes"]) == (1, 1)
    until(lambda: state(redis_url, job) is None, 5, "the end of the job")
    assert len(ledger.read("begin", job)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("task", ["compute_in_thread", "compute_on_loop"])
def test_a_handler_that_blocks_its_node_for_three_leases_keeps_its_job(
    start_node: StartNode, push: Any, ledger: Ledger, redis_url: str, task: str
) -> None:
    start_node().is_up()
    start_node().is_up()  # would take the job over
    job = push(task, 3 * LEASE)
    ledger.has(1, "end", job, within=3 * LEASE + 10)
    until(lambda: state(redis_url, job) is None, 5, "the end of the job")
    assert [entry.what for entry in ledger.read(job=job)] == ["begin", "end"]


# --- being started ---------------------------------------------------------------------------------------------------


def run_duly(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **env}
    command = [sys.executable, "-m", "duly", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=20)


APPLICATION = "tests.acceptance.application"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nonsense:scheduler"], 2, "there is no module 'nonsense'"),
        (["tests.nonsense:scheduler"], 2, "there is no module 'tests.nonsense'"),
        ([f"{APPLICATION}:schedular"], 2, "has no 'schedular'; did you mean 'scheduler'?"),
        ([f"{APPLICATION}:ledger"], 2, "'ledger' is a Ledger, not a Scheduler; did you mean 'scheduler'?"),
        (["tests.servers:Server"], 2, "it has no Scheduler at all"),
        ([APPLICATION], 2, "is not MODULE:ATTRIBUTE, such as app:scheduler"),
        (["tests/acceptance/application.py:scheduler"], 2, f"give its module: {APPLICATION}:scheduler"),
        ([], 2, "Missing argument 'MODULE:ATTRIBUTE'"),
        ([f"{APPLICATION}:scheduler", "--leas", "5"], 2, "--lease"),
        ([f"{APPLICATION}:scheduler", "--lease", "0"], 2, "lease=0.0: give a number from 1 to 86400"),
        ([f"{APPLICATION}:scheduler", "--url", "nope://"], 2, "'nope://' names no store"),
        ([f"{APPLICATION}:scheduler", "--url", "redis://127.0.0.1:1"], 1, "no connection to redis://127.0.0.1:1"),
        (["tests.acceptance.broken:scheduler"], 1, "KeyError: 'nothing here' (broken.py:6)"),
    ],
)
def test_a_worker_that_cannot_start_says_why_in_one_line(arguments: list[str], code: int, sentence: str) -> None:
    run = run_duly("worker", *arguments)
    assert run.returncode == code, run.stderr
    lines = [line for line in run.stderr.splitlines() if " INFO " not in line]
    assert len(lines) == 1, run.stderr
    assert lines[0].startswith("duly: ")
    assert sentence in lines[0]
    assert run.stdout == ""


def test_debug_shows_where_an_error_comes_from() -> None:
    run = run_duly("worker", "tests.acceptance.broken:scheduler", "--log-level", "debug")
    assert run.returncode == 1
    assert run.stderr.startswith("duly: importing tests.acceptance.broken failed")
    assert 'raise KeyError("nothing here")' in run.stderr


def test_the_command_line_without_a_command() -> None:
    assert re.fullmatch(r"duly \d+\.\d+\.\d+\n", run_duly("--version").stdout)
    assert re.search(r"worker +Run the jobs of an application\.", run_duly().stdout)
    wrong = run_duly("wroker")
    assert (wrong.returncode, wrong.stderr) == (2, "duly: there is no command 'wroker'; did you mean 'worker'?\n")


def test_flags_win_over_the_code(start_node: StartNode, redis_url: str, ledger: Ledger) -> None:
    node = start_node(
        *("--url", redis_url, "--namespace", "flags", "--queues", "mail,slow", "--concurrency", "7", "--tags", "gpu"),
        DULY_URL="memory://",
    ).is_up()
    assert f"{redis_url}: namespace flags" in node.output
    assert "serves mail, slow with 7 slots" in node.output

    async def run_one() -> None:
        async with Scheduler(redis_url, namespace="flags") as scheduler:
            job = await scheduler.push("nap", remote=True, queue="slow")
            await asyncio.to_thread(ledger.has, 1, "end", job.id)

    asyncio.run(run_one())


# --- being forked ----------------------------------------------------------------------------------------------------


def test_processes_forked_from_one_parent_have_names_of_their_own(redis_url: str, redis_server: Server) -> None:
    command = [sys.executable, "-m", "tests.acceptance.forking", redis_url]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=30)
    assert run.returncode == 0, run.stderr
    told = [json.loads(line) for line in run.stdout.splitlines()]
    jobs = [job for process in told for job in process["jobs"]]
    assert len(jobs) == len(set(jobs)) == 9  # of the parent and two children
    assert len({job[:10] for job in jobs}) == 3  # the random part; the rest is a counter
    nodes = [node for process in told for node in process["nodes"]]
    assert len(nodes) == len(set(nodes)) == 2
    with redis_server.client() as client:
        assert client.hlen(ShardKeys("duly", "default").key("clients")) == 3
