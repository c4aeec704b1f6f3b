"""The short form of `make chaos` and `make chaos-ticks`: real processes, killed, stopped, cut off, for twenty seconds each.

The plan is drawn anew each time; its seed is in the output of a run that fails, with all the evidence beside it.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.plan import STORE
from tests.chaos.run import Settings, chaos
from tests.chaos.stores import opened
from tests.chaos.ticks import Settings as TicksSettings
from tests.chaos.ticks import ticks

SECONDS = 20.0
RECOVERED_WITHIN = 15.0  # this machine may be busy with other tests; `make chaos` judges by what is promised

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
REDIS = pytest.param("redis", marks=[pytest.mark.server, pytest.mark.redis])
SQLITE = pytest.param("sqlite")
SEVERAL = [
    pytest.param(kind, marks=[pytest.mark.server, getattr(pytest.mark, runs)])
    for kind, runs in {"valkey": "valkey", "sentinel": "redis", "cluster": "valkey", "servers": "redis"}.items()
]


def settings_that_touch_the_store(store: str) -> Settings:
    """With a plan in which the store itself has trouble, too."""
    while True:
        seed = random.randrange(1_000_000)
        settings = Settings(store, SECONDS, seed, nodes=3, rate=15, recovery=RECOVERED_WITHIN)
        if any(step.target == STORE for step in settings.plan(opened(store, Path()).kinds)):
            return settings


@pytest.mark.parametrize("store", [REDIS, SQLITE, *SEVERAL])
async def test_nothing_is_lost_and_nothing_doubled_without_a_lost_lease(store: str, tmp_path: Path) -> None:
    settings = settings_that_touch_the_store(store)
    verdict = await chaos(settings, tmp_path)
    print(settings, verdict, sep="\n")  # noqa: T201  shown when the test fails
    assert verdict.violations == []


@pytest.mark.parametrize("store", [REDIS, SQLITE])
async def test_each_tick_fires_once_while_nodes_are_killed(store: str, tmp_path: Path) -> None:
    settings = TicksSettings(store, seconds=13, seed=random.randrange(1_000_000), nodes=4, schedules=20)
    verdict = await ticks(settings, tmp_path)
    print(settings, verdict, sep="\n")  # noqa: T201  shown when the test fails
    assert verdict.violations == []
