"""The short form of `make chaos`, `chaos-ticks` and `chaos-cron`: real processes, killed, stopped, cut off, for a short while.

The plan is drawn anew each time; its seed is in the output of a run that fails, with all the evidence beside it.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.cron import WITH_ITS_NODE
from tests.chaos.cron import Settings as CronSettings
from tests.chaos.cron import chaos as cron_chaos
from tests.chaos.plan import STORE
from tests.chaos.run import Settings, chaos
from tests.chaos.stores import opened
from tests.chaos.ticks import Settings as TicksSettings
from tests.chaos.ticks import ticks

SECONDS = 15.0
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
    settings = TicksSettings(store, seconds=9, seed=random.randrange(1_000_000), nodes=4, schedules=20, every=2)
    verdict = await ticks(settings, tmp_path)
    print(settings, verdict, sep="\n")  # noqa: T201  shown when the test fails
    assert verdict.violations == []


@pytest.mark.parametrize(
    "driver",
    [REDIS, pytest.param("etcd", marks=pytest.mark.server)],  # redis-zset: in `make chaos-cron`
)
async def test_each_tick_of_a_pool_runs_on_one_node_whatever_happens_to_them(driver: str, tmp_path: Path) -> None:
    settings = CronSettings(
        driver, seconds=4, seed=random.randrange(1_000_000), nodes=4, names=40, timeout=1, pauses=(0.2, 0.8),
        lasting=(0.1, 1.5), settled=4,
    )  # fmt: skip
    verdict = await cron_chaos(settings, tmp_path)
    print(settings, verdict, sep="\n")  # noqa: T201  shown when the test fails
    assert [each for each in verdict.violations if not each.startswith(WITH_ITS_NODE)] == []
