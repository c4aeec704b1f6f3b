"""The cluster in one loop keeps every promise, and breaks them when a rule is taken out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from duly.testing.simulate import main
from duly.testing.simulation import Report, simulate
from duly.testing.simulation.plant import PLANTS, planted

SEEDS = 50
SEEDS_ELSEWHERE = 10
MOST = 1_000
"""Seeds within which a planted fault must be found."""


def played(seed: int, store: str = "memory", url: str = "") -> Report:
    report = simulate(seed, store, url)
    shown = "\n".join([*report.faults, *(line[:300] for line in report.lines(40))])
    assert not report.faults, f"seed {seed} on {store}: python -m duly.testing.simulate --first {seed}\n{shown}"
    return report


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_many_seeds_keep_every_promise() -> None:
    jobs = sum(played(seed).jobs for seed in range(SEEDS))
    assert jobs > 20 * SEEDS  # else nothing much was tried


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_many_seeds_keep_every_promise_on_sqlite() -> None:
    for seed in range(SEEDS_ELSEWHERE):
        played(seed, "sqlite")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_many_seeds_keep_every_promise_on_redis(redis_url: str) -> None:
    for seed in range(SEEDS_ELSEWHERE):
        played(seed, "redis", redis_url)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_fault_is_found(plant: str) -> None:
    with planted(plant):
        found = next((seed for seed in range(MOST) if simulate(seed).faults), None)
    assert found is not None, f"{MOST} seeds without the rule {plant!r}, and nothing was noticed"


def test_what_is_planted_is_gone_afterwards() -> None:
    with planted("fence"):
        pass
    played(0)


EVENTS = """
from duly.testing.simulation import simulate
for seed in range(5):
    print(*simulate(seed).lines(), sep="\\n")
"""


def test_the_same_seed_is_the_same_run_event_for_event_whatever_the_hash_seed(tmp_path: Path) -> None:
    def events(hash_seed: str) -> str:
        path = os.pathsep.join(sys.path)
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
        done = subprocess.run(
            [sys.executable, "-c", EVENTS], env=env, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    first = events("1")
    assert len(first.splitlines()) > 100
    assert first == events("2")


def test_two_seeds_are_two_runs() -> None:
    assert simulate(1).lines() != simulate(2).lines()


def test_a_failing_seed_is_printed_with_the_command_that_plays_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "3", "--without", "start"]) == 1
    said = capsys.readouterr().out
    assert "began at most once without its mark" in said
    again = next(line for line in said.splitlines() if "play it again" in line).partition(": ")[2]
    words = again.removeprefix("python -m duly.testing.simulate ").split()
    assert main(words) == 1
    repeated = capsys.readouterr().out
    seed = words[words.index("--first") + 1]
    fault = said.partition(f"seed {seed} (memory):\n  ")[2].splitlines()[0]
    assert fault in repeated


def test_seeds_that_keep_their_promises_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "2"]) == 0
    assert "memory: 2 seeds" in capsys.readouterr().out


def test_a_fault_cannot_be_planted_in_another_store(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--store", "sqlite", "--without", "fence"])
    assert "memory store only" in capsys.readouterr().err
