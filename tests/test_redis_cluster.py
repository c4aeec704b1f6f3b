"""A Redis Cluster: each key in its slot, and work that goes on through failovers and slots that move."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from duly import Context, InvalidURL, Scheduler, StoreRefused, StoreUnavailable, StoreUncertain, every
from duly.core.job import NewJob
from duly.stores import open_store
from duly.stores.redis.cluster import ClusterLink
from duly.stores.redis.scripts import Script
from duly.stores.redis.slots import slot_of
from duly.stores.redis.store import RedisStore
from duly.stores.redis.wire import Receiver, Wire
from tests.schedulers import running
from tests.servers import HOST, Server
from tests.topologies import Cluster, Member, await_fact, replicated
from tests.waiting import eventually

BOUND = 20.0
EITHER = [pytest.param("redis", marks=pytest.mark.redis), pytest.param("valkey", marks=pytest.mark.valkey)]
QUEUES = ("default", "mail", "bulk")
"""Each is served by a master of its own."""
MOVING = "slow"
"""A queue whose slot is moved about."""


@pytest.fixture(params=EITHER)
def cluster(request: pytest.FixtureRequest) -> Cluster:
    cluster: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    return cluster


@asynccontextmanager
async def opened(cluster: Cluster) -> AsyncIterator[RedisStore]:
    store = RedisStore(cluster.url)
    try:
        await store.connect()
        yield store
    finally:
        await store.close()


def link_of(store: RedisStore) -> ClusterLink:
    return cast(ClusterLink, store._link)


def key(queue: str) -> str:
    return f"{{duly:{queue}}}:jobs"


def echo(text: str) -> Script:
    return Script("echo", text, hashlib.sha1(text.encode()).hexdigest(), ("key",))


# --- slots -----------------------------------------------------------------------------------------------------------


async def test_every_key_is_in_the_slot_of_its_shard_and_the_servers_say_so(valkey_cluster: Cluster) -> None:
    scheduler = Scheduler(valkey_cluster.url, queues=QUEUES)
    done: list[int] = []

    @scheduler.task(keep_result=True)
    async def child(n: int) -> int:
        done.append(n)
        return n

    @scheduler.task
    async def parent(ctx: Context, n: int) -> None:
        ctx.push(child, n)

    async with running(scheduler):
        for n, queue in enumerate(QUEUES):
            await parent.options(queue=queue, id=f"named:{n}", unique=f"u{n}").push(n)
            await scheduler.schedules.put(f"s{n}", every(hours=1, start="now"), "child", args=(n + 10,), queue=queue)
        assert await (await child.push(20)).result(timeout=BOUND) == 20
        await eventually(lambda: sorted(done) == [0, 1, 2, 10, 11, 12, 20], BOUND)
        async with scheduler.lock("l"):
            pass
    found: dict[str, set[int]] = {}
    for master in valkey_cluster.masters:
        for name in (name.decode() for name in master.ask("KEYS", "*")):
            tag, brace, _ = name[1:].partition("}")
            assert (name[0], brace) == ("{", "}")
            found.setdefault(tag, set()).add(slot_of(name))
            assert master.ask("CLUSTER", "KEYSLOT", name) == slot_of(name)
            assert valkey_cluster.master_of(name) is master
    assert {"duly", "duly:default", "duly:mail", "duly:bulk", "duly:lock:l"} <= found.keys()
    assert all(len(slots) == 1 for slots in found.values())
    assert len({valkey_cluster.master_of(key(queue)) for queue in QUEUES}) == 3


async def test_calls_of_one_turn_to_one_node_travel_together(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    send = Wire.send

    def counted(wire: Wire, packed: Sequence[bytes], receivers: Sequence[Receiver]) -> None:
        sent.append(len(packed))
        send(wire, packed, receivers)

    async with opened(cluster) as store:
        shard = store.shard("default")
        await shard.get(["job"])
        monkeypatch.setattr(Wire, "send", counted)
        await asyncio.gather(*(shard.get([f"job{n}"]) for n in range(200)))
    assert sent == [200]


async def test_a_node_says_who_it_is(cluster: Cluster) -> None:
    async with opened(cluster) as store:
        for queue in QUEUES:
            await store.shard(queue).sizes()
            run_id = cluster.master_of(key(queue)).facts("server")["run_id"]
            assert link_of(store).server_id_of(key(queue)) == run_id


# --- slots that move --------------------------------------------------------------------------------------------------


def move_by_keys(cluster: Cluster, target: Member) -> None:
    with cluster.migrating(key(MOVING), target) as move:
        move()


def move_at_once(cluster: Cluster, target: Member) -> None:
    cluster.migrate_at_once(key(MOVING), target)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cluster", "migrate"),
    [("redis", move_by_keys), ("valkey", move_by_keys), ("valkey", move_at_once)],
    indirect=["cluster"],
)
async def test_while_its_slot_moves_no_job_of_a_queue_is_lost_or_runs_twice(
    cluster: Cluster, migrate: Callable[[Cluster, Member], None]
) -> None:
    scheduler = Scheduler(cluster.url, queues=[MOVING], push_timeout=BOUND)
    ran: Counter[int] = Counter()
    target = cluster.other_master(key(MOVING))

    @scheduler.task(queue=MOVING)
    async def work(n: int) -> None:
        ran[n] += 1
        await asyncio.sleep(0.005)

    async with running(scheduler):
        await scheduler.push_many(work.job(n) for n in range(600))
        await eventually(lambda: len(ran) > 50)
        moving = asyncio.ensure_future(asyncio.to_thread(migrate, cluster, target))
        n = 600
        while not moving.done():
            await work.push(n)
            n += 1
        await moving
        await eventually(lambda: len(ran) == n, BOUND)
        await work.push(n)
        await eventually(lambda: n in ran, BOUND)
    assert set(ran.values()) == {1}
    assert cluster.master_of(key(MOVING)) is target


async def test_what_is_on_its_way_is_asked_for_where_it_is_going(cluster: Cluster) -> None:
    """ASK: a key that has moved already is served by the target to those who ask; a script is loaded there first."""
    name = key(MOVING)
    target = cluster.other_master(name)
    async with opened(cluster) as store:
        link = store._link
        await link.command(b"HSET", name, "field", "value")
        with cluster.migrating(name, target) as move:
            assert await link.command(b"HGET", name, "field") == b"value"
            move()
            assert await link.command(b"HGET", name, "field") == b"value"
            assert await link.call(echo("return redis.call('HGET', KEYS[1], ARGV[1])"), [name], ["field"]) == b"value"
            with pytest.raises(StoreUnavailable, match="not ready: TRYAGAIN"):
                await store.shard(MOVING).sizes()
        assert await link.command(b"HGET", name, "field") == b"value"
        await eventually(lambda: link_of(store)._serving(slot_of(name)).address == (HOST, target.port))  # type: ignore[union-attr]


async def test_who_waits_for_a_token_of_a_slot_that_went_elsewhere_looks_again(cluster: Cluster) -> None:
    name = key(MOVING)
    source, target = cluster.master_of(name), cluster.other_master(name)
    async with opened(cluster) as store, asyncio.timeout(BOUND):
        waiting = asyncio.ensure_future(store.shard(MOVING).wait(60))
        await eventually(lambda: source.facts("clients")["blocked_clients"] == 1)
        with cluster.migrating(name, target):
            pass
        with pytest.raises(StoreUnavailable):
            await waiting
        await store.shard(MOVING).enqueue("client", 1, [NewJob("job", b"")])
        assert await store.shard(MOVING).wait(1)


async def test_a_node_that_sends_us_in_circles_is_not_followed_for_ever(valkey_cluster: Cluster) -> None:
    async with opened(valkey_cluster) as store:
        await store.shard("default").sizes()
        script = echo(f"return redis.error_reply('MOVED 1 {HOST}:' .. ARGV[1])")
        with pytest.raises(StoreUnavailable, match="the cluster is changing: MOVED 1"):
            await store._link.call(script, [key("default")], [valkey_cluster.master_of(key("default")).port])


# --- failover ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_work_goes_on_when_the_master_of_a_queue_dies(cluster: Cluster) -> None:
    scheduler = Scheduler(cluster.url, queues=QUEUES, lease=2, push_timeout=BOUND)
    ran: Counter[int] = Counter()
    old = cluster.master_of(key("mail"))

    @scheduler.task
    async def work(n: int) -> None:
        ran[n] += 1

    async with running(scheduler), opened(cluster) as store:
        await work.options(queue="mail", delay=4).push(0)
        await work.options(queue="mail").push(1)
        await eventually(lambda: ran[1])
        replicas = [node for node in cluster.nodes if node.facts("replication").get("master_port") == old.port]
        await asyncio.to_thread(replicated, old, replicas[0])
        waiting = asyncio.ensure_future(store.shard("mail").wait(60))
        await eventually(lambda: old.facts("clients")["blocked_clients"] >= 1)
        old.kill()
        with pytest.raises(StoreUnavailable):
            await waiting
        pushing = asyncio.ensure_future(work.options(queue="mail").push(2))
        others = [queue for queue in QUEUES if queue != "mail"]
        for n, queue in enumerate(others):
            await work.options(queue=queue).push(10 + n)
        assert not pushing.done()  # the others go on, meanwhile
        assert (await pushing).created
        await eventually(lambda: {0, 1, 2, 10, 11} <= ran.keys(), BOUND)
    assert cluster.master_of(key("mail")) is replicas[0]
    assert set(ran.values()) == {1}


@pytest.mark.slow
async def test_a_master_that_hangs_keeps_neither_calls_nor_waits(valkey_cluster: Cluster) -> None:
    old = valkey_cluster.master_of(key("bulk"))
    store = RedisStore(valkey_cluster.url, timeout=0.5)
    await store.connect()
    async with asyncio.timeout(BOUND):
        waiting = asyncio.ensure_future(store.shard("bulk").wait(60))
        await eventually(lambda: old.facts("clients")["blocked_clients"] == 1)
        old.pause()
        with pytest.raises((StoreUncertain, StoreUnavailable)):
            await store.shard("bulk").sizes()
        with pytest.raises(StoreUnavailable):
            await waiting
        await eventually(lambda: answers(store))
    await store.close()
    assert valkey_cluster.master_of(key("bulk")) is not old


async def answers(store: RedisStore) -> bool:
    try:
        await store.shard("bulk").sizes()
    except (StoreUnavailable, StoreUncertain):
        return False
    return True


async def test_a_client_finds_its_way_when_most_nodes_of_its_url_are_gone(valkey_cluster: Cluster) -> None:
    masters = valkey_cluster.masters
    dead = [node for node in valkey_cluster.nodes if node not in masters]
    for node in dead:
        node.kill()
    url = "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in (*dead, masters[0]))
    store = RedisStore(url)
    await store.connect()
    for queue in QUEUES:
        assert (await store.shard(queue).sizes()).pending == 0
    await store.close()


async def test_a_cluster_that_is_down_is_not_ready(valkey_cluster: Cluster) -> None:
    master = valkey_cluster.master_of(key("default"))
    replica = next(n for n in valkey_cluster.nodes if n.facts("replication").get("master_port") == master.port)
    async with opened(valkey_cluster) as store:
        replica.kill()
        master.kill()
        left = next(node for node in valkey_cluster.nodes if node.runs)
        await asyncio.to_thread(
            lambda: await_fact("down", lambda: b"cluster_state:fail" in left.ask("CLUSTER", "INFO"))
        )
        for queue in QUEUES:
            with pytest.raises(StoreUnavailable):
                await store.shard(queue).sizes()
        assert any("is down" in finding.what for finding in await store.examine())


# --- what is said -----------------------------------------------------------------------------------------------------


async def test_doctor_looks_at_every_master(cluster: Cluster) -> None:
    async with opened(cluster) as store:
        findings = await store.examine()
    said = {finding.what: finding.level for finding in findings}
    assert said["a cluster of 3 masters and 6 nodes"] == "ok"
    for master in cluster.masters:
        assert said[f"{HOST}:{master.port}: the server is a primary"] == "ok"


async def test_a_cluster_behind_a_plain_url_and_the_other_way_round_are_named(
    valkey_cluster: Cluster, redis_server: Server
) -> None:
    plain = RedisStore(valkey_cluster.nodes[0].url)
    await plain.connect()
    elsewhere = next(queue for queue in QUEUES if valkey_cluster.master_of(key(queue)) is not valkey_cluster.nodes[0])
    with pytest.raises(StoreRefused, match=r"a node of a cluster .*begin the URL with redis\+cluster://"):
        await plain.shard(elsewhere).sizes()
    await plain.close()
    other = RedisStore(f"redis+cluster://{HOST}:{redis_server.port}")
    with pytest.raises(StoreRefused, match="is not a cluster: begin the URL with redis://"):
        await other.connect()
    await other.close()


async def test_without_nodes_the_store_is_away() -> None:
    with pytest.raises(StoreUnavailable, match=r"no node of redis\+cluster://127.0.0.1:1 answers"):
        await Scheduler("redis+cluster://127.0.0.1:1").connect()


async def test_a_store_that_was_closed_may_be_opened_again_and_has_siblings(valkey_cluster: Cluster) -> None:
    store = RedisStore(valkey_cluster.url)
    for _ in range(2):
        sibling = store.sibling(timeout=1)
        for one in (store, sibling):
            await one.connect()
            assert (await one.shard("default").sizes()).pending == 0
            await one.close()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+cluster://user:pw@h1/1", "a cluster has database 0 only"),
        ("valkeys+cluster://h1,:7000", "names no host"),
        ("redis+cluster://h1?no_such_option=1", "no_such_option"),
    ],
)
def test_a_url_that_cannot_be_used_says_why_and_shows_no_password(url: str, why: str) -> None:
    with pytest.raises(InvalidURL, match=why) as caught:
        open_store(url)
    assert "pw" not in str(caught.value)


async def test_six_partitions_lie_in_slots_of_their_own_and_every_key_is_in_its_slot(valkey_cluster: Cluster) -> None:
    scheduler, done = Scheduler(valkey_cluster.url, queues=["parts"]), list[int]()
    scheduler.queue("parts", partitions=6)

    @scheduler.task(queue="parts")
    async def note(n: int) -> None:
        done.append(n)

    async with running(scheduler):
        for n in range(60):
            await note.options(id=f"part:{n}").push(n)
        for n in range(60, 66):
            await scheduler.schedules.put(f"p{n}", every(hours=1, start="now"), note, args=(n,))
        await eventually(lambda: sorted(done) == list(range(66)), BOUND)
    found: dict[str, set[int]] = {}
    for master in valkey_cluster.masters:
        for name in (name.decode() for name in master.ask("KEYS", "{duly:parts*")):
            found.setdefault(name.partition("}")[0], set()).add(master.ask("CLUSTER", "KEYSLOT", name))
            assert valkey_cluster.master_of(name) is master
    assert len(found) == 6
    assert all(len(slots) == 1 for slots in found.values())
    assert len(set.union(*found.values())) == 6
