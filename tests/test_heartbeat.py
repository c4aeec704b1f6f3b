"""When a node renews its leases and publishes itself."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from duly import Scheduler
from duly.runtime.heartbeat import CLOSE_BEAT_SECONDS, Heartbeat
from duly.stores.memory.store import MemoryStore
from duly.testing import ManualClock

LEASE = 9.0


class Slow(MemoryStore):
    """A store whose clock goes on while it is told of a beat. ttls: what it was told."""

    def __init__(self, clock: ManualClock, seconds: float) -> None:
        super().__init__(clock=clock)
        self.hands, self.seconds, self.ttls = clock, seconds, list[int]()

    async def beat(self, node: str, record: bytes, ttl: int, queues: Sequence[str]) -> None:
        self.ttls.append(ttl)
        self.hands.advance(self.seconds)
        await super().beat(node, record, ttl, queues)


def beating(seconds: float = 0.0) -> tuple[Heartbeat, Slow]:
    store = Slow(clock := ManualClock(), seconds)
    return Heartbeat(
        "n", store, Scheduler("memory://", lease=LEASE).config, clock, [], lambda: b"it", lambda news: None
    ), store


@pytest.mark.parametrize(("seconds", "pause"), [(0.0, 3.0), (2.0, 1.0), (5.0, 0.0)])
async def test_a_slow_answer_is_no_reason_to_renew_later(seconds: float, pause: float) -> None:
    heartbeat, _ = beating(seconds)
    assert await heartbeat.tick() == pytest.approx(pause)


async def test_beats_become_seldom_only_after_one_that_says_so() -> None:
    heartbeat, store = beating()
    heartbeat.is_watched = lambda: True
    await heartbeat.tick()
    heartbeat.is_watched = lambda: False
    for _ in range(3):
        store.hands.advance(CLOSE_BEAT_SECONDS)
        await heartbeat.tick()
    assert store.ttls == [9_000, 45_000]
