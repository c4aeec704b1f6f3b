"""A shard that has something of everything, and calls of every verb that find something to do there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import redis

from duly.core.job import Hold
from duly.core.lifecycle import Change
from duly.stores.base import Firing, NewSchedule, Renewal, Shard, Store
from duly.testing import ManualClock
from duly.testing.conformance.kit import AGAIN, DEAD, Client, Node, job, now_ms, settlement

LEASE = 10_000
NODE, OTHER = "node", "other"


class Furnished:
    """What was put into a shard, so that calls can name it."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store, self.shard, self.clock = store, store.shard("default"), clock
        self.fence = 0
        self.client = Client(self.shard, "client")
        self.node = Node(self.shard, NODE, LEASE)

    async def furnish(self) -> Furnished:
        """Pending, leased, started, cancelled, failed, dead and remembered jobs; unique keys; schedules with living runs."""
        shard, client, node, clock = self.shard, self.client, self.node, self.clock
        other = Node(shard, OTHER, LEASE)
        await client.push(job("dead"), job("again"), job("ended", named=True), job("result"))
        first = await node.claim()
        dead, again, ended, result = sorted(
            first.jobs, key=lambda one: ["dead", "again", "ended", "result"].index(one.id)
        )
        await node.settle(
            settlement(dead, first.fence, DEAD),
            settlement(again, first.fence, Change("again", 60_000, 1, 1, 0, "it raised", "ValueError", "Traceback")),
            settlement(ended, first.fence),
            settlement(result, first.fence, result=b"\x01result", result_ms=60_000),
        )
        await client.push(job("lost"))
        await other.claim()
        for _ in range(5):  # the lease of `lost` ends, and this is no gap
            clock.advance(3)
            await other_claim(shard, clock)
        await client.push(*(job(id) for id in ("l1", "l2", "l3", "l4")), job("l5", unique=Hold("held", "end", 0)))
        shard_node = Node(shard, "holder", LEASE)
        taken = await shard.claim(NODE, 2, 0, LEASE, LEASE)
        assert taken.jobs == []
        node.claims = 2
        batch = await shard_node.claim(6)
        self.fence, self.holder = batch.fence, shard_node
        assert {one.id for one in batch.jobs} == {"lost", "l1", "l2", "l3", "l4", "l5"}
        self.batch = {one.id: one for one in batch.jobs}
        await shard.start([("l1", self.fence)])
        await shard.cancel(["l2"])
        await shard.renew([Renewal("l3", self.fence, LEASE, b"progress")])
        await client.push(*(job(f"p{priority}", priority=priority) for priority in range(4)),
                          job("unique", named=True, unique=Hold("key", "end", 0)),
                          job("later", delay=30_000, unique=Hold("timed", "time", 40_000)))  # fmt: skip
        await self._schedules()
        await shard.configure(limit=50)
        await self.store.beat(NODE, b"record", 60_000, ["default", "mail"])
        await self.store.lock("mine", "me", 60_000)
        await self.store.lock("mine", "next", 60_000, waiting=60_000)
        for _ in range(3):
            clock.advance(4)  # the leases end, and this is no gap
            await other_claim(shard, clock)
        await shard.wait(0)
        return self

    async def _schedules(self) -> None:
        shard, now = self.shard, now_ms(self.clock)
        for id in ("s", "t", "quiet"):
            await shard.put(NewSchedule(id, b"definition", now - 5_000))
        (s, t, quiet) = (await shard.schedules(["s", "t", "quiet"], "", 3)).items
        tick = job(f"s@{now}")
        await shard.fire("n", [
            Firing("s", s.revision, s.mark, now, now + 1, now + 1, (tick,), (now,), {"late": 2}, True),
            Firing("t", t.revision, t.mark, now, now + 1, now + 1),
            Firing("quiet", quiet.revision, quiet.mark, now, now + 600_000, now + 600_000),
        ])  # fmt: skip
        await shard.steer("t", paused="why")
        (self.schedule,) = (await shard.schedules(["s"], "", 1)).items
        self.clock.advance(1)


async def other_claim(shard: Shard, clock: ManualClock) -> None:
    await Node(shard, f"watcher {clock.epoch_us()}", LEASE).claim(0)


Made = Callable[[Furnished], Awaitable[Any]]


async def _settle(f: Furnished) -> Any:
    named = job("child of l1", named=True, unique=Hold("child", "end", 0))
    return await f.holder.settle(
        settlement(f.batch["l1"], f.fence, result=b"\x01x", result_ms=1_000, children=(named, job("child 2"))),
        settlement(f.batch["l2"], f.fence, DEAD),
        settlement(f.batch["l3"], f.fence, AGAIN),
        settlement(f.batch["l4"], f.fence),
        settlement(f.batch["l5"], f.fence, schedule="s"),
    )


async def _fire(f: Furnished) -> Any:
    s = f.schedule
    now = now_ms(f.clock)
    return await f.shard.fire(
        "n",
        [Firing("s", s.revision, s.mark, now, now + 1, now + 1, (job("tick", named=True),), (now,), {"late": 1}, True)],
    )


async def _replay(f: Furnished) -> Any:
    return await f.holder.repeat_claim(6)


async def _enqueue(f: Furnished) -> Any:
    return await f.client.push(
        job("new"), job("unique", named=True, replace=True, unique=Hold("key 2", "end", 0), delay=5), job("new 2", named=True),
        job("new 3", unique=Hold("key 3", "start", 0)), job("l1"), job("dead"), job("new 4"),
    )  # fmt: skip


async def _put(f: Furnished) -> Any:
    await f.shard.put(NewSchedule("new", b"definition"))
    return await f.shard.put(NewSchedule("quiet", b"another definition"))


VERBS: dict[str, Made] = {
    "enqueue": _enqueue,
    "claim": lambda f: f.node.claim(100),
    "claim again": _replay,
    "start": lambda f: f.shard.start([("l1", f.fence), ("l4", f.fence), ("p1", 1)]),
    "renew": lambda f: f.shard.renew([Renewal(id, f.fence, LEASE, b"more") for id in ("l1", "l2", "l3", "p1")]),
    "settle": _settle,
    "get": lambda f: f.shard.get(["l1", "p1", "dead", "ended", "nobody"]),
    "list pending": lambda f: f.shard.list("pending", "", 100),
    "list leased": lambda f: f.shard.list("leased", "", 100),
    "list dead": lambda f: f.shard.list("dead", "", 100),
    "sizes": lambda f: f.shard.sizes(),
    "result": lambda f: f.shard.result("result"),
    "cancel": lambda f: f.shard.cancel(["p0", "l1", "dead", "ended", "unique", "again", "nobody"]),
    "revive": lambda f: f.shard.revive(["dead", "p1", "nobody"]),
    "clear": lambda f: f.shard.clear("", None, 100),
    "clear some": lambda f: f.shard.clear("", None, 100, ["unique", "dead", "l1", "p2"]),
    "configure": lambda f: f.shard.configure(paused=True, limit=3),
    "history": lambda f: f.shard.history("history", "", 10),
    "put": _put,
    "schedules": lambda f: f.shard.schedules(None, "", 10),
    "due": lambda f: f.shard.due(10),
    "fire": _fire,
    "steer: pause": lambda f: f.shard.steer("s", paused="note"),
    "steer: resume": lambda f: f.shard.steer("t"),
    "steer: remove": lambda f: f.shard.steer("s", remove=True),
    "beat": lambda f: f.store.beat("node 2", b"record", 60_000, ["third"]),
    "registry": lambda f: f.store.registry(),
    "lock": lambda f: f.store.lock("free", "me", 60_000),
    "lock again": lambda f: f.store.lock("mine", "me", 60_000),
    "lock in line": lambda f: f.store.lock("mine", "next", 60_000, waiting=60_000),
    "unlock": lambda f: f.store.unlock("mine", "me"),
}
"""Each verb, called so that it has something to do."""


Contents = dict[str, Any]


def of_redis(client: redis.Redis) -> Contents:
    """Every key of the database, with all that it holds."""
    found: Contents = {}
    for key in sorted(client.keys()):
        kind = client.type(key)
        read: dict[bytes, Callable[[], Any]] = {
            b"hash": lambda key=key: client.hgetall(key),
            b"zset": lambda key=key: client.zrange(key, 0, -1, withscores=True),
            b"list": lambda key=key: client.lrange(key, 0, -1),
            b"set": lambda key=key: sorted(client.smembers(key)),
            b"stream": lambda key=key: client.xrange(key),
            b"string": lambda key=key: client.get(key),
        }
        found[key.decode().rpartition("}:")[2]] = (kind, read[kind]())
    return found


async def reconcile_all(shard: Shard, step: int = 100, *, repair: bool = True) -> dict[str, int]:
    """One walk to its end; what was found."""
    cursor, found = await shard.reconcile("", step, repair=repair)
    while cursor:
        cursor, more = await shard.reconcile(cursor, step, repair=repair)
        found = {name: found.get(name, 0) + more.get(name, 0) for name in {*found, *more}}
    return found
