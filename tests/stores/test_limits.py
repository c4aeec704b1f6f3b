"""What the stores promise under other limits, in two namespaces, and about the room they take: looked at from inside."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
import redis

from duly.core.job import Hold, NewJob
from duly.core.lifecycle import END
from duly.errors import StoreFull
from duly.stores import open_store
from duly.stores.base import Limits, Renewal, Shard, Store
from duly.testing import ManualClock
from duly.testing.conformance.kit import Client, Node, changed, ids, job, known, now_ms, schedule, settlement
from duly.testing.conformance.plans import STEP, firing, read
from tests.conftest import StartServer
from tests.servers import Server

WEEK = 7 * 86_400
Open = Callable[..., Awaitable[Store]]


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=[pytest.mark.server, pytest.mark.redis])])
def url(request: pytest.FixtureRequest, tmp_path: object) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/duly.db"
    found: str = request.getfixturevalue("redis_url")
    return found


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def opened(url: str, clock: ManualClock) -> AsyncIterator[Open]:
    """Opens stores, and closes them after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_one(namespace: str = "duly", limits: Limits | None = None, **options: object) -> Store:
            store = open_store(url, namespace, limits, options.get("clock", clock))  # type: ignore[arg-type]
            await store.connect()
            stack.push_async_callback(store.close)
            return store

        yield open_one


def room(url: str, name: str) -> int:
    """How many entries a table, or a key of the shard or of the registry, has."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db:
            (count,) = db.execute(f"SELECT count(*) FROM {name}").fetchone()
            return int(count)
    prefix = "{duly}:" if name == "nodes" else "{duly:default}:"
    with contextlib.closing(redis.Redis.from_url(url, protocol=2)) as client:
        if name == "locks":
            return len(list(client.scan_iter("{duly:lock:*}")))
        if name == "unique_keys":
            return int(client.hlen(prefix + "unique"))
        if name == "results":
            return len(list(client.scan_iter(prefix + "result:*")))
        key = prefix + name
        return int(client.zcard(key) if client.type(key) == b"zset" else client.hlen(key))


async def reconciled(shard: Shard) -> dict[str, int]:
    """What a reconciler finds in all its steps."""
    total: Counter[str] = Counter()
    cursor, found = await shard.reconcile("", 100)
    total.update(found)
    while cursor:
        cursor, found = await shard.reconcile(cursor, 100)
        total.update(found)
    return dict(total)


async def end_one(store: Store, id: str, **options: object) -> None:
    node = Node(store.shard("default"), f"node of {id}")
    await Client(store.shard("default"), f"client of {id}").push(job(id, **options))  # type: ignore[arg-type]
    claimed, fence = await node.claim_one()
    assert await node.settle(settlement(claimed, fence, result=b"x", result_ms=5_000)) == ["applied"]


class TestLimits:
    async def test_a_store_that_remembers_nothing_forgets_an_id_at_its_end(self, url: str, opened: Open) -> None:
        store = await opened(limits=Limits(remember_ms=0))
        await end_one(store, "a", named=True)
        assert await store.shard("default").get(["a"]) == [None]
        await Client(store.shard("default")).push(job("b", named=True))
        assert list(await store.shard("default").cancel(["b"])) == ["cancelled"]
        assert room(url, "ended") == 0

    async def test_a_store_that_keeps_no_history_writes_none(self, opened: Open) -> None:
        store = await opened(limits=Limits(history=0))
        await end_one(store, "a")
        await store.shard("default").put(schedule())
        for stream in ("history", "ticks"):
            assert (await store.shard("default").history(stream, "", 10)).items == []  # type: ignore[arg-type]

    async def test_a_history_of_one_entry_has_the_last(self, url: str, opened: Open, clock: ManualClock) -> None:
        store = await opened(limits=Limits(history=1))
        await end_one(store, "a")
        page = await store.shard("default").history("history", "", 1_000)
        assert page.items[-1][1]["verb"] == "settle"
        if url.startswith("sqlite"):  # Redis drops them in larger pieces, and counts by the server's clock
            assert [id for id, _ in page.items] == [f"{now_ms(clock)}-2"]

    async def test_a_store_that_keeps_no_dead_jobs_drops_them_at_once(self, opened: Open) -> None:
        store = await opened(limits=Limits(dead_count=0))
        node = Node(shard := store.shard("default"), "n")
        await Client(shard).push(job("a"))
        claimed, fence = await node.claim_one()
        await node.settle(settlement(claimed, fence, msgspec.structs.replace(END, verb="dead")))
        assert await shard.get(["a"]) == [None]

    # --- room --------------------------------------------------------------------------------------------------------

    async def test_what_is_over_for_an_hour_takes_no_room(self, url: str, opened: Open, clock: ManualClock) -> None:
        store = await opened(limits=Limits(remember_ms=60_000))
        await end_one(store, "a", named=True)
        assert room(url, "ended") == 1
        clock.advance(60 + 3_599.999)
        await end_one(store, "b")
        assert room(url, "ended") == 1  # a clock that goes back a little finds it
        clock.advance(0.001)
        await end_one(store, "c")
        assert room(url, "ended") == 0

    async def test_a_settle_forgets_what_is_over_as_a_push_does(
        self, url: str, opened: Open, clock: ManualClock
    ) -> None:
        store = await opened(limits=Limits(remember_ms=60_000))
        await end_one(store, "a", named=True)
        node = Node(store.shard("default"), "n")
        await Client(store.shard("default")).push(job("b"))
        claimed, fence = await node.claim_one()
        clock.advance(60 + 3_600)
        assert await node.settle(settlement(claimed, fence)) == ["applied"]
        assert room(url, "ended") == 0

    async def test_a_look_at_a_queue_that_nobody_used_leaves_nothing(self, url: str, opened: Open) -> None:
        shard = (await opened()).shard("nobody")
        await shard.get(["a"])
        await shard.list("pending", "", 10)
        await shard.sizes()
        await shard.result("a")
        await shard.schedules(None, "", 10)
        await shard.history("history", "", 10)
        if url.startswith("sqlite"):
            assert room(url, "shards") == 0
        else:
            with contextlib.closing(redis.Redis.from_url(url, protocol=2)) as client:
                assert client.hkeys("{duly:nobody}:meta") == [b"format"]
                assert client.keys() == [b"{duly:nobody}:meta"]

    async def test_a_unique_key_of_what_has_left_takes_no_room(self, url: str, opened: Open) -> None:
        shard = (await opened()).shard("default")
        client = Client(shard)
        await client.push(job("a", unique=Hold("k")))
        await shard.cancel(["a"])
        await client.push(job("b", unique=Hold("l")))
        await shard.clear("", None, 10)
        await client.push(job("c", named=True, unique=Hold("m")))
        await client.push(job("c", named=True, replace=True))
        claimed, fence = await (node := Node(shard, "n")).claim_one()
        await node.settle(settlement(claimed, fence))
        assert room(url, "unique_keys") == 0

    async def test_a_key_that_was_unique_for_a_time_is_found_by_those_who_clean(
        self, url: str, opened: Open, clock: ManualClock
    ) -> None:
        store = await opened()
        await end_one(store, "a", unique=Hold("k", "time", 5_000))
        await Client(store.shard("default"), "holder").push(job("later", delay=WEEK * 1_000, unique=Hold("l")))
        clock.advance(5 + 3_599.999)
        await Client(store.shard("default"), "x").push(job("x", delay=WEEK * 1_000))
        assert room(url, "unique_keys") == 2
        clock.advance(0.001)
        await Client(store.shard("default"), "y").push(job("y", delay=WEEK * 1_000))
        await store.shard("default").reconcile("unique 0", 100)
        assert room(url, "unique_keys") == 1
        assert await Client(store.shard("default"), "z").push(job("z", unique=Hold("l"))) == [("pending", "later")]

    async def test_results_that_are_over_take_no_room(self, url: str, opened: Open, clock: ManualClock) -> None:
        if not url.startswith("sqlite"):
            return  # the server's own affair
        store = await opened()
        await end_one(store, "a")
        clock.advance(4.999)
        await end_one(store, "b")
        assert await store.shard("default").result("a") == b"x"
        assert room(url, "results") == 2
        clock.advance(0.001)
        assert await store.shard("default").result("a") is None
        await end_one(store, "c")
        assert room(url, "results") == 2

    async def test_the_ended_and_the_cancelled_are_not_kept_waiting_for_each_other(
        self, url: str, opened: Open, clock: ManualClock
    ) -> None:
        store = await opened(limits=Limits(remember_ms=1))
        shard = store.shard("default")
        for i in range(3):
            await Client(shard, f"{i}").push(job(f"{i}", named=True))
            assert list(await shard.cancel([f"{i}"])) == ["cancelled"]
            clock.advance(3_700)
        await Client(shard, "last").push(job("last", delay=9_000))
        await shard.cancel(["nobody"])
        assert room(url, "ended") == 0

    async def test_numbers_of_calls_are_kept_for_a_day(self, opened: Open, clock: ManualClock) -> None:
        store = await opened()
        shard = store.shard("default")
        await end_one(store, "a")  # its client's push, its node's claim and settle
        clock.advance(86_400)
        assert await reconciled(shard) == {}
        clock.advance(0.001)
        await Client(shard, "lately").push(job("b"))
        assert await reconciled(shard) == {"stale": 3}
        assert await reconciled(shard) == {}

    async def test_a_node_whose_beat_ran_out_takes_no_room(self, url: str, opened: Open, clock: ManualClock) -> None:
        store = await opened()
        await store.beat("n", b"one", 10_000, [])
        clock.advance(10)
        await store.registry()
        await store.beat("m", b"two", 10_000, [])
        assert room(url, "nodes") == 1
        await store.beat("m", b"", 0, [])
        assert room(url, "nodes") == 0

    async def test_a_locks_fence_outlives_the_lock_for_a_week(self, url: str, opened: Open, clock: ManualClock) -> None:
        store = await opened()
        assert await store.lock("a", "one", 10_000_000, places=2)
        assert await store.lock("a", "two", 5_000_000, places=2)
        assert await store.lock("a", "three", 10_000, places=2, waiting=3_000) is None
        if not url.startswith("sqlite"):  # the server forgets by its own clock
            with contextlib.closing(redis.Redis.from_url(url, protocol=2)) as client:
                found = list(client.scan_iter("{duly:lock:*}*"))
                assert len(found) == 4
                for key in found:
                    assert 10_000 + WEEK - 60 < client.ttl(key) <= 10_000 + WEEK
            return
        clock.advance(10_000 + WEEK)
        await store.lock("b", "one", 10_000)
        assert room(url, "locks") == 2
        clock.advance(0.001)
        await store.lock("b", "one", 10_000)
        assert room(url, "locks") == 1

    async def test_who_held_or_awaited_a_lock_takes_no_room(self, url: str, opened: Open, clock: ManualClock) -> None:
        store = await opened()

        async def places() -> int:
            if url.startswith("sqlite"):
                return room(url, "lock_places")
            with contextlib.closing(redis.Redis.from_url(url, protocol=2)) as client:
                key = "{duly:lock:a}"
                assert client.zcard(f"{key}:line") == client.zcard(f"{key}:waits")
                assert client.hlen(key) == client.zcard(f"{key}:held") + client.exists(key)  # `fence`, and one for each
                return int(client.zcard(f"{key}:held") + client.zcard(f"{key}:line"))

        assert await store.lock("a", "one", 10_000)
        assert await store.lock("a", "two", 10_000) is None
        assert await store.lock("a", "two", 10_000, waiting=3_000) is None
        assert await places() == 2
        await store.unlock("a", "one")
        assert await store.lock("a", "two", 10_000)
        assert await places() == 1
        assert await store.lock("a", "three", 10_000, waiting=3_000) is None
        await store.unlock("a", "three")
        assert await places() == 1
        for owner in ("four", "five"):
            assert await store.lock("a", owner, 10_000, waiting=3_000) is None
        clock.advance(3)
        assert await store.lock("a", "six", 10_000) is None
        assert await places() == 1
        clock.advance(7)
        assert await store.lock("a", "six", 10_000)
        assert await places() == 1

    # --- namespaces --------------------------------------------------------------------------------------------------

    async def test_namespaces_are_apart(self, opened: Open, clock: ManualClock) -> None:
        one, two = await opened("one"), await opened("two")
        await one.beat("n", b"one", 10_000, ["mail"])
        await two.beat("n", b"two", 20_000, ["text"])
        assert [dict((await store.registry()).nodes) for store in (one, two)] == [{"n": b"one"}, {"n": b"two"}]
        assert [list((await store.registry()).queues) for store in (one, two)] == [["mail"], ["text"]]
        clock.advance(10)
        await one.beat("m", b"", 10_000, [])
        assert dict((await two.registry()).nodes) == {"n": b"two"}
        await one.beat("n", b"", 0, [])
        clock.shift(-10)
        assert dict((await two.registry()).nodes) == {"n": b"two"}
        for store in (one, two):
            assert await Client(store.shard("default")).push(job("a")) == [("created", "a")]
        assert ids(await Node(one.shard("default"), "n").claim()) == ["a"]
        assert (await known(two.shard("default"), "a")).state == "pending"

    async def test_the_locks_of_two_namespaces_are_apart(self, opened: Open, clock: ManualClock) -> None:
        one, two = await opened("one"), await opened("two")
        assert await one.lock("report", "me", 10_000)
        assert await two.lock("report", "you", 10_000)
        assert await one.lock("report", "you", 10_000) is None
        assert await one.unlock("report", "you") is False
        assert await two.unlock("report", "me") is False
        assert await one.lock("other", "me", 10_000)
        assert await one.unlock("other", "me") is True
        assert await one.lock("report", "you", 10_000) is None
        assert await one.unlock("report", "me") is True
        assert await two.lock("report", "me", 10_000) is None
        clock.advance(20)
        last = await two.lock("report", "me", 10_000)
        clock.shift(-3_600)
        assert last is not None
        assert await two.unlock("report", "me") is True
        again = await two.lock("report", "me", 10_000)
        assert again is not None
        assert again > last

    async def test_what_is_forgotten_in_one_namespace_is_kept_in_another(
        self, url: str, opened: Open, clock: ManualClock
    ) -> None:
        if not url.startswith("sqlite"):
            return  # nothing is forgotten there by a call for something else
        one, two = await opened("one"), await opened("two")
        await one.lock("a", "me", 1)
        clock.advance(WEEK + 1)
        await two.lock("b", "me", 1)
        assert room(url, "locks") == 2

    # --- the clock ---------------------------------------------------------------------------------------------------

    async def test_a_store_without_a_clock_of_its_own_uses_the_servers(self, opened: Open, clock: ManualClock) -> None:
        store = await opened(clock=None)
        await Client(store.shard("default")).push(job("a"))
        batch = await Node(store.shard("default"), "n").claim()
        assert ids(batch) == ["a"]
        assert batch.now > now_ms(clock)
        assert batch.fence // 1_000 >= batch.now


@pytest.mark.parametrize("kind", ["redis"])
class TestServer:
    """What only a server can do to a store: be full, evict."""

    async def test_a_full_server_refuses_no_call_that_finds_nothing_to_do(
        self, start_server: StartServer, kind: str, clock: ManualClock
    ) -> None:
        server = start_server(kind, "--maxmemory-policy", "noeviction")
        store = open_store(server.url, clock=clock)
        await store.connect()
        shard = store.shard("default")
        await shard.enqueue("c", 1, [NewJob("a", b"x" * 900_000)])
        claimed, fence = await Node(shard, "n").claim_one()
        with server.client() as client:
            client.config_set("maxmemory", int(client.info("memory")["used_memory"]) - 500_000)
        with pytest.raises(StoreFull):
            await shard.enqueue("c", 2, [job("b")])
        assert ids(await Node(shard, "m").claim()) == []
        assert await shard.start([("a", fence - 1)]) == [False]
        assert await shard.renew([Renewal("a", fence - 1, 10_000)]) == ["taken"]
        assert await Node(shard, "m").settle(settlement(claimed, fence - 1)) == ["taken"]
        await store.close()

    async def test_a_claim_holds_nothing_whose_body_was_evicted(
        self, redis_url: str, redis_server: Server, kind: str, clock: ManualClock
    ) -> None:
        store = open_store(redis_url, clock=clock)
        await store.connect()
        shard = store.shard("default")
        await Client(shard).push(job("a"), job("b"))
        with redis_server.client() as client:
            client.hdel("{duly:default}:jobs", "a")
            assert ids(await Node(shard, "n").claim()) == ["b"]
            assert client.zrange("{duly:default}:leased", 0, -1) == client.hkeys("{duly:default}:running") == [b"b"]
        await store.close()

    async def test_a_full_server_lets_who_is_known_keep_free_and_take_its_lock(
        self, start_server: StartServer, kind: str, clock: ManualClock
    ) -> None:
        server = start_server(kind, "--maxmemory-policy", "noeviction")
        store = open_store(server.url, clock=clock)
        await store.connect()
        fence = await store.lock("a", "one", 10_000)
        assert await store.lock("a", "two", 10_000, waiting=3_000) is None
        with server.client() as client:
            client.config_set("maxmemory", 1)
        for owner in ("three", "one"):
            with pytest.raises(StoreFull):
                await store.lock("b", owner, 10_000)
        with pytest.raises(StoreFull):
            await store.lock("a", "three", 10_000, waiting=3_000)
        clock.advance(2)
        assert await store.lock("a", "one", 10_000) == fence
        assert await store.lock("a", "two", 10_000, waiting=3_000) is None
        clock.advance(2)
        assert await store.unlock("a", "one")
        assert await store.lock("a", "two", 10_000)
        await store.close()

    @pytest.mark.parametrize("lost", ["", ":held", ":line", ":waits"])
    async def test_a_lock_of_which_a_key_was_evicted_has_one_holder_and_goes_on(
        self, redis_url: str, redis_server: Server, kind: str, clock: ManualClock, lost: str
    ) -> None:
        store = open_store(redis_url, clock=clock)
        await store.connect()
        first = await store.lock("a", "one", 10_000)
        assert first is not None
        for owner in ("two", "dead") if lost == ":held" else ("dead", "two"):
            assert await store.lock("a", owner, 10_000, waiting=3_000) is None
        with redis_server.client() as client:
            assert client.delete("{duly:lock:a}" + lost) == 1
        clock.advance(1)
        fences = [await store.lock("a", owner, 10_000, waiting=3_000) for owner in ("two", "one")]
        assert sum(fence is not None for fence in fences) <= 1
        for _ in range(4):
            clock.advance(2.5)
            await store.lock("a", "two", 10_000, waiting=3_000)
        second = await store.lock("a", "two", 10_000, waiting=3_000)
        assert second is not None
        assert second > first
        await store.close()

    async def test_a_unique_key_is_free_when_its_job_was_evicted(
        self, redis_url: str, redis_server: Server, kind: str, clock: ManualClock
    ) -> None:
        store = open_store(redis_url, clock=clock)
        await store.connect()
        shard = store.shard("default")
        await Client(shard).push(job("a", unique=Hold("k")))
        with redis_server.client() as client:
            client.hdel("{duly:default}:jobs", "a")
        assert await Client(shard, "other").push(job("b", unique=Hold("k"))) == [("created", "b")]
        await store.close()

    async def test_a_schedule_that_was_written_before_ends_were_noted_goes_on(
        self, redis_url: str, redis_server: Server, kind: str, clock: ManualClock
    ) -> None:
        store = open_store(redis_url, clock=clock)
        await store.connect()
        shard = store.shard("default")
        await shard.put(schedule())
        with redis_server.client() as client:
            value = client.hget("{duly:default}:schedules", "s")
            end = 2 + int.from_bytes(value[:2])
            state = msgspec.msgpack.encode(msgspec.msgpack.decode(value[2:end])[:11])
            client.hset("{duly:default}:schedules", "s", len(state).to_bytes(2) + state + value[end:])
        before = await read(shard)
        assert (before.late, before.ended, before.outcome, before.failures) == (0, 0, "", 0)
        assert await shard.fire("n", [firing(before)]) == ["fired"]
        assert await read(shard) == changed(before, next=before.mark + STEP)
        await store.close()
