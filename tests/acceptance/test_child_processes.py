"""Child processes of a real `duly worker`: what becomes of them when their node is told to end, or is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import StartNode
from tests.acceptance.nodes import Ledger, NodeProcess, until

Push = Callable[..., str]


@pytest.fixture
def start(start_node: StartNode) -> Callable[..., NodeProcess]:
    def start(*flags: str) -> NodeProcess:
        return start_node("--children", "1", *flags, target="tests.process_handlers:scheduler").is_up()

    return start


def is_gone(pid: int) -> bool:
    """Whether the process does nothing any more; whoever inherited it may not have reaped it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_child_of_a_killed_node_ends_and_its_job_is_run_again(start: Any, push: Push, ledger: Ledger) -> None:
    doomed = start()
    job = push("work", 1)
    first = ledger.has(1, "begin", job)[0]
    assert first.facts["parent"] == doomed.pid
    doomed.kill()
    until(lambda: is_gone(first.pid), 5, "the end of the child")
    other = start()
    ledger.has(1, "end", job)
    second = ledger.read("begin", job)[1]
    assert (second.facts["parent"], second.facts["crashes"]) == (other.pid, 1)
    assert len(ledger.read("end", job)) == 1


def test_an_idle_child_of_a_killed_node_ends(start: Any, push: Push, ledger: Ledger) -> None:
    doomed = start()
    job = push("work", 0)
    child = ledger.has(1, "end", job)[0].pid
    doomed.kill()
    until(lambda: is_gone(child), 10, "the end of the child")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_lets_the_job_in_the_child_end(
    start: Any, push: Push, ledger: Ledger, number: int
) -> None:
    node = start("--grace", "20")
    job = push("work", 1)
    child = ledger.has(1, "begin", job)[0].pid
    os.killpg(node.pid, number)  # a terminal sends SIGINT so, and a service manager SIGTERM
    assert node.wait(15) == 0
    assert [entry.what for entry in ledger.read(job=job)] == ["begin", "end"]
    assert is_gone(child)


def test_a_job_in_a_child_that_outlasts_the_grace_is_ended_and_handed_back(
    start: Any, push: Push, ledger: Ledger
) -> None:
    node = start("--grace", "0.2")
    job = push("work", 60)
    child = ledger.has(1, "begin", job)[0].pid
    node.stop_signal()
    assert node.wait(10) == 0
    assert is_gone(child)
    start()
    second = ledger.has(2, "begin", job)[1]
    assert (second.facts["attempt"], second.facts["crashes"]) == (1, 0)


def test_a_program_started_in_a_child_hears_signals(start: Any, push: Push, ledger: Ledger) -> None:
    start()
    job = push("program")
    assert ledger.has(1, "ended", job)[0].facts["code"] == -signal.SIGTERM
