"""The plan: the same for the same seed, and never more at once than a cluster may be asked to bear."""

from __future__ import annotations

import itertools

import pytest

from tests.chaos.plan import JUMPS, OF_THE_STORE, REDIS, SQLITE, STORE, make_plan

NODES = ["A", "B", "C", "D"]
LEASE = 2.0
SEEDS = range(20)


def test_a_seed_gives_the_same_plan_again() -> None:
    plan = make_plan(7, 600, NODES, LEASE, REDIS)
    assert make_plan(7, 600, NODES, LEASE, REDIS) == plan
    assert make_plan(8, 600, NODES, LEASE, REDIS) != plan
    assert all(step.at < 600 for step in plan)


@pytest.mark.parametrize("kinds", [REDIS, SQLITE, JUMPS], ids=["redis", "sqlite", "jumps"])
def test_a_long_plan_has_every_kind(kinds: dict[str, int]) -> None:
    assert {step.kind for step in make_plan(1, 3000, NODES, LEASE, kinds)} == set(kinds)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_node_has_one_trouble_at_a_time_and_one_has_none(seed: int) -> None:
    plan = make_plan(seed, 600, NODES, LEASE, REDIS)
    for step in plan:
        under_way = [s.target for s in plan if s.at <= step.at <= s.at + s.seconds]
        assert len(under_way) == len(set(under_way))
        assert len(set(under_way) - {STORE}) < len(NODES)


@pytest.mark.parametrize("seed", SEEDS)
def test_troubles_of_the_store_are_leases_apart(seed: int) -> None:
    of_store = [s for s in make_plan(seed, 600, NODES, LEASE, REDIS) if s.target == STORE]
    assert {s.kind for s in of_store} <= set(OF_THE_STORE)
    assert all(b.at >= a.at + a.seconds + 3 * LEASE for a, b in itertools.pairwise(of_store))
