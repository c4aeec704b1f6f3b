"""A call that cannot be done changes nothing: in a state in which it is refused, on a full server, and when it fails half-way."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from duly.core.job import Hold
from duly.core.lifecycle import END
from duly.errors import StoreError, StoreFull
from duly.stores.base import Firing, NewSchedule, Renewal, Settlement, Store
from duly.stores.redis.store import RedisStore
from duly.stores.sqlite import room as sqlite_room
from duly.stores.sqlite.store import SqliteStore
from duly.testing import ManualClock, conformance
from duly.testing.conformance.kit import AGAIN, DEAD, job
from tests.conftest import StartServer
from tests.servers import Server
from tests.stores.furnished import LEASE, NODE, VERBS, Contents, Furnished, Made, of_redis


def of_sqlite(path: Path) -> Contents:
    """Every row of every table."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: sorted(map(repr, db.execute(f"SELECT * FROM {table}"))) for table in tables}


class Place:
    """A store with something of everything in it, and what it holds, read from beside."""

    def __init__(self, store: Store, clock: ManualClock, read: Callable[[], Contents]) -> None:
        self.store, self.clock, self.read = store, clock, read
        self.f = Furnished(store, clock)


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("redis", marks=[pytest.mark.server, pytest.mark.redis]),
        pytest.param("valkey", marks=[pytest.mark.server, pytest.mark.valkey]),
    ]
)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    clock = ManualClock()
    with contextlib.ExitStack() as stack:
        if request.param == "sqlite":
            path = tmp_path / "duly.db"
            store: Store = SqliteStore(path, namespace="x", limits=conformance.LIMITS, clock=clock)
            place = Place(store, clock, lambda: of_sqlite(path))
        else:
            request.getfixturevalue(f"{request.param}_url")  # empties it
            server: Server = request.getfixturevalue(f"{request.param}_server")
            client = stack.enter_context(server.client())
            store = RedisStore(server.url, namespace="x", limits=conformance.LIMITS, clock=clock)
            place = Place(store, clock, lambda: of_redis(client))
        await store.connect()
        await place.f.furnish()
        yield place
        await store.close()


# --- refused -----------------------------------------------------------------------------------------------------------


def settled(*settlements: Settlement) -> Made:
    return lambda f: f.holder.settle(*settlements)


def stale(id: str, **more: Any) -> list[Settlement]:
    """Ends of every kind, under fences that are not the job's."""
    children = (job(f"child of {id}"), job("p1", replace=True, named=True))
    return [
        Settlement(id, fence, change, result=b"\x01x", result_ms=1_000, children=children, **more)
        for fence in (1, 2**52)
        for change in (END, AGAIN, DEAD)
    ]


async def _fire(f: Furnished, **other: Any) -> Any:
    (s,) = (await f.shard.schedules(["s"], "", 1)).items
    given: dict[str, Any] = {"id": "s", "revision": s.revision, "mark": s.mark, **other}
    now = f.clock.epoch_us() // 1000
    firing = Firing(
        given["id"], given["revision"], given["mark"], now, now + 1, now + 1, (job("tick"),), (now,), {"late": 1}
    )
    return await f.shard.fire("n", [firing])


async def _due_put(f: Furnished) -> Any:
    return await f.shard.put(NewSchedule("s", b"another"))


BAD: dict[str, tuple[Made, Any]] = {
    "a push of what is known": (
        lambda f: f.client.push(job("l1"), job("dead"), job("p1"), job("ended", named=True), job("later", delay=9)),
        [("leased", "l1"), ("dead", "dead"), ("pending", "p1"), ("ended", "ended"), ("pending", "later")],
    ),
    "a push under a held key": (lambda f: f.client.push(job("x", unique=Hold("key", "end", 0))), [("pending", "unique")]),
    "a late push": (lambda f: f.shard.enqueue("client", 1, [job("late")]), StoreError),
    "a push repeated": (lambda f: f.client.repeat(), None),
    "a late claim": (lambda f: f.shard.claim(NODE, 0, 100, LEASE, LEASE), StoreError),
    "a claim of nothing": (lambda f: f.shard.claim("new", 1, 0, LEASE, LEASE), None),
    "a start that is not held": (
        lambda f: f.shard.start([("l1", 1), ("p1", f.fence), ("nobody", 1), ("dead", f.fence)]), [False] * 4,
    ),
    "a renewal that is not held": (
        lambda f: f.shard.renew([Renewal(id, 1, LEASE, b"x") for id in ("l1", "p1", "nobody", "dead", "ended")]),
        ["taken"] * 5,
    ),
    **{
        f"the settle of what is {what}": (settled(*stale(id, named=True, unique="key", schedule="s")), ["taken"] * 6)
        for what, id in {"leased to another": "l1", "pending": "p1", "dead": "dead", "ended": "ended", "unknown": "x"}.items()
    },
    "the settle of what was asked to be cancelled": (
        lambda f: f.holder.settle(Settlement("l2", f.fence, AGAIN, children=(job("child"),))), ["cancel asked"],
    ),
    "a cancel of what is over": (lambda f: f.shard.cancel(["dead", "ended", "nobody"]), ["dead", "ended", "unknown"]),
    "a revival of what lives": (lambda f: f.shard.revive(["l1", "p1", "ended", "nobody"]), [False] * 4),
    "a clear of what runs": (lambda f: f.shard.clear("", None, 10, ["l1", "l2", "nobody"]), None),
    "an equal put": (lambda f: f.shard.put(NewSchedule("s", b"definition")), ("same", 1)),
    "a put that saw another revision": (lambda f: f.shard.put(NewSchedule("quiet", b"x", revision=7)), ("conflict", 1)),
    "a put while a moment is due": (_due_put, ("due", 1)),
    "a fire at another mark": (lambda f: _fire(f, mark=1), ["stale"]),
    "a fire of another revision": (lambda f: _fire(f, revision=2), ["stale"]),
    "a fire of what is paused": (lambda f: _fire(f, id="t"), ["stale"]),
    "a fire of what is gone": (lambda f: _fire(f, id="nobody"), ["stale"]),
    "steering what is not there": (lambda f: f.shard.steer("nobody", remove=True), False),
    "resuming what runs": (lambda f: f.shard.steer("s"), True),
    "a lock that another holds": (lambda f: f.store.lock("mine", "you", 1_000), None),
    "a try of who waits": (lambda f: f.store.lock("mine", "next", 1_000), None),
    "an unlock by another": (lambda f: f.store.unlock("mine", "you"), False),
}  # fmt: skip
NUMBERS = {"claims", "clients", "meta", "calls", "shards"}
"""Who called last, with which number, and when: the only thing that such a call leaves behind."""


async def test_a_call_that_finds_nothing_it_may_do_leaves_the_store_as_it_was(place: Place) -> None:
    for bad, (call, expected) in BAD.items():
        before = place.read()
        if expected is StoreError:
            with pytest.raises(StoreError):
                await call(place.f)
            assert place.read() == before, bad
            continue
        answer = await call(place.f)
        after = place.read()
        assert expected is None or answer == expected, bad
        for name in {*before, *after} - NUMBERS:
            if name != "wake":
                assert before.get(name) == after.get(name), f"{bad}: {name}"
        sizes = await place.f.shard.sizes()
        assert (sizes.pending, sizes.leased, sizes.dead, sizes.schedules) == (8, 6, 1, 3), bad


# --- full --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["redis", "valkey"])
async def test_a_full_server_does_a_call_or_refuses_it_whole(start_server: StartServer, kind: str) -> None:
    server = start_server(kind, "--maxmemory-policy", "noeviction")
    refused: set[str] = set()
    with server.client() as client:
        for verb, call in VERBS.items():
            client.config_set("maxmemory", 0)
            client.flushall()
            clock = ManualClock()
            store = RedisStore(server.url, namespace="x", limits=conformance.LIMITS, clock=clock)
            await store.connect()
            f = await Furnished(store, clock).furnish()
            before = of_redis(client)
            client.config_set("maxmemory", 1)
            try:
                await call(f)
            except StoreFull:
                refused.add(verb)
                client.config_set("maxmemory", 0)
                assert of_redis(client) == before, verb
            await store.close()
    assert refused >= {"enqueue", "put", "fire", "beat", "lock"}
    assert not refused & {
        *("claim", "claim again", "start", "renew", "settle", "cancel", "clear", "clear some"),
        *("lock again", "lock in line", "unlock"),
    }


# --- half-way ----------------------------------------------------------------------------------------------------------


class Breaking:
    """A connection whose k-th statement of a verb fails."""

    def __init__(self, db: sqlite3.Connection, k: int) -> None:
        self._db, self._left = db, k

    def execute(self, sql: str, *args: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            raise sqlite3.OperationalError("disk I/O error, on purpose")
        return self._db.execute(sql, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


@contextlib.contextmanager
def breaking_at(k: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    step = sqlite_room.Verbs._step

    def broken(self: Any, writes: bool, verb: Any, args: Any, db: Any) -> Any:
        return step(self, writes, verb, args, Breaking(db, k))  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_room.Verbs, "_step", broken)
        yield


@pytest.mark.parametrize(
    "verb", [verb for verb in VERBS if verb.partition(" ")[0] not in ("beat", "registry", "lock", "unlock")]
)
async def test_in_sqlite_a_verb_that_fails_at_any_statement_leaves_the_file_as_it_was(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, clock = tmp_path / "duly.db", ManualClock()
    store = SqliteStore(path, namespace="x", limits=conformance.LIMITS, clock=clock)
    await store.connect()
    f = await Furnished(store, clock).furnish()
    before = of_sqlite(path)
    for k in range(1, 1_000):
        f.client.n, f.node.claims, f.holder.claims = 4, 2, 1
        with breaking_at(k, monkeypatch):
            try:
                await VERBS[verb](f)
            except StoreError:
                assert of_sqlite(path) == before, f"statement {k}"
            else:
                break
    assert k > 1
    await store.close()
