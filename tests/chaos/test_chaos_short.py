"""The short form of `make chaos` and `make chaos-ticks`: real processes, killed, stopped, cut off, for twenty seconds each.

The plan is drawn anew each time; its seed is in the output of a run that fails, with all the evidence beside it.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.run import Settings, chaos
from tests.chaos.ticks import Settings as TicksSettings
from tests.chaos.ticks import ticks

SECONDS = 14.0
RECOVERED_WITHIN = 15.0  # this machine may be busy with other tests; `make chaos` judges by what is promised

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
STORES = pytest.mark.parametrize(
    "store", [pytest.param("redis", marks=[pytest.mark.server, pytest.mark.redis]), "sqlite"]
)


@STORES
async def test_nothing_is_lost_and_nothing_doubled_without_a_lost_lease(store: str, tmp_path: Path) -> None:
    settings = Settings(store, SECONDS, random.randrange(1_000_000), nodes=3, rate=15, recovery=RECOVERED_WITHIN)
    verdict = await chaos(settings, tmp_path)
    print(settings, verdict, sep="\n")  # noqa: T201  shown when the test fails
    assert verdict.violations == []


@STORES
async def test_each_tick_fires_once_while_nodes_are_killed(store: str, tmp_path: Path) -> None:
    settings = TicksSettings(store, seconds=13, seed=random.randrange(1_000_000), nodes=4, schedules=20)
    verdict = await ticks(settings, tmp_path)
    print(settings, verdict, sep="\n")  # noqa: T201  shown when the test fails
    assert verdict.violations == []
