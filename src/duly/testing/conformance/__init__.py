"""The promises of the store contract as tests: give them your store, and they say what it breaks.

    from duly.testing import ManualClock, conformance

    class TestMyStore(conformance.JobsSuite, conformance.FaultsSuite, conformance.CareSuite,
                      conformance.SchedulesSuite, conformance.ClusterSuite):
        @pytest.fixture
        def clock(self):
            return ManualClock()

        @pytest.fixture
        async def store(self, clock):
            store = MyStore(clock=clock, limits=conformance.LIMITS)
            await store.connect()
            yield store
            await store.close()

    def test_my_store_does_what_memory_does():
        conformance.check_model(lambda clock: MyStore(clock=clock, limits=conformance.LIMITS))

A driver of membership (`duly.cluster.Driver`) is given `MembersSuite`.
A store of several shards is given `MovesSuite` (`capabilities.Movable`) and `MapSuite` (`capabilities.Mapped`) too.
Needs pytest with pytest-asyncio in auto mode, and hypothesis for the model; each test begins with an empty store.
"""

from __future__ import annotations

import pytest

_ROOMS = (
    "kit",
    "enqueue",
    "claim",
    "idle",
    "settle",
    "kept",
    "wait",
    "repeats",
    "leases",
    "sound",
    "care",
    "plans",
    "puts",
    "fires",
    "ticks",
    "apart",
    "locks",
    "measures",
    "looks",
    "cluster",
    "moves",
    "maps",
    "members",
    "model",
)
pytest.register_assert_rewrite(*(f"{__name__}.{room}" for room in _ROOMS))

from duly.testing.conformance.care import CareSuite  # noqa: E402 - asserts are rewritten as the modules are imported
from duly.testing.conformance.cluster import ClusterSuite  # noqa: E402
from duly.testing.conformance.faults import FaultsSuite  # noqa: E402
from duly.testing.conformance.jobs import JobsSuite  # noqa: E402
from duly.testing.conformance.kit import LIMITS  # noqa: E402
from duly.testing.conformance.maps import MapSuite  # noqa: E402
from duly.testing.conformance.members import MembersSuite  # noqa: E402
from duly.testing.conformance.model import check_model, model_test  # noqa: E402
from duly.testing.conformance.moves import MovesSuite  # noqa: E402
from duly.testing.conformance.schedules import SchedulesSuite  # noqa: E402

__all__ = [
    "LIMITS",
    "CareSuite",
    "ClusterSuite",
    "FaultsSuite",
    "JobsSuite",
    "MapSuite",
    "MembersSuite",
    "MovesSuite",
    "SchedulesSuite",
    "check_model",
    "model_test",
]
