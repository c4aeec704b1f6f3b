"""Single entries that an eviction took or a failover doubled, and another server process behind the address: each met alone.

What vanishes as a whole key is tried in `test_redis_repair`; here one thing is wrong at a time, and what mends it is told
from what would mend it by chance.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from duly.core.job import Hold
from duly.errors import StoreError
from duly.stores.base import Batch
from duly.stores.redis import moves
from duly.stores.redis.keys import PENDING, ShardKeys
from duly.stores.redis.store import RedisShard, RedisStore
from duly.testing import ManualClock, conformance
from duly.testing.conformance.kit import (
    BOUND,
    LEASE,
    Client,
    Node,
    drain_token,
    ids,
    is_unknown,
    job,
    kill_one,
    known,
    now_ms,
    schedule,
)
from duly.testing.conformance.moves import THERE, departing
from duly.testing.conformance.plans import ids_of
from tests.servers import Server
from tests.stores.furnished import reconcile_all

KEYS = ShardKeys("x", "default")
PLACES = ("leased", "dead", *PENDING)
"""The order in which they count, if a job is in several."""


class TestEntries:
    @pytest.fixture
    def client(self, redis_url: str, redis_server: Server) -> Iterator[redis.Redis]:
        with redis_server.client() as client:
            yield client

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def store(self, redis_url: str, clock: ManualClock) -> AsyncIterator[RedisStore]:
        store = RedisStore(redis_url, namespace="x", limits=conformance.LIMITS, clock=clock)
        await store.connect()
        yield store
        await store.close()

    @pytest.fixture
    def shard(self, store: RedisStore) -> RedisShard:
        return store.shard("default")

    # --- calls that meet them ----------------------------------------------------------------------------------------

    async def test_a_clear_of_the_dead_takes_one_whose_body_was_evicted(
        self, shard: RedisShard, client: redis.Redis
    ) -> None:
        await kill_one(shard, "ghost")
        await kill_one(shard, "dead")
        client.hdel(KEYS.key("jobs"), "ghost")
        assert (await shard.clear("", None, 10, dead_only=True))[:2] == (1, "")
        assert (await shard.sizes()).dead == 0

    async def test_a_schedule_that_was_evicted_is_in_nobodys_way(self, shard: RedisShard, client: redis.Redis) -> None:
        for id in ("a", "b"):
            await shard.put(schedule(id))
        client.hdel(KEYS.key("schedules"), "a")
        assert ids_of(await shard.due(1)) == []
        assert ids_of(await shard.due(1)) == ["b"]

    # --- reconcile ---------------------------------------------------------------------------------------------------

    async def test_a_job_in_no_place_is_pending_again_as_if_it_had_never_been_claimed(
        self, shard: RedisShard, client: redis.Redis, clock: ManualClock
    ) -> None:
        await Client(shard).push(job("a", delay=9_000, priority=3))
        await drain_token(shard)
        client.zrem(KEYS.key(PENDING[3]), "a")
        assert await reconcile_all(shard) == {"orphans": 1}
        record = await known(shard, "a")
        assert (record.state, record.at, record.priority) == ("pending", now_ms(clock), 3)
        assert client.zscore(KEYS.key(PENDING[3]), "a") == now_ms(clock)
        assert await shard.wait(BOUND)
        claimed, _ = await Node(shard, "n").claim_one()
        assert (claimed.before, claimed.crashes) == (None, 0)

    async def test_a_schedule_without_a_look_is_looked_at_again(self, shard: RedisShard, client: redis.Redis) -> None:
        await shard.put(schedule())
        await drain_token(shard)
        client.zrem(KEYS.key("ticks"), "s")
        assert await reconcile_all(shard) == {"silent": 1}
        assert await shard.wait(BOUND)
        assert ids_of(await shard.due(10)) == ["s"]

    @pytest.mark.parametrize("count", [2, 3])
    @pytest.mark.parametrize("first", PLACES)
    async def test_a_job_in_several_places_is_in_the_first_of_them(
        self, shard: RedisShard, client: redis.Redis, clock: ManualClock, first: str, count: int
    ) -> None:
        await Client(shard).push(job("a", delay=9_000, priority=3))
        client.zrem(KEYS.key(PENDING[3]), "a")
        begin = min(PLACES.index(first), len(PLACES) - count)
        several = PLACES[begin : begin + count]
        for place in several:
            client.zadd(KEYS.key(place), {"a": now_ms(clock)})
        assert await reconcile_all(shard) == {"orphans": count - 1}
        assert [place for place in PLACES if client.zscore(KEYS.key(place), "a") is not None] == [several[0]]

    async def test_a_run_of_what_is_pending_or_dead_is_stale(self, shard: RedisShard, client: redis.Redis) -> None:
        await kill_one(shard, "dead")
        await Client(shard).push(*(job(f"p{priority}", priority=priority) for priority in range(4)), job("held"))
        client.hset(KEYS.key("running"), mapping=dict.fromkeys(("dead", "p0", "p1", "p2", "p3"), "7 0 n"))
        assert await reconcile_all(shard) == {"stale": 5}
        assert client.hgetall(KEYS.key("running")) == {}

    async def test_what_nobody_can_read_of_a_caller_is_stale(self, shard: RedisShard, client: redis.Redis) -> None:
        await kill_one(shard, "a")
        for room in ("clients", "claims"):
            client.hset(KEYS.key(room), "who", "what?")
        assert await reconcile_all(shard) == {"stale": 2}
        assert await reconcile_all(shard) == {}

    async def test_a_look_at_a_schedule_that_is_gone_is_stale(self, shard: RedisShard, client: redis.Redis) -> None:
        await shard.put(schedule())
        client.zadd(KEYS.key("ticks"), {"ghost": 1})
        assert await reconcile_all(shard) == {"stale": 1}
        assert client.zrange(KEYS.key("ticks"), 0, -1) == [b"s"]

    async def test_a_walk_does_not_begin_nowhere(self, shard: RedisShard) -> None:
        with pytest.raises(StoreError, match="no room nowhere"):
            await shard.reconcile("nowhere 0", 10)

    # --- moving ------------------------------------------------------------------------------------------------------

    async def test_a_job_that_is_in_no_place_or_has_no_body_stays_when_others_move(
        self, shard: RedisShard, client: redis.Redis
    ) -> None:
        await Client(shard).push(job("lost"), job("ghost"), job("a"))
        client.zrem(KEYS.key(PENDING[1]), "lost")
        client.hdel(KEYS.key("jobs"), "ghost")
        assert await shard.depart(THERE, "mover", ["lost", "ghost"]) is None
        assert (await departing(shard, "lost", "ghost", "a")).ids == {"a"}
        assert await reconcile_all(shard) == {"orphans": 1, "ghosts": 1}

    async def test_a_job_that_runs_stays_though_it_is_pending_too(self, shard: RedisShard, client: redis.Redis) -> None:
        await Client(shard).push(job("a"))
        await Node(shard, "n").claim()
        client.zadd(KEYS.key(PENDING[1]), {"a": 1})
        assert await shard.depart(THERE, "mover", ["a"]) is None

    async def test_a_job_that_is_evicted_on_its_way_does_not_stop_the_others(
        self, shard: RedisShard, store: RedisStore, client: redis.Redis
    ) -> None:
        await Client(shard).push(job("a", unique=Hold("k")), job("b", unique=Hold("l")))
        await departing(shard, "a", "b")
        client.hdel(KEYS.key("jobs"), "a")
        client.hdel(KEYS.key("unique"), "l")
        again = await departing(shard)
        assert again.ids == {"b"}
        assert await store.shard(THERE).arrive(again) == 1
        assert await shard.departed(again.n) == []
        assert await is_unknown(shard, "b")
        await Client(shard, "c").push(job("c"))
        assert await departing(shard, "c")

    async def test_a_batch_that_was_evicted_is_in_nobodys_way(self, shard: RedisShard, client: redis.Redis) -> None:
        await Client(shard).push(job("a"), job("b"))
        first = await departing(shard, "a")
        client.delete(KEYS.key("moving"))
        second = await departing(shard, "b", to="elsewhere")
        assert (second.n > first.n, second.ids, second.to) == (True, {"b"}, "elsewhere")
        assert await shard.departed(first.n) == []
        assert (await known(shard, "b")).state == "leased"

    async def test_a_batch_is_of_a_bounded_size(self, shard: RedisShard, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(moves, "MOST_BYTES", 200)
        await Client(shard).push(*(job(f"j{n}", body=b"x" * 92) for n in range(6)))  # 100 bytes each
        for n in range(6):
            await shard.put(schedule(f"s{n}", definition=b"x" * 200))
        jobs, schedules = [f"j{n}" for n in range(6)], [f"s{n}" for n in range(6)]
        first = await departing(shard, *jobs)
        assert first.ids == {"j0", "j1", "j2"}
        await shard.departed(first.n)
        assert (await departing(shard, *jobs[3:], schedules=tuple(schedules))).ids == {"s0"}

    # --- another server ----------------------------------------------------------------------------------------------

    async def test_another_process_of_the_server_is_told_from_the_same_one(
        self, shard: RedisShard, store: RedisStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node = Node(shard, "n")
        for server in ("-", "one", "one", "", "-", "one"):
            assert not (await self.claim_as(server, node, store, monkeypatch)).moved
        assert (await shard.sizes()).moved_at == 0
        assert (await self.claim_as("two", node, store, monkeypatch)).moved
        moved_at = now_ms(clock)
        clock.advance(1)
        for server in ("two", "", "-", "two"):
            assert not (await self.claim_as(server, node, store, monkeypatch)).moved
        assert (await shard.sizes()).moved_at == moved_at
        assert (await self.claim_as("three", node, store, monkeypatch)).moved
        assert (await shard.sizes()).moved_at == now_ms(clock)

    async def test_another_process_is_noticed_though_the_fence_was_evicted(
        self, shard: RedisShard, store: RedisStore, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node = Node(shard, "n")
        await self.claim_as("one", node, store, monkeypatch)
        client.delete(KEYS.key("meta"))
        await node.repeat_claim()  # it says who answers, and gives no fence
        assert (await self.claim_as("two", node, store, monkeypatch)).moved

    async def claim_as(
        self, server: str, node: Node, store: RedisStore, monkeypatch: pytest.MonkeyPatch, limit: int = 100
    ) -> Batch:
        """A claim by a connection to that process of the server ("": it is not known, "-": it is kept from us)."""
        monkeypatch.setattr(store._link, "server_id_of", lambda _key: server)
        return await node.claim(limit)

    async def test_starts_before_another_process_are_in_doubt_whoever_takes_over(
        self, shard: RedisShard, store: RedisStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client, node = Client(shard), Node(shard, "n")
        await client.push(job("unmarked"), job("marked"))
        batch = await self.claim_as("one", node, store, monkeypatch)
        assert await shard.start([("marked", batch.fence)]) == [True]
        other = Node(shard, "other")
        await self.claim_as("two", other, store, monkeypatch, 0)
        await client.push(job("later"))
        assert ids(await self.claim_as("two", other, store, monkeypatch)) == ["later"]
        expected = {"unmarked": (False, True), "marked": (True, False), "later": (False, False)}
        for name in ("third", "fourth"):  # the doubt stays with the job, whoever holds it next
            taken = await self.take_over(Node(shard, name), clock)
            facts = {one.id: (one.before.started, one.before.doubtful) for one in taken.jobs if one.before}
            assert facts == expected

    @pytest.mark.parametrize(("server", "doubtful"), [("", True), ("-", False), ("one", False)])
    async def test_a_claim_sent_before_it_is_known_who_answers_takes_no_start_for_certain(
        self,
        shard: RedisShard,
        store: RedisStore,
        clock: ManualClock,
        monkeypatch: pytest.MonkeyPatch,
        server: str,
        doubtful: bool,
    ) -> None:
        await Client(shard).push(job("a"))
        await self.claim_as("one", Node(shard, "n"), store, monkeypatch)
        monkeypatch.setattr(store._link, "server_id_of", lambda _key: server)
        (taken,) = (await self.take_over(Node(shard, "other"), clock)).jobs
        assert taken.before is not None
        assert (taken.before.node, taken.before.started, taken.before.doubtful) == ("n", False, doubtful)

    async def take_over(self, node: Node, clock: ManualClock) -> Batch:
        """What a node takes once every lease has ended, in a shard that was in use all the time."""
        for _ in range(4):
            clock.advance(LEASE / 4_000)
            await node.claim(0)
        clock.advance(0.001)
        return await node.claim()
