"""The Redis store keeps every promise of the contract behind Sentinel, on a cluster and on several servers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from duly.stores.base import Store
from duly.stores.redis.store import RedisStore
from duly.stores.several import together
from duly.testing import ManualClock, conformance


async def stores(urls: str, clock: ManualClock) -> AsyncIterator[Store]:
    """The store at these addresses, connected; the last server is the master."""
    each = [RedisStore(url, "conformance", conformance.LIMITS, clock) for url in urls.split()]
    store = together(each, len(each) - 1)
    await store.connect()
    yield store
    await store.close()


class OnEach:
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def store(self, topology_url: str, clock: ManualClock) -> AsyncIterator[Store]:
        async for store in stores(topology_url, clock):
            yield store


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


class TestMoves(OnEach, conformance.MovesSuite):
    pass


class TestMap(OnEach, conformance.MapSuite):
    @pytest.fixture
    async def store(self, topology_url: str, clock: ManualClock) -> AsyncIterator[Store]:
        """Of several servers, the one that has the map."""
        url = topology_url.split()[-1]
        async for store in stores(url, clock):
            yield store
