"""`duly worker --processes N` as real processes: what it keeps running, what it replaces, and how all of it ends."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from duly import Scheduler
from tests.acceptance.conftest import StartNode, Supervise
from tests.acceptance.nodes import ROOT, Ledger, NodeProcess, until
from tests.acceptance.supervising import STORES, Supervised, are_gone, is_running, write_application


def push(url: str, task: str, *payloads: tuple[Any, ...]) -> list[str]:
    """Push one job for each of these argument lists; their ids."""

    async def pushed() -> list[str]:
        async with Scheduler(url) as scheduler:
            return [(await scheduler.push(task, args=args, remote=True)).id for args in payloads]

    return asyncio.run(pushed())


def own_lines(node: NodeProcess) -> list[str]:
    """What it says beside what it logs as INFO."""
    return [line for line in node.output.splitlines() if " INFO " not in line]


# --- keeping workers running -----------------------------------------------------------------------------------------


@STORES
def test_a_killed_worker_is_replaced_and_its_job_is_run_again(supervise: Supervise, ledger: Ledger, url: str) -> None:
    supervisor = supervise("--processes", "2")
    workers = supervisor.has_online(2)
    (job,) = push(url, "nap", (1,))
    (begun,) = ledger.has(1, "begin", job)
    assert begun.pid in workers
    os.kill(begun.pid, signal.SIGKILL)
    supervisor.says(f"worker {begun.pid} was killed by SIGKILL; its successor starts in 0.1 s")
    successor = supervisor.has_online(3)[2]
    assert successor not in workers
    (end,) = ledger.has(1, "end", job, within=15)
    assert end.facts["crashes"] == 1
    jobs = push(url, "nap", *[()] * 20)
    until(lambda: {entry.job for entry in ledger.read("end")} >= set(jobs), 15, "the end of 20 more jobs")
    pid = supervisor.pid
    assert supervisor.output.splitlines()[0].endswith(
        f" INFO {pid} supervisor {pid} runs 2 worker processes of app:scheduler"
    )


def test_the_supervisor_imports_nothing_of_the_application(supervise: Supervise, ledger: Ledger) -> None:
    workers = supervise("--processes", "2").has_online(2)
    assert [entry.pid for entry in ledger.read("import")] == workers


def test_workers_get_the_flags_of_their_supervisor(supervise: Supervise, url: str) -> None:
    supervisor = supervise(
        *("--processes", "1", "--url", url, "--namespace", "flags", "--queues", "mail,slow", "--concurrency", "7"),
        *("--log-level", "debug"),
        DULY_URL="memory://",
    )
    supervisor.has_online(1)
    assert f"{url}: namespace flags" in supervisor.output
    assert "serves mail, slow with 7 slots" in supervisor.output


def test_workers_are_out_of_reach_of_the_terminal(supervise: Supervise) -> None:
    supervisor = supervise("--processes", "2")
    for worker in supervisor.has_online(2):
        assert os.getsid(worker) == worker  # Ctrl-C goes to the supervisor's group alone
    supervisor.stop_signal(signal.SIGINT)
    assert supervisor.wait() == 0
    are_gone(supervisor.online, within=1)


# --- what cannot start -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "flags", "code", "sentence"),
    [
        ("nonsense:scheduler", [], 2, "there is no module 'nonsense'"),
        ("app:schedular", [], 2, "has no 'schedular'; did you mean 'scheduler'?"),
        ("app:scheduler", ["--lease", "0"], 2, "lease=0.0: give a number from 1 to 86400"),
        ("app:scheduler", ["--max-memory", "1"], 2, "MB before its first job; give more"),
        ("app:scheduler", ["--url", "redis://127.0.0.1:1"], 1, "no connection to redis://127.0.0.1:1"),
        ("tests.acceptance.broken:scheduler", [], 1, "KeyError: 'nothing here' (broken.py:6)"),
    ],
)
def test_what_keeps_workers_from_starting_is_said_once_and_ends_the_supervisor(
    supervise: Supervise, target: str, flags: list[str], code: int, sentence: str
) -> None:
    supervisor = supervise("--processes", "3", *flags, target=target)
    assert supervisor.wait() == code
    (line,) = own_lines(supervisor)
    assert line.startswith("duly: ")
    assert sentence in line
    assert f"ended with code {code} before it was online; so would the others" in supervisor.output


@pytest.mark.parametrize("flags", [["--processes", "0"], ["--max-jobs", "0"], ["--max-memory", "0"]])
def test_a_number_out_of_range_is_refused_by_the_supervisor_itself(supervise: Supervise, flags: list[str]) -> None:
    supervisor = supervise("--processes", "2", *flags)
    assert supervisor.wait() == 2
    assert re.fullmatch(rf"duly: Invalid value for '{flags[0]}': 0 is not in the range .*\n", supervisor.output)


# --- recycling -------------------------------------------------------------------------------------------------------


@STORES
def test_workers_that_have_run_max_jobs_are_replaced_and_no_job_is_lost_or_run_twice(
    supervise: Supervise, ledger: Ledger, url: str
) -> None:
    supervisor = supervise("--processes", "2", "--max-jobs", "10", "--concurrency", "2")
    jobs = push(url, "nap", *[(0.01,)] * 80)
    ledger.has(80, "end", within=30)
    supervisor.stop_signal()
    assert supervisor.wait() == 0
    assert Counter(entry.job for entry in ledger.read("begin")) == dict.fromkeys(jobs, 1)
    assert Counter(entry.job for entry in ledger.read("end")) == dict.fromkeys(jobs, 1)
    for pid, ended in Counter(entry.pid for entry in ledger.read("end")).items():
        assert ended <= 11 + 2, f"worker {pid} ran more than 10 % and two slots above its limit"
    assert len(re.findall(r"max-jobs: (9|10|11) jobs have ended: stopping", supervisor.output)) >= 6
    assert len(re.findall(r"ended with code 0; its successor starts\n", supervisor.output)) >= 5
    assert own_lines(supervisor) == []  # no death, no back-off


def test_a_worker_that_takes_more_than_max_memory_is_replaced(supervise: Supervise, ledger: Ledger, url: str) -> None:
    supervisor = supervise("--processes", "1", "--max-memory", "250")
    (first,) = supervisor.has_online(1)
    (job,) = push(url, "grow", (300,))
    assert ledger.has(1, "end", job)[0].pid == first
    second = supervisor.has_online(2)[1]
    assert re.search(rf"{first} max-memory: the process takes [34]\d\d MB: stopping", supervisor.output)
    (job,) = push(url, "nap", ())
    assert ledger.has(1, "end", job)[0].pid == second
    assert own_lines(supervisor) == []


def test_a_worker_without_a_supervisor_drains_and_exits_after_max_jobs(
    start_node: StartNode, ledger: Ledger, redis_url: str
) -> None:
    jobs = push(redis_url, "nap", *[()] * 12)
    first = start_node("--max-jobs", "4", "--concurrency", "1").is_up()
    assert re.search(r" INFO node \w+ serves", first.output)  # one process of a log needs no pid in its lines
    assert first.wait() == 0
    assert 4 <= len(ledger.read("end")) < 12
    start_node().is_up()
    ledger.has(12, "end")
    assert Counter(entry.job for entry in ledger.read("begin")) == dict.fromkeys(jobs, 1)


# --- stopping --------------------------------------------------------------------------------------------------------


@STORES
def test_a_supervisor_told_to_stop_lets_jobs_end_and_leaves_no_process(
    supervise: Supervise, ledger: Ledger, url: str
) -> None:
    supervisor = supervise("--processes", "2", "--concurrency", "1")
    supervisor.has_online(2)
    jobs = push(url, "nap", (0.5,), (0.5,))
    ledger.has(2, "begin")
    supervisor.stop_signal()
    assert supervisor.wait() == 0
    are_gone(supervisor.online, within=1)
    assert sorted(entry.job for entry in ledger.read("end")) == sorted(jobs)


def test_a_second_signal_kills_all_at_once(supervise: Supervise, ledger: Ledger, url: str) -> None:
    supervisor = supervise("--processes", "2", "--concurrency", "1", DULY_GRACE="60")
    supervisor.has_online(2)
    push(url, "nap", (60,), (60,))
    ledger.has(2, "begin")
    supervisor.stop_signal()
    supervisor.says("once more ends at once")
    supervisor.stop_signal()
    assert supervisor.wait() == 128 + signal.SIGTERM
    are_gone(supervisor.online, within=5)
    assert ledger.read("end") == []


def test_a_worker_that_is_signalled_beside_its_supervisor_still_lets_its_job_end(
    supervise: Supervise, ledger: Ledger, url: str
) -> None:
    supervisor = supervise("--processes", "1")
    (worker,) = supervisor.has_online(1)
    (job,) = push(url, "nap", (1,))
    ledger.has(1, "begin", job)
    os.kill(worker, signal.SIGTERM)  # as a service manager does, to every process of a service
    supervisor.says(f"INFO {worker} SIGTERM: stopping")
    supervisor.stop_signal()
    assert supervisor.wait() == 0
    assert [entry.what for entry in ledger.read(job=job)] == ["begin", "end"]
    assert supervisor.output.count(f" INFO {worker} SIGTERM: stopping\n") == 1


@STORES
def test_workers_whose_supervisor_was_killed_stop_gracefully(supervise: Supervise, ledger: Ledger, url: str) -> None:
    supervisor = supervise("--processes", "2", "--concurrency", "1")
    workers = supervisor.has_online(2)
    jobs = push(url, "nap", (1,), (1,))
    ledger.has(2, "begin")
    supervisor.kill()
    are_gone(workers)
    assert sorted(entry.job for entry in ledger.read("end")) == sorted(jobs)
    assert supervisor.output.count("the supervisor is gone: stopping") == 2


# --- replacing all, one by one ---------------------------------------------------------------------------------------


def lives(supervisor: Supervised, *pids: int) -> list[tuple[str, int]]:
    """The ends and beginnings of these workers in their order."""
    events = re.findall(r" INFO (\d+) (?:node \w+ (has stopped)|\S+: (namespace))", supervisor.output)
    return [("end" if stopped else "start", int(pid)) for pid, stopped, _ in events if int(pid) in pids]


def test_a_hangup_replaces_the_workers_one_by_one(supervise: Supervise, ledger: Ledger, url: str, folder: Path) -> None:
    supervisor = supervise("--processes", "2", "--concurrency", "1")
    supervisor.has_online(2)
    jobs = push(url, "nap", (0.5,), (0.5,))
    ledger.has(2, "begin")
    write_application(folder, "number two")
    supervisor.stop_signal(signal.SIGHUP)
    supervisor.says("2 worker processes replaced")
    first, second, third, fourth = supervisor.online
    assert lives(supervisor, first, second, third, fourth)[2:] == [
        ("end", first),
        ("start", third),
        ("end", second),
        ("start", fourth),
    ]
    assert Counter(entry.job for entry in ledger.read("end")) == dict.fromkeys(jobs, 1)
    (job,) = push(url, "nap", ())
    assert ledger.has(1, "end", job)[0].facts["version"] == "number two"
    assert own_lines(supervisor) == []


def test_a_hangup_stops_at_a_successor_that_cannot_start(
    supervise: Supervise, ledger: Ledger, url: str, folder: Path
) -> None:
    supervisor = supervise("--processes", "2")
    first, second = supervisor.has_online(2)
    write_application(folder, "broken", "raise KeyError('broken')")
    supervisor.stop_signal(signal.SIGHUP)
    supervisor.says("the other workers stay as they are")
    assert is_running(second)
    (job,) = push(url, "nap", ())
    assert ledger.has(1, "end", job)[0].pid == second
    write_application(folder, "repaired again")
    third = supervisor.has_online(3)[2]
    assert lives(supervisor, first, second, third)[2:] == [("end", first), ("start", third)]


# --- the command -----------------------------------------------------------------------------------------------------


def test_a_scheduler_that_runs_itself_takes_the_same_limits(tmp_path: Path, ledger: Ledger, url: str) -> None:
    program = tmp_path / "program.py"
    write_application(tmp_path, "one", "if __name__ == '__main__':\n    scheduler.run(max_jobs=2)")
    (tmp_path / "app.py").rename(program)
    push(url, "nap", *[()] * 2)
    env = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "DULY_URL": url, "LEDGER": str(ledger.path)}
    node = NodeProcess(tmp_path / "program.log", str(program), env=env, cwd=tmp_path).start()
    try:
        assert node.wait() == 0
    finally:
        node.kill()
    assert len(ledger.read("end")) == 2


def test_the_help_says_what_the_exit_codes_mean(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "help.log", "-m", "duly", "worker", "--help").start()
    assert node.wait() == 0
    for said in ("--processes N", "--max-jobs N", "--max-memory MB", "--reload", "128+N  ended at once"):
        assert said in node.output
    assert "--supervisor" not in node.output
    node.kill()
