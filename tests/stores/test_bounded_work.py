"""No verb does more work because the store holds more: counted, not timed, so that a busy machine says the same.

In Redis what a script gives to and gets from its commands is counted, in SQLite the steps of its virtual machine. The
same calls are made beside a few jobs and beside many. `benchmarks/million.py` measures the time beside a million.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from duly.core.lifecycle import END, Change
from duly.stores.base import NewSchedule, Settlement, Store
from duly.stores.redis.keys import ShardKeys
from duly.stores.redis.scripts import Script, names, script
from duly.stores.redis.store import RedisStore
from duly.stores.sqlite import room as sqlite_room
from duly.stores.sqlite.store import SqliteStore
from duly.testing import ManualClock, conformance
from duly.testing.conformance.kit import Client, Node, job, settlement
from tests.servers import Server
from tests.stores.furnished import VERBS, Furnished, other_claim

FEW, MANY = 500, 6_000
DEAD = Change("dead", attempts=4, reason="failed: it raised", error="ValueError: no", trace="Traceback")
BATCH = 500


async def fill(store: Store, clock: ManualClock, count: int) -> None:
    """So many jobs of each kind beside those of the test: pending now and later, leased, dead, remembered; schedules."""
    shard, client, node = (
        store.shard("default"),
        Client(store.shard("default"), "many"),
        Node(store.shard("default"), "many", 86_400_000),
    )
    for first in range(0, count, BATCH):
        tags = range(first, first + BATCH)
        await client.push(*(job(f"run{n}", priority=n % 4) for n in tags))
        batch = await node.claim(BATCH)
        dead, ended = batch.jobs[: BATCH // 10], batch.jobs[BATCH // 10 : BATCH // 5]
        await node.settle(*(settlement(one, batch.fence, DEAD) for one in dead),
                          *(Settlement(one.id, batch.fence, END, named=True) for one in ended))  # fmt: skip
        await client.push(*(job(f"later{n}", priority=n % 4, delay=10_000_000 + n) for n in tags),
                          *(job(f"due{n}", priority=n % 4, delay=3_600_000) for n in tags))  # fmt: skip
        for n in range(first, first + BATCH, 50):
            await shard.put(NewSchedule(f"many{n}", b"definition"))
        await shard.due(BATCH)


Count = Callable[[], int]


async def work_of(f: Furnished, count: Count) -> dict[str, int]:
    """What each verb costs."""
    found = {}
    for verb, call in VERBS.items():
        before = count()
        await call(f)
        found[verb] = count() - before
    for n in range(3):
        before, cursor = count(), ""
        for _ in range(5):
            cursor, _ = await f.shard.reconcile(cursor, 100)
        found[f"reconcile {n}"] = count() - before
    return found


async def compare(
    make: Callable[[str, ManualClock], Awaitable[tuple[Store, Count]]],
) -> tuple[dict[str, int], dict[str, int]]:
    found = []
    for name, size in (("few", FEW), ("many", MANY)):
        clock = ManualClock()
        store, count = await make(name, clock)
        await fill(store, clock, size)
        furnished = await Furnished(store, clock).furnish()
        clock.advance(3_600)  # very many are due at once
        for _ in range(3):
            await other_claim(store.shard("default"), clock)
            clock.advance(4)
        found.append(await work_of(furnished, count))
        await store.close()
    return found[0], found[1]


def counted(name: str) -> Script:
    """A script that adds the number of values that its commands took and gave to the key `work`."""
    plain = script(name)
    body = re.sub(r"\bredis\.call\(", "counted(", plain.text)
    text = f"""
local work = 0
local function size(reply)
  if type(reply) ~= 'table' then return 1 end
  local sum = 0
  for _, value in ipairs(reply) do sum = sum + size(value) end
  return sum
end
local function counted(...)
  local reply = redis.call(...)
  work = work + select('#', ...) + size(reply)
  return reply
end
local function main()
{body}
end
local answer = main()
redis.call('INCRBY', 'work', work)
return answer
"""
    return Script(plain.name, text, hashlib.sha1(text.encode()).hexdigest(), plain.keys)


async def test_a_script_touches_no_more_beside_many_jobs_than_beside_few(
    redis_url: str, redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = {name: counted(name) for name in names()}
    monkeypatch.setattr("duly.stores.redis.jobs.script", scripts.__getitem__)
    monkeypatch.setattr("duly.stores.redis.store.script", scripts.__getitem__)
    with redis_server.client() as client:

        async def make(name: str, clock: ManualClock) -> tuple[Store, Count]:
            store = RedisStore(redis_url, namespace=name, limits=conformance.LIMITS, clock=clock)
            await store.connect()
            return store, lambda: int(client.get("work") or 0)

        few, many = await compare(make)
        assert client.hlen(ShardKeys("many", "default").key("jobs")) > 2 * MANY
    assert {verb: (few[verb], many[verb]) for verb in few if many[verb] > 1.3 * few[verb] + 40} == {}


async def test_an_sqlite_verb_takes_no_more_steps_beside_many_jobs_than_beside_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [0]
    step = sqlite_room.Verbs._step

    def tick() -> None:
        steps[0] += 1

    def watched(self: Any, writes: bool, verb: Any, args: Any, db: sqlite3.Connection) -> Any:
        db.set_progress_handler(tick, 10)
        try:
            return step(self, writes, verb, args, db)
        finally:
            db.set_progress_handler(None, 0)

    async def make(name: str, clock: ManualClock) -> tuple[Store, Count]:
        store = SqliteStore(tmp_path / f"{name}.db", limits=conformance.LIMITS, clock=clock)
        await store.connect()
        return store, lambda: steps[0]

    monkeypatch.setattr(sqlite_room.Verbs, "_step", watched)
    few, many = await compare(make)
    assert {verb: (few[verb], many[verb]) for verb in few if many[verb] > 1.3 * few[verb] + 40} == {}
