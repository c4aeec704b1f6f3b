"""Keys that vanish (an eviction, a failover), or are not what they were: nothing fails for ever, and the reconciler repairs.

The shard under test has something of everything. A key is deleted; calls of every verb go on; the reconciler walks
through it. Then every job whose body is still there runs, and every schedule that is still there ticks.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from duly.core.lifecycle import END
from duly.errors import StoreError
from duly.stores.base import Firing, Settlement
from duly.stores.redis.keys import PENDING, SHARD, ShardKeys
from duly.stores.redis.store import RedisStore
from duly.testing import ManualClock, conformance
from duly.testing.conformance.kit import Client, Node, ids, job, now_ms, walk
from tests.servers import Server
from tests.stores.furnished import LEASE, VERBS, Furnished, of_redis, reconcile_all

KEYS = ShardKeys("x", "default")
NAMES = [line for name in SHARD if name != "moving" for line in (PENDING if name == "pending" else (name,))]
FOUND_OF = {
    "jobs": {"ghosts", "stale"},
    "leased": {"orphans"},
    "dead": {"orphans"},
    "ticks": {"silent"},
    **{line: {"orphans"} for line in PENDING},
}
"""What the reconciler must speak of when a key is gone; of other keys nothing that a job needs is lost."""
_numbers = itertools.count()


@pytest.fixture
def client(redis_url: str, redis_server: Server) -> Iterator[redis.Redis]:
    with redis_server.client() as client:
        yield client


@pytest.fixture
async def f(redis_url: str) -> AsyncIterator[Furnished]:
    clock = ManualClock()
    store = RedisStore(redis_url, namespace="x", limits=conformance.LIMITS, clock=clock)
    await store.connect()
    yield await Furnished(store, clock).furnish()
    await store.close()


def in_places(client: redis.Redis) -> dict[str, list[str]]:
    """In which of pending, leased and dead each kept job is."""
    places: dict[str, list[str]] = {id.decode(): [] for id in client.hkeys(KEYS.key("jobs"))}
    for name in (*PENDING, "leased", "dead"):
        for id in client.zrange(KEYS.key(name), 0, -1):
            places.setdefault(id.decode(), ["not kept"]).append(name)
    return places


def is_sound(client: redis.Redis) -> None:
    """The invariant of the data model, and no companion of a job that is gone."""
    places = in_places(client)
    assert {id: found for id, found in places.items() if len(found) != 1} == {}
    for companion in ("running", "attempts", "control", "errors", "progress"):
        assert {id.decode() for id in client.hkeys(KEYS.key(companion))} <= set(places), companion
    assert {id.decode() for id in client.hkeys(KEYS.key("running"))} <= {
        id for id, found in places.items() if found == ["leased"]
    }


async def run_everything(f: Furnished) -> set[str]:
    """Every job that is kept and not dead ends, by a node that comes anew; the ids."""
    runner, ended = Node(f.shard, f"runner {next(_numbers)}", LEASE), set()
    await f.shard.configure(paused=False, limit=0)
    for _ in range(16):
        f.clock.advance(4.9)  # below half a lease: this is no gap
        batch = await runner.claim(100)
        ended |= set(ids(batch))
        await runner.settle(
            *(Settlement(one.id, batch.fence, END, one.priority, one.named, one.unique) for one in batch.jobs)
        )
    sizes = await f.shard.sizes()
    assert (sizes.pending, sizes.leased) == (0, 0)
    return ended


async def tick_all(f: Furnished) -> set[str]:
    """Every schedule that is looked at within an hour fires a tick; their ids."""
    fired: set[str] = set()
    f.clock.advance(3_600)
    due = await f.shard.due(10)
    now = now_ms(f.clock)
    for record in due.schedules:
        tick = job(f"{record.id}@{now}")
        firing = Firing(record.id, record.revision, record.mark, now, now + 1, now + 1, (tick,), (now,), counted=True)
        assert await f.shard.fire("n", [firing]) == ["fired"]
        fired.add(record.id)
    return fired


@pytest.mark.parametrize("name", NAMES)
async def test_whichever_key_vanishes_the_reconciler_reports_and_repairs_and_every_job_that_is_kept_runs(
    f: Furnished, client: redis.Redis, name: str
) -> None:
    assert await reconcile_all(f.shard) == {}
    assert client.delete(KEYS.key(name)) == (name != "wake")
    broken = of_redis(client)
    said = await reconcile_all(f.shard, repair=False)
    assert of_redis(client) == broken
    found = await reconcile_all(f.shard, 3)
    assert set(found) >= FOUND_OF.get(name, set())
    assert set(said) >= FOUND_OF.get(name, set())
    is_sound(client)
    assert await reconcile_all(f.shard) == {}
    kept = {id for id, places in in_places(client).items() if places != ["dead"]}
    assert len(kept) == (0 if name == "jobs" else 15 if name == "dead" else 14)
    schedules = set() if name == "schedules" else {"s", "quiet"}
    ended = await run_everything(f)
    assert ended >= kept
    assert await tick_all(f) == schedules
    assert {id.partition("@")[0] for id in await run_everything(f)} == schedules
    is_sound(client)


async def test_a_run_whose_lease_vanished_is_taken_over_and_not_begun_anew(f: Furnished, client: redis.Redis) -> None:
    """Else a run at most once that had started would start again."""
    holder, other = Node(f.shard, "first", LEASE), Node(f.shard, "second", LEASE)
    await f.shard.configure(paused=False, limit=0)
    await Client(f.shard, "once").push(job("once"))
    batch = await holder.claim(100)
    assert await f.shard.start([("once", batch.fence)]) == [True]
    client.zrem(KEYS.key("leased"), "once")
    assert await reconcile_all(f.shard) == {"orphans": 1}
    (taken,) = [one for one in (await other.claim(100)).jobs if one.id == "once"]
    assert taken.before is not None
    assert (taken.before.node, taken.before.started, taken.crashes) == ("first", True, 1)


async def test_a_claim_without_a_lease_is_refused(f: Furnished) -> None:
    with pytest.raises(StoreError, match="a lease of 0 ms"):
        await f.shard.claim("n", 1, 10, 0, 1_000)


@pytest.mark.parametrize("name", NAMES)
async def test_whichever_key_is_overwritten_the_calls_that_need_it_say_so_and_all_is_well_once_it_is_gone(
    f: Furnished, client: redis.Redis, name: str
) -> None:
    client.delete(KEYS.key(name))
    client.set(KEYS.key(name), "somebody else's")
    failed: dict[str, str] = {}
    for verb, call in VERBS.items():
        try:
            await call(f)
        except StoreError as error:
            failed[verb] = str(error)
    assert failed
    assert [said for said in failed.values() if "WRONGTYPE" not in said] == []
    client.delete(KEYS.key(name))
    for call in VERBS.values():  # without it nothing fails
        await call(f)
        client.delete(KEYS.key(name))
    await reconcile_all(f.shard)
    is_sound(client)
    assert await reconcile_all(f.shard) == {}
    kept = {id for id, places in in_places(client).items() if places != ["dead"]}
    assert await run_everything(f) >= kept
    await Client(f.shard, "afterwards").push(job("afterwards"))
    assert await run_everything(f) == {"afterwards"}


PER_JOB = ("leased", "running", "attempts", "control", "errors", "progress", "dead", *PENDING)


@pytest.mark.parametrize("name", PER_JOB)
async def test_whichever_entry_of_a_job_vanishes_it_runs_in_the_end_or_is_seen_to_be_dead(
    f: Furnished, client: redis.Redis, name: str
) -> None:
    key = KEYS.key(name)
    entries = client.zrange(key, 0, -1) if client.type(key) == b"zset" else client.hkeys(key)
    everything = set(in_places(client))
    assert entries
    for entry in entries:
        assert (client.zrem if client.type(key) == b"zset" else client.hdel)(key, entry) == 1
        await reconcile_all(f.shard)
        is_sound(client)
        assert set(in_places(client)) == everything
    dead = {record.id for record in await walk(f.shard, "dead")}
    assert await run_everything(f) | dead >= everything
