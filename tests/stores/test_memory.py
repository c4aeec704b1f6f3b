"""The memory store keeps every promise of the contract, and a few of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import hypothesis
import pytest

from duly.errors import ConfigurationError, InvalidURL, StoreUnavailable
from duly.stores.base import Limits, Store
from duly.stores.memory import MemoryStore, open_memory
from duly.stores.memory.line import Line
from duly.testing import ManualClock, conformance
from duly.testing.conformance.kit import BOUND, BRIEF, Client, Node, ids, job, kill_one, settlement


class Fixtures:
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def store(self, clock: ManualClock) -> AsyncIterator[MemoryStore]:
        store = MemoryStore(conformance.LIMITS, clock)
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


def test_the_model_finds_no_difference_between_memory_and_memory() -> None:
    few = hypothesis.settings(conformance.model.DEFAULT_SETTINGS, max_examples=15)
    conformance.check_model(lambda clock: MemoryStore(conformance.LIMITS, clock), few)


class TestMemory(Fixtures):
    async def test_a_result_is_gone_when_its_time_is_over(self, store: Store, clock: ManualClock) -> None:
        shard, node = store.shard("default"), Node(store.shard("default"), "n")
        await Client(shard).push(job("a"))
        claimed, fence = await node.claim_one()
        await node.settle(settlement(claimed, fence, result=b"x", result_ms=5_000))
        clock.advance(4.999)
        assert await shard.result("a") == b"x"
        clock.advance(0.001)
        assert await shard.result("a") is None

    async def test_a_token_outlives_a_sleeper_that_was_cancelled(self, store: Store) -> None:
        shard = store.shard("default")
        for push_first in (False, True):
            sleeper = asyncio.create_task(shard.wait(BOUND))
            await asyncio.wait([sleeper], timeout=BRIEF)
            if push_first:  # the token is given to one who is cancelled before it can take it
                await Client(shard, "c").push(job("a"))
            sleeper.cancel()
            await asyncio.wait([sleeper])
            if not push_first:
                await Client(shard, "d").push(job("b"))
            assert sleeper.cancelled()
            assert await shard.wait(0)
            assert not await shard.wait(0)

    async def test_it_has_to_be_connected(self) -> None:
        shard = open_memory().shard("default")
        with pytest.raises(StoreUnavailable, match="connect"):
            await shard.sizes()

    async def test_too_many_at_once_are_refused_and_nothing_is_written(self, store: Store) -> None:
        shard = store.shard("default")
        with pytest.raises(ValueError, match="at most 1000"):
            await Client(shard).push(*(job(f"j{i}") for i in range(1_001)))
        assert (await shard.sizes()).pending == 0

    async def test_what_is_past_its_time_takes_no_memory(self, clock: ManualClock) -> None:
        store = MemoryStore(Limits(remember_ms=1_000, history=3, dead_count=2), clock)
        await store.connect()
        shard = store.shard("default")
        for i in range(300):
            clock.advance(1)
            await kill_one(shard, f"dead{i}")
            await Client(shard, f"c{i}").push(job(f"j{i}", named=True))
            node = Node(shard, "n")
            node.claims = node.settles = i
            claimed, fence = await node.claim_one()
            await node.settle(settlement(claimed, fence, result=b"x", result_ms=500))
            clock.advance(2 * 86_400 / 300)
        await shard.reconcile("", 10_000)
        state = shard._state  # type: ignore[attr-defined]
        assert len(state.jobs) == 2
        for room in (state.ended, state.results, state.results_until, state.unique, state.clients, state.claims):
            assert len(room) <= 310  # two callers an hour, for a day and a bit
        assert sum(len(line._heap) for line in (*state.pending, state.leased, state.dead, state.ended)) < 1_500
        assert len((await shard.history("history", "", 100)).items) == 3


class TestNames:
    async def test_a_name_is_shared_and_no_name_is_private(self) -> None:
        stores = [open_memory(url) for url in ("memory://test-names", "memory://test-names", "memory://", "memory://")]
        for store in stores:
            await store.connect()
        await Client(stores[0].shard("default")).push(job("a"))
        await stores[0].close()  # what was pushed outlives the store object
        assert [(await store.shard("default").sizes()).pending for store in stores[1:]] == [1, 0, 0]

    def test_a_name_has_one_clock(self) -> None:
        open_memory("memory://test-clock")
        with pytest.raises(ConfigurationError, match="another clock"):
            open_memory("memory://test-clock", clock=ManualClock())

    def test_another_scheme_is_refused(self) -> None:
        with pytest.raises(InvalidURL, match="memory://NAME"):
            open_memory("redis://localhost")


def test_four_threads_claim_each_of_2000_jobs_exactly_once() -> None:
    store = open_memory()
    claimed: list[list[str]] = [[] for _ in range(4)]
    together = threading.Barrier(4)

    async def fill() -> None:
        await store.connect()
        for n in range(4):
            await Client(store.shard("default"), f"c{n}").push(*(job(f"{n}-{i}") for i in range(500)))

    async def work(number: int, sibling: Store) -> None:
        await sibling.connect()
        node = Node(sibling.shard("default"), f"n{number}")
        for _ in range(-(-2_000 // (4 * 7))):
            together.wait(BOUND)  # each round all four claim at once
            batch = await node.claim(7)
            claimed[number] += ids(batch)
            answers = await node.settle(*(settlement(one, batch.fence) for one in batch.jobs))
            assert set(answers) <= {"applied"}
        await sibling.close()

    asyncio.run(fill())
    threads = [threading.Thread(target=asyncio.run, args=[work(n, store.sibling())]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = [id for part in claimed for id in part]
    assert len(everything) == 2_000
    assert len(set(everything)) == 2_000
    assert all(claimed)


def test_a_line_gives_the_earliest_first_and_forgets_what_moved() -> None:
    line = Line()
    for at, id in ((5, "b"), (5, "a"), (3, "c"), (9, "d")):
        line.put(id, at)
    line.put("d", 1)
    line.discard("c")
    line.put("c", 7)
    assert (len(line), line.head(), line.at("c"), "x" in line) == (4, (1, "d"), 7, False)
    assert line.after((1, "d"), 2) == [(5, "a"), (5, "b")]
    assert line.due(5, 2) == ["d", "a"]
    assert line.due(6, 9) == ["b"]
    assert list(line) == ["c"]


def test_a_line_whose_ids_move_all_the_time_stays_small() -> None:
    line = Line()
    for i in range(10_000):
        line.put("always the same", 10_000 - i)
    assert len(line._heap) < 200
    assert line.head() == (1, "always the same")
