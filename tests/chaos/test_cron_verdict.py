"""What the verdict says of ticks of a pool: each kind of loss is planted in a real store, and is seen for what it is."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from duly.cluster import Member
from tests.chaos.cron import Inquest, Machines, Settings, judge
from tests.chaos.cron_node import DRIVERS
from tests.servers import HOST

PIDS = {"killed": 11, "killed later": 12, "alive": 13}
pytestmark = pytest.mark.server


@pytest.fixture(params=[pytest.param("redis", marks=pytest.mark.redis), "etcd"])
def machines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machines]:
    found = Machines(Settings(request.param, names=6), tmp_path)
    found.server.start()
    lines = (f"is up as {id.replace(' ', '-')} in process {pid}\n" for id, pid in PIDS.items())
    (tmp_path / "0-001.log").write_text("".join(lines))
    yield found
    found.stop()


async def claim(machines: Machines, id: str, *ticks: tuple[str, int]) -> None:
    scheme = "http" if machines.settings.driver == "etcd" else "redis"
    driver = DRIVERS[machines.settings.driver](f"{scheme}://{HOST}:{machines.server.port}")
    await driver.start(Member(id.replace(" ", "-")))
    await driver.claim([(name, 1000 * second) for name, second in ticks])
    await driver.stop()


def kill(machines: Machines, id: str, later: float) -> None:
    machines.troubles.append({"kind": "kill", "pid": PIDS[id], "at": time.time() + later})


async def test_of_each_lost_tick_it_says_who_had_claimed_it_and_what_became_of_that_node(machines: Machines) -> None:
    second = int(time.time())
    await claim(machines, "alive", ("name 5", second))
    for _ in range(2):
        machines.ledger.write("tick", "name 5", second=second, late=time.time() - second)
    await claim(machines, "killed", ("name 0", second), ("name 1", second - 1), ("name 1", second + 1))
    kill(machines, "killed", 0.1)
    await claim(machines, "killed later", ("name 2", second))
    kill(machines, "killed later", 5.0)
    await claim(machines, "alive", ("name 3", second))
    inquest = Inquest(machines, second)
    inquest.ask(second)
    verdict = judge(machines, inquest, second)
    expected = [
        r"doubled: \('name 5', \d+\)",
        r"lost with its node: \('name 0', \d+\): claimed .* by process 11, which was killed \d+ ms later",
        r"lost with its node: \('name 1', \d+\): claimed .* by process 11, which was killed \d+ ms later",
        r"lost: \('name 2', \d+\): claimed .* by process 12, which was killed [45]\.\d+ s later",
        r"lost: \('name 3', \d+\): claimed .* by process 13, which was not killed",
        r"lost: \('name 4', \d+\): nobody has claimed it",
    ]
    assert len(verdict.violations) == len(expected), verdict
    for wanted, sentence in zip(expected, sorted(verdict.violations), strict=True):
        assert re.fullmatch(wanted, sentence)
    assert (verdict.figures["lost"], verdict.figures["  killed in the claim"], verdict.figures["doubled"]) == (5, 2, 1)


async def test_a_run_in_which_nothing_happened_has_shown_nothing(machines: Machines) -> None:
    second = int(time.time())
    assert "nothing was put to the test" in judge(machines, Inquest(machines, second), second - 1).violations
