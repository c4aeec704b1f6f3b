"""A sealed store keeps every promise of the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator

import hypothesis
import pytest

from duly import Keys
from duly.config import Config
from duly.stores.base import Shard
from duly.stores.memory import MemoryStore
from duly.stores.sealed import Seal
from duly.testing import ManualClock, conformance


class SealedMemory(MemoryStore):
    """The memory store with sealed shards."""

    def shard(self, name: str) -> Shard:  # type: ignore[override]
        sealed: dict[str, Shard] = self.__dict__.setdefault("sealed", {})
        if name not in sealed:
            seal = Seal(Keys({"k": "s" * 32}, {"k": "e" * 32}), Config())
            sealed[name] = seal.shard(super().shard(name), name)
        return sealed[name]

    def sibling(self, timeout: float | None = None) -> SealedMemory:
        return SealedMemory(conformance.LIMITS, self._memory.clock, self.url, self._memory)


class Fixtures:
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def store(self, clock: ManualClock) -> AsyncIterator[MemoryStore]:
        store = SealedMemory(conformance.LIMITS, clock)
        await store.connect()
        yield store
        await store.close()


class TestJobs(Fixtures, conformance.JobsSuite):
    pass


class TestFaults(Fixtures, conformance.FaultsSuite):
    pass


class TestCare(Fixtures, conformance.CareSuite):
    pass


class TestSchedules(Fixtures, conformance.SchedulesSuite):
    pass


class TestCluster(Fixtures, conformance.ClusterSuite):
    pass


def test_the_model_finds_no_difference_between_sealed_and_plain() -> None:
    few = hypothesis.settings(conformance.model.DEFAULT_SETTINGS, max_examples=10)
    conformance.check_model(lambda clock: SealedMemory(conformance.LIMITS, clock), few)
