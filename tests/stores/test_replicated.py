"""`durability="replicated"`: what is answered is on a replica."""

from __future__ import annotations

import asyncio

import pytest

from duly import Scheduler
from duly.errors import ConfigurationError, InvalidOption, PushUncertain, StoreUncertain
from duly.stores.base import Limits
from duly.stores.redis.store import RedisStore
from duly.testing.conformance.kit import Client, Node, job
from tests.conftest import StartServer
from tests.schedulers import running
from tests.topologies import Pair
from tests.waiting import eventually


async def test_a_push_a_start_and_a_run_are_confirmed_by_the_replica(pair: Pair) -> None:
    primary, replica = pair.primary, pair.replica
    scheduler, ran = Scheduler(primary.url, durability="replicated"), list[int]()

    @scheduler.task(delivery="at_most_once")
    async def once(i: int) -> None:
        ran.append(i)

    async with running(scheduler):
        pushed = await once.options(delay=3600).push(-1)
        with replica.client() as client:
            assert client.hexists("{duly:default}:jobs", pushed.id)
        await asyncio.gather(*(once.push(i) for i in range(20)))
        await eventually(lambda: sorted(ran) == list(range(20)))


async def test_what_the_replica_does_not_confirm_is_uncertain_and_a_repeat_waits_for_it_too(
    pair: Pair,
) -> None:
    primary, replica = pair.primary, pair.replica
    store = RedisStore(primary.url, limits=Limits(replicas=1))
    await store.connect()
    client, node = Client(store.shard("default")), Node(store.shard("default"), "n")
    await client.push(job("a"))
    batch = await node.claim()
    replica.pause()
    for _ in range(2):  # the second one finds that it was applied, and writes nothing
        with pytest.raises(StoreUncertain, match=r"0 of 1 replica\(s\) of redis://.* had it"):
            await node.shard.enqueue("other", 1, [job("b")])
    with pytest.raises(StoreUncertain):
        await node.shard.start([("a", batch.fence)])
    assert (await node.shard.renew([])) == []  # what is not to be confirmed goes on
    replica.resume()
    await eventually(lambda: _confirmed(store))
    assert await node.shard.enqueue("other", 1, [job("b")]) == [("created", "b")]
    assert await node.shard.start([("a", batch.fence)]) == [True]
    await store.close()


async def test_what_is_moved_is_confirmed_where_it_arrives_before_it_is_removed(pair: Pair) -> None:
    store = RedisStore(pair.primary.url, limits=Limits(replicas=1))
    await store.connect()
    source, target = store.shard("default"), store.shard("default{1}")
    await Client(source).push(job("a"))
    departure = await source.depart("default{1}", "batch", ["a"])
    assert departure is not None
    pair.replica.pause()
    with pytest.raises(StoreUncertain):
        await target.arrive(departure)
    pair.replica.resume()
    await eventually(lambda: _confirmed(store))
    assert await target.arrive(departure) == 0  # it was applied
    await source.departed(departure.n)
    assert [record is not None for record in await target.get(["a"])] == [True]
    await store.close()


async def _confirmed(store: RedisStore) -> bool:
    try:
        await store.shard("default").start([])
    except StoreUncertain:
        return False
    return True


async def test_a_push_that_no_replica_confirms_says_so(pair: Pair) -> None:
    primary, replica = pair.primary, pair.replica
    async with Scheduler(primary.url, durability="replicated", push_timeout=0.1) as scheduler:
        replica.pause()
        with pytest.raises(PushUncertain):
            await scheduler.push("note", 1, remote=True)
        replica.resume()


async def test_confirmations_go_on_when_their_connection_was_lost(pair: Pair) -> None:
    primary = pair.primary
    async with Scheduler(primary.url, durability="replicated") as scheduler:
        for round in range(3):
            job = await scheduler.push("note", round, remote=True)
            assert await job.status() == "pending"
            with primary.client() as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "normal")


async def test_an_answer_of_another_server_than_the_one_that_confirms_is_no_answer(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RedisStore(start_server("redis").url, limits=Limits(replicas=1))
    await store.connect()

    async def confirmed(_key: str, _count: int) -> str:
        return "the one that came after it"

    monkeypatch.setattr(store._link, "replicated", confirmed)
    with pytest.raises(StoreUncertain, match="another server than the one that answered enqueue"):
        await store.shard("default").enqueue("c", 1, [job("a")])
    await store.close()


def test_where_there_is_no_replica_it_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="has no replicas"):
        Scheduler("memory://", durability="replicated")
    with pytest.raises(InvalidOption, match="give 'local' or 'replicated'"):
        Scheduler("memory://", durability="twice")
