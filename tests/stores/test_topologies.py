"""The Redis store keeps every promise of the contract behind Sentinel and on a cluster too, each key in its slot."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from duly.stores.base import Store
from duly.stores.redis.store import RedisStore
from duly.testing import ManualClock, conformance


class OnEach:
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def store(self, topology_url: str, clock: ManualClock) -> AsyncIterator[Store]:
        store = RedisStore(topology_url, namespace="conformance", limits=conformance.LIMITS, clock=clock)
        await store.connect()
        yield store
        await store.close()


class TestJobs(OnEach, conformance.JobsSuite):
    pass


class TestFaults(OnEach, conformance.FaultsSuite):
    pass


class TestCare(OnEach, conformance.CareSuite):
    pass


class TestSchedules(OnEach, conformance.SchedulesSuite):
    pass


class TestCluster(OnEach, conformance.ClusterSuite):
    pass


class TestMoves(OnEach, conformance.MovesSuite, conformance.MapSuite):
    pass
