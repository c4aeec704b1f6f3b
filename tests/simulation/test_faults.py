"""The store that fails on purpose."""

from __future__ import annotations

import random

import pytest

from duly.core.job import NewJob
from duly.errors import StoreUnavailable, StoreUncertain
from duly.stores.memory.store import MemoryStore
from duly.testing import Faults, FaultyStore, run


def faulty(faults: Faults, seed: int = 0) -> tuple[MemoryStore, FaultyStore, list[tuple[str, str]]]:
    inner = MemoryStore()
    heard: list[tuple[str, str]] = []
    return (
        inner,
        FaultyStore(inner, random.Random(seed), faults, lambda verb, fault: heard.append((verb, fault))),
        heard,
    )


def job(id: str) -> NewJob:
    return NewJob(id, b"")


async def test_without_faults_it_is_the_store() -> None:
    inner, store, heard = faulty(Faults())
    await store.connect()
    shard = store.shard("default")
    assert shard.queue == "default"
    assert store.shard("default") is shard
    assert await shard.enqueue("c", 1, [job("a")]) == [("created", "a")]
    assert (await inner.shard("default").sizes()).pending == 1
    assert await store.lock("l", "me", 1000) is not None
    assert await store.unlock("l", "me")
    await store.beat("n", b"r", 1000, ["default"])
    assert (await store.registry()).queues == ["default"]
    assert heard == []
    await store.close()
    with pytest.raises(StoreUnavailable):
        await inner.shard("default").sizes()


async def test_before_means_that_nothing_was_written() -> None:
    inner, store, heard = faulty(Faults(before=1))
    await store.connect()
    with pytest.raises(StoreUnavailable):
        await store.shard("default").enqueue("c", 1, [job("a")])
    assert (await inner.shard("default").sizes()).pending == 0
    assert heard == [("enqueue", "before")]
    await store.close()


async def test_after_means_that_it_was_written_and_nobody_heard() -> None:
    inner, store, heard = faulty(Faults(after=1))
    await store.connect()
    with pytest.raises(StoreUncertain):
        await store.shard("default").enqueue("c", 1, [job("a")])
    assert (await inner.shard("default").sizes()).pending == 1
    assert heard == [("enqueue", "after")]
    store.faults = Faults()
    assert await store.shard("default").enqueue("c", 1, [job("a")]) == [("created", "a")]
    await store.close()


def test_a_delay_takes_time() -> None:
    async def main() -> float:
        import asyncio

        _, store, heard = faulty(Faults(delay=1, longest=100))
        await store.connect()
        await store.shard("default").sizes()
        assert heard == [("sizes", "delay")]
        await store.close()
        return asyncio.get_running_loop().time()

    assert 0.1 < run(main()) <= 100.01


def test_a_duplicate_arrives_later_and_only_of_verbs_that_bear_it() -> None:
    async def main() -> None:
        import asyncio

        inner, store, heard = faulty(Faults(duplicate=1, longest=5))
        await store.connect()
        shard = store.shard("default")
        await shard.enqueue("c", 1, [job("a")])
        await shard.cancel(["a"])
        assert heard == [("enqueue", "duplicate")]
        assert (await inner.shard("default").sizes()).pending == 0
        inner._memory.shards["default"].clients.clear()  # a store that does not know the call any more
        await asyncio.sleep(6)
        assert (await inner.shard("default").sizes()).pending == 1
        await store.close()

    run(main())


async def test_only_the_verbs_that_are_named_are_disturbed() -> None:
    _, store, _ = faulty(Faults(before=1, verbs=frozenset({"claim"})))
    await store.connect()
    await store.shard("default").enqueue("c", 1, [job("a")])
    with pytest.raises(StoreUnavailable):
        await store.shard("default").claim("n", 1, 1, 1000, 1000)
    await store.close()


async def test_siblings_share_faults_and_chance() -> None:
    _, store, heard = faulty(Faults())
    sibling = store.sibling()
    await sibling.connect()
    store.faults = Faults(before=1)
    with pytest.raises(StoreUnavailable):
        await sibling.shard("default").sizes()
    assert heard == [("sizes", "before")]
    await sibling.close()


async def test_the_same_seed_gives_the_same_faults() -> None:
    async def play(seed: int) -> list[str]:
        _, store, _ = faulty(Faults(before=0.5), seed)
        await store.connect()
        said = []
        for _ in range(30):
            try:
                await store.shard("default").sizes()
                said.append("well")
            except StoreUnavailable:
                said.append("fault")
        await store.close()
        return said

    assert await play(1) == await play(1)
    assert await play(1) != await play(2)


async def test_a_verb_that_no_store_has_is_an_attribute_error() -> None:
    _, store, _ = faulty(Faults())
    with pytest.raises(AttributeError):
        store.shard("default").nonsense  # type: ignore[attr-defined]  # noqa: B018
