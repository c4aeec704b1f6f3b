"""How long each verb blocks Redis beside a million jobs: what the server itself says in its SLOWLOG, verb by verb.

    python benchmarks/million.py [--url redis://…] [--jobs 1000000] [--schedules 100000] [--rounds 20] [--json]

A million jobs are pending, a part is leased, dead, remembered, held by unique keys; then every verb is called with the
largest batches that nodes send. DESIGN promises less than 10 ms for each. On a machine that is busy with other things
read the last column: what the server computed in a call, not how long that took. Without --url a redis-server of its
own is started on a free port and stopped again. Ends with 1 if a verb took longer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import redis

from benchmarks.throughput import own_server
from duly.core.job import Hold, NewJob
from duly.core.lifecycle import END, Change
from duly.runtime.worker import MAX_CLAIM
from duly.stores.base import MAX_BATCH, Batch, Firing, NewSchedule, Renewal, Settlement
from duly.stores.redis.scripts import names, script
from duly.stores.redis.store import RedisShard, RedisStore

PROMISED_MS = 10.0
BODY = b"\x01\x00" + b"x" * 120
LEASE = 3_600_000
DEAD = Change("dead", 0, 4, 0, 0, "failed: ValueError", "ValueError: no", "Traceback")
AGAIN = Change("again", 5_000, 1, 0, 0, "failed: ValueError", "ValueError: no", "Traceback")


class Million:
    """The shard, and callers that keep their numbers."""

    def __init__(self, shard: RedisShard, jobs: int, schedules: int) -> None:
        self.shard, self.jobs, self.schedules = shard, jobs, schedules
        self.pushes = self.claims = self.settles = self.made = 0
        self.held: list[tuple[str, int]] = []

    async def push(self, count: int = MAX_BATCH, **options: Any) -> None:
        self.pushes += 1
        ids = [f"job{self.made + n}" for n in range(count)]
        self.made += count
        await self.shard.enqueue("client", self.pushes, [NewJob(id, BODY, **options) for id in ids])

    async def push_special(self) -> None:
        """Ids of users, unique keys, several priorities: each job is looked at by itself."""
        self.pushes += 1
        self.made += MAX_BATCH
        await self.shard.enqueue("client", self.pushes, [
            NewJob(f"user{self.made - n}", BODY, delay=n, priority=n % 4, named=True,
                   unique=Hold(f"key{self.made - n}", "end", 0))
            for n in range(MAX_BATCH)
        ])  # fmt: skip

    async def claim(self, limit: int = MAX_CLAIM) -> Batch:
        self.claims += 1
        batch = await self.shard.claim("node", self.claims, limit, LEASE, LEASE)
        self.held += [(job.id, batch.fence) for job in batch.jobs]
        return batch

    async def settle(self, change: Change = END, count: int = MAX_BATCH, **more: Any) -> None:
        while len(self.held) < count:
            await self.claim()
        self.settles += 1
        part, self.held = self.held[:count], self.held[count:]
        await self.shard.settle("node", self.settles, [Settlement(id, fence, change, **more) for id, fence in part])

    async def fill(self) -> None:
        for _ in range(self.jobs // MAX_BATCH // 2):
            await self.push()
            await self.push(delay=86_400_000)
        for _ in range(20):
            await self.push_special()
            await self.settle(DEAD)
            await self.settle(named=True)
        for _ in range(50):
            await self.claim()
        for start in range(0, self.schedules, 500):
            await asyncio.gather(*(self.shard.put(NewSchedule(f"s{start + n}", b"d" * 100)) for n in range(500)))

    async def fire(self) -> None:
        due = await self.shard.due(100)
        await self.shard.fire("node", [
            Firing(s.id, s.revision, s.mark, due.now, due.now + 1, due.now + 60_000,
                   (NewJob(f"{s.id}@{due.now}", BODY),), (due.now,), counted=True)
            for s in due.schedules
        ])  # fmt: skip

    def verbs(self) -> dict[str, Callable[[], Awaitable[object]]]:
        shard = self.shard
        held = lambda: (self.held * 2)[:MAX_BATCH]  # noqa: E731
        pending = lambda: [f"job{self.made - 1 - n}" for n in range(MAX_BATCH)]  # noqa: E731
        return {
            f"enqueue {MAX_BATCH:,}": self.push,
            f"enqueue {MAX_BATCH:,} with keys": self.push_special,
            "claim 100": lambda: self.claim(100),
            f"claim {MAX_CLAIM:,}": self.claim,
            f"start {MAX_BATCH:,}": lambda: shard.start(held()),
            f"renew {MAX_BATCH:,}": lambda: shard.renew([Renewal(id, fence, LEASE) for id, fence in held()]),
            f"settle {MAX_BATCH:,}": self.settle,
            "settle 100 with results": lambda: self.settle(count=100, named=True, result=b"x" * 100, result_ms=60_000),
            "settle 100, tried again": lambda: self.settle(AGAIN, 100),
            "settle 100, dead": lambda: self.settle(DEAD, 100),
            "get 100": lambda: shard.get(pending()[:100]),
            "list 100": lambda: shard.list("pending", "", 100),
            "list 100, far behind": lambda: shard.list("pending", str(self.jobs // 2), 100),
            "sizes": shard.sizes,
            "cancel 100": lambda: shard.cancel(pending()[:100]),
            "revive 100": lambda: shard.revive(pending()[:100]),
            "clear, a step of 500": lambda: shard.clear("", 1, 500),
            "configure": lambda: shard.configure(limit=0),
            "reconcile, a step of 200": lambda: shard.reconcile("", 200),
            "put": lambda: shard.put(NewSchedule("s1", b"d" * 99 + str(self.claims).encode())),
            "schedules 100": lambda: shard.schedules(None, "", 100),
            "due 100 and fire": self.fire,
            "steer": lambda: shard.steer("s2", paused="note"),
            "history": lambda: shard.history("history", "", 100),
        }


def cpu_ms(client: redis.Redis) -> float:
    """What the server's main thread has computed so far."""
    info = client.info("cpu")
    return 1_000 * sum(float(info[f"used_cpu_{kind}_main_thread"]) for kind in ("user", "sys"))


async def measure(url: str, args: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    store = RedisStore(url, namespace="million")
    await store.connect()
    client = redis.Redis.from_url(url, protocol=2)
    digests = {script(name).digest: name for name in names()}
    found: dict[str, list[tuple[float, float]]] = {}
    million = Million(store.shard("default"), args.jobs, args.schedules)
    client.config_set("slowlog-max-len", 1_000)
    client.config_set("slowlog-log-slower-than", 0)
    await million.fill()
    for verb, call in million.verbs().items():
        for _ in range(args.rounds):
            while len(million.held) < 2 * MAX_BATCH:
                await million.claim()
            client.slowlog_reset()
            before = cpu_ms(client)
            await call()
            computed = cpu_ms(client) - before
            slowest = 0
            for entry in client.slowlog_get(1_000):
                words = entry["command"].split(b" ")
                if (words[0] == b"EVALSHA" and words[1].decode() in digests) or words[0] in (b"XRANGE", b"EVAL"):
                    slowest = max(slowest, entry["duration"])
            found.setdefault(verb, []).append((slowest / 1_000, computed))
    found["(memory in MB)"] = [(client.info("memory")["used_memory"] / 1e6, 0.0)]
    client.close()
    await store.close()
    return found


def judged(times: list[tuple[float, float]]) -> tuple[float, float, float]:
    """(median, worst) of the slowest script of a call, and the median of what the call computed."""
    slowest = [slow for slow, _ in times]
    return statistics.median(slowest), max(slowest), statistics.median(computed for _, computed in times)


def main() -> int:
    parser = argparse.ArgumentParser(description="How long each verb blocks Redis beside a million jobs.")
    parser.add_argument("--url")
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--schedules", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with ExitStack() as stack:
        found = asyncio.run(measure(args.url or stack.enter_context(own_server()), args))
    memory = found.pop("(memory in MB)")[0][0]
    figures = {verb: judged(times) for verb, times in found.items()}
    slow = [verb for verb, (_, worst, _) in figures.items() if worst > PROMISED_MS]
    if args.json:
        print(json.dumps({"jobs": args.jobs, "memory_mb": memory, "ms": figures, "slow": slow}))
    else:
        print(
            f"{args.jobs:,} jobs, {args.schedules:,} schedules, {memory:,.0f} MB; the slowest script of a call, in ms"
        )
        print(f"{'verb':<28}{'median':>9}{'worst':>9}{'cpu':>9}")
        for verb, (median, worst, cpu) in figures.items():
            over = "  over the promise" if worst > PROMISED_MS else ""
            print(f"{verb:<28}{median:>9.2f}{worst:>9.2f}{cpu:>9.2f}{over}")
    return bool(slow)


if __name__ == "__main__":
    sys.exit(main())
