"""The Redis store keeps every promise of the contract, on Redis and on Valkey, and answers as the memory store does."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import hypothesis
import msgspec
import pytest
import redis

from duly.stores.base import Store
from duly.stores.redis.store import RedisStore
from duly.testing import ManualClock, conformance
from duly.testing.conformance.kit import Client, job

EXAMPLES = 60
HZ = 100
"""How often a second the server looks for waits that are over. With the usual 10 each wait in vain takes a tenth of a second."""


class OnEach:
    @pytest.fixture(
        params=[
            pytest.param("redis", marks=[pytest.mark.server, pytest.mark.redis]),
            pytest.param("valkey", marks=[pytest.mark.server, pytest.mark.valkey]),
        ]
    )
    def url(self, request: pytest.FixtureRequest) -> str:
        url: str = request.getfixturevalue(f"{request.param}_url")
        return url

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def store(self, url: str, clock: ManualClock) -> AsyncIterator[Store]:
        store = RedisStore(url, namespace="conformance", limits=conformance.LIMITS, clock=clock)
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


class TestModel(OnEach):
    @pytest.fixture(autouse=True)
    def _short_waits(self, url: str) -> Iterator[None]:
        with redis.Redis.from_url(url) as server:
            usual = server.config_get("hz")["hz"]
            server.config_set("hz", HZ)
            yield
            server.config_set("hz", usual)

    @pytest.mark.slow
    @pytest.mark.timeout(600)  # a difference takes Hypothesis minutes to shrink
    def test_redis_answers_as_memory_does(self, url: str) -> None:
        names = itertools.count()  # each example has a namespace of its own

        def make_store(clock: ManualClock) -> Store:
            return RedisStore(url, namespace=f"model{next(names)}", limits=conformance.LIMITS, clock=clock)

        settings = hypothesis.settings(conformance.model.DEFAULT_SETTINGS, max_examples=EXAMPLES)
        conformance.check_model(make_store, settings)


async def test_without_a_history_a_push_notes_nothing(redis_url: str) -> None:
    store = RedisStore(redis_url, limits=msgspec.structs.replace(conformance.LIMITS, history=0))
    await store.connect()
    for n in range(3):
        await Client(store.shard("default"), f"c{n}").push(job(f"j{n}"))
    with redis.Redis.from_url(redis_url) as server:
        assert server.exists("{duly:default}:history") == 0
        assert server.exists("{duly:default}:jobs") == 1
    await store.close()


async def test_a_lock_whose_fence_was_evicted_is_shown_without_one(redis_url: str) -> None:
    store = RedisStore(redis_url)
    await store.connect()
    assert await store.lock("door", "one", 60_000)
    with redis.Redis.from_url(redis_url) as server:
        (name,) = [key for key in server.scan_iter("*door*") if server.type(key) == b"hash"]
        assert server.hdel(name, "o:one") == 1
    (record,) = (await store.locks("", 100)).items
    assert [(place.owner, place.fence) for place in record.places] == [("one", 0)]
    await store.close()


async def test_what_was_counted_goes_by_itself_if_nobody_counts_on(redis_url: str) -> None:
    store = RedisStore(redis_url)
    await store.connect()
    await store.measure(29_000_000, {"q t": {"started": 1}}, 60)
    with redis.Redis.from_url(redis_url) as server:
        (name,) = server.scan_iter("*:measures:*")
        assert 0 < server.pttl(name) <= 60 * 60_000
    await store.close()
