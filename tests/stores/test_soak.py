"""After jobs of all endings, a store is as small as before: keys, entries and bytes, apart from its bounded streams."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from duly.core.job import Hold
from duly.core.lifecycle import Change
from duly.stores.base import Firing, Limits, NewSchedule, Renewal, Settlement, Shard, Store
from duly.stores.memory.line import Line
from duly.stores.memory.store import MemoryStore
from duly.stores.redis.store import RedisStore
from duly.stores.sqlite.store import SqliteStore
from duly.testing import ManualClock
from duly.testing.conformance.kit import AGAIN, DEAD, Client, Node, job, now_ms, settlement
from tests.servers import Server
from tests.stores.furnished import reconcile_all

LIMITS = Limits(remember_ms=60_000, history=100, dead_count=50, dead_ms=600_000)
LEASE = 10_000
ROUND = 200  # jobs
ROUNDS = 3
UNFIT = Change("again", delay=100, unfit_since=1, reason="no task 'x' is declared on this node")
SNOOZED = Change("again", delay=1_000, attempts=1, crashes=1, reason="snoozed")


class Life:
    """Rounds of jobs with ids, keys, clients and nodes of their own; nothing of a round is left at its end."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store, self.shard, self.clock = store, store.shard("default"), clock

    async def round(self, number: int) -> None:
        tag = f"{number:04}"
        client, node, lost = (
            kind(self.shard, f"{kind.__name__} {tag}{more}") for kind, more in ((Client, ""), (Node, "a"), (Node, "b"))
        )
        await self._push(client, tag)  # type: ignore[arg-type]
        await self.shard.cancel([f"g{tag}-{n}" for n in range(0, ROUND, 9)])
        await lost.claim(40)  # type: ignore[union-attr]
        await self._schedule(tag)
        for step in range(14):
            self.clock.advance(4)
            await self._work(node, step)  # type: ignore[arg-type]
        await self.shard.clear("", None, 10_000)
        sizes = await self.shard.sizes()
        assert (sizes.pending, sizes.leased, sizes.dead, sizes.schedules) == (0, 0, 0, 0)
        await self.store.beat(f"node {tag}", b"record", 1_000, ["default"])
        assert await self.store.lock("one name", f"owner {tag}", 1_000) is not None
        for _ in range(3):  # what is remembered is forgotten, records of callers are dropped, results run out
            self.clock.advance(2 * 86_400)
            await reconcile_all(self.shard, 1_000)
            await Node(self.shard, "last", LEASE).settle()
            await self.shard.cancel(["nobody"])
            await self.store.registry()

    async def _push(self, client: Client, tag: str) -> None:
        for n in range(0, ROUND, 100):
            await client.push(*(
                job(f"{'u' if m % 3 == 0 else 'g'}{tag}-{m}", body=bytes(100), delay=m % 7 * 500, priority=m % 4,
                    named=m % 3 == 0,
                    unique=Hold(f"key {tag}-{m}", ("end", "start", "time")[m % 3], 5_000) if m % 5 == 0 else None)
                for m in range(n, n + 100)
            ))  # fmt: skip
        await client.push(job(f"u{tag}-0", named=True, replace=True))

    async def _schedule(self, tag: str) -> None:
        now = now_ms(self.clock)
        for n in range(10):
            await self.shard.put(NewSchedule(f"s{tag}-{n}", b"definition", now - 9_000))
        records = (await self.shard.schedules([f"s{tag}-{n}" for n in range(10)], "", 10)).items
        await self.shard.fire("n", [
            Firing(s.id, s.revision, s.mark, now, now + 1, now + 1, (job(f"{s.id}@{now}"),), (now,), {"late": 3}, True)
            for s in records
        ])  # fmt: skip
        for n in range(10):
            await self.shard.steer(f"s{tag}-{n}", remove=n % 2 == 0)
        for n in range(10):
            await self.shard.steer(f"s{tag}-{n}", remove=True)

    async def _work(self, node: Node, step: int) -> None:
        """Every way in which a run can end."""
        batch = await node.claim(200)
        if not batch.jobs:
            return
        held = [(one.id, batch.fence) for one in batch.jobs]
        await self.shard.start(held[::2])
        await self.shard.renew([Renewal(id, fence, LEASE, b"half") for id, fence in held[::3]])
        await self.shard.cancel([id for id, _ in held[::11]])
        ends: list[Settlement] = []
        for n, one in enumerate(batch.jobs):
            change = (None, AGAIN, DEAD, UNFIT, SNOOZED)[n % 5] if step < 6 and n % 11 else None
            kept: dict[str, Any] = {"result": b"\x01x", "result_ms": 5_000} if n % 4 == 0 else {}
            children = (job(f"child of {one.id}"),) if n % 6 == 0 and not one.id.startswith("child") else ()
            ends.append(settlement(one, batch.fence, children=children, **kept) if change is None
                        else settlement(one, batch.fence, change, **kept))  # fmt: skip
        await node.settle(*ends)
        if step < 6:
            dead = [record.id for record in (await self.shard.list("dead", "", 10)).items]
            await self.shard.revive(dead)


Measure = Callable[[], dict[str, float]]


def of_memory(shard: Shard) -> dict[str, float]:
    """The length of every container."""
    found: dict[str, float] = {}

    def look(name: str, value: Any, depth: int) -> None:
        if isinstance(value, Line):
            found[name] = len(value)
            found[f"{name}, with what is thrown away later"] = len(value._heap) // 200
        elif isinstance(value, dict | list | set | tuple):
            found[name] = len(value)
            for n, inner in enumerate(value.values() if isinstance(value, dict) else value):
                look(f"{name}[{n}]", inner, depth + 1)
        elif depth < 4 and type(value).__module__.startswith("duly.stores.memory"):
            for inner_name in getattr(value, "__dict__", None) or getattr(type(value), "__slots__", ()):
                look(f"{name}.{inner_name}", getattr(value, inner_name, None), depth + 1)

    look("state", shard._state, 0)  # type: ignore[attr-defined]
    return {name: size for name, size in found.items() if "history" not in name and "ticks" not in name}


def of_redis(server: Server) -> dict[str, float]:
    """Every key, the number of its entries and its bytes; of the streams, how long they may get."""
    found: dict[str, float] = {}
    with server.client() as client:
        for key in sorted(client.keys()):
            name, kind = key.decode().rpartition("}:")[2], client.type(key)
            if name == "meta":
                assert client.hlen(key) <= 12
                continue
            if name.startswith("result:"):
                assert client.pttl(key) != -1, name  # the server's own clock takes it away
                continue
            if kind == b"stream":
                assert client.xlen(key) <= LIMITS.history + 200  # trimmed by whole nodes of a hundred
                continue
            sizes = {
                b"hash": client.hlen,
                b"zset": client.zcard,
                b"list": client.llen,
                b"set": client.scard,
                b"string": client.strlen,
            }
            found[name] = sizes[kind](key)
            found[f"{name}, hundreds of bytes"] = round(client.memory_usage(key, samples=0) / 400)
    return found


def of_sqlite(path: Path) -> dict[str, float]:
    """The rows of every table, and the pages that are in use."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found: dict[str, float] = {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}
        assert found.pop("entries") <= 2 * LIMITS.history
        return found


@pytest.fixture(
    params=[
        "memory",
        "sqlite",
        pytest.param("redis", marks=pytest.mark.server),
        pytest.param("valkey", marks=pytest.mark.server),
    ]
)
async def life(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Life, Measure]]:
    clock = ManualClock()
    measure: Measure
    if request.param == "memory":
        store: Store = MemoryStore(LIMITS, clock)
        measure = lambda: of_memory(store.shard("default"))  # noqa: E731
    elif request.param == "sqlite":
        path = tmp_path / "duly.db"
        store = SqliteStore(path, limits=LIMITS, clock=clock)
        measure = lambda: of_sqlite(path)  # noqa: E731
    else:
        request.getfixturevalue(f"{request.param}_url")
        server: Server = request.getfixturevalue(f"{request.param}_server")
        store = RedisStore(server.url, limits=LIMITS, clock=clock)
        measure = lambda: of_redis(server)  # noqa: E731
    await store.connect()
    yield Life(store, clock), measure
    await store.close()


async def test_after_jobs_of_all_endings_a_store_is_as_small_as_before(life: tuple[Life, Measure]) -> None:
    rounds, measure = life
    await rounds.round(0)
    first = measure()
    for number in range(1, ROUNDS):
        await rounds.round(number)
    last = measure()
    assert {name: (first.get(name), size) for name, size in last.items() if size > first.get(name, 0) + 1} == {}
