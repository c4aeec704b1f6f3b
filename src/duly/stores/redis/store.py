"""The Redis store: one link to the server, a shard per queue, the registry of nodes, locks."""

from __future__ import annotations

import re
from collections.abc import Sequence

from duly.clock import Clock
from duly.errors import StoreRefused
from duly.stores.base import Finding, Limits, Registry
from duly.stores.redis import health, keys
from duly.stores.redis.care import RedisCare
from duly.stores.redis.jobs import RedisJobs
from duly.stores.redis.link import CALL_TIMEOUT, Link
from duly.stores.redis.schedules import RedisSchedules
from duly.stores.redis.scripts import script
from duly.stores.redis.topology import SingleServer

OLDEST = (6, 2)


class RedisShard(RedisJobs, RedisCare, RedisSchedules):
    """One queue on Redis."""


class RedisStore:
    """A connection to Redis or Valkey; `clock` replaces the server's clock in tests."""

    def __init__(
        self, url: str, namespace: str = "duly", limits: Limits | None = None, clock: Clock | None = None,
        timeout: float = CALL_TIMEOUT,
    ) -> None:  # fmt: skip
        self._server, self._timeout = SingleServer(url), timeout
        self.url = self._server.url
        self._given = (url, namespace, limits or Limits(), clock)
        self.namespace, self.limits, self.clock = namespace, limits or Limits(), clock
        self._link = Link(self._server, timeout)
        self._shards: dict[str, RedisShard] = {}
        self._connected = False

    async def connect(self) -> None:
        if self._connected:
            return
        info = (await self._link.command(b"INFO", b"server")).decode(errors="replace")
        found = re.search(r"^redis_version:(\d+)\.(\d+)", info, re.MULTILINE)
        version = (int(found[1]), int(found[2])) if found else (0, 0)
        if version < OLDEST:
            raise StoreRefused(
                f"{self.url} runs version {version[0]}.{version[1]}; the oldest supported is {OLDEST[0]}.{OLDEST[1]}"
            )
        await self._link.command(b"PING")  # INFO is answered also by a server that still loads its data
        self._connected = True

    async def close(self) -> None:
        self._connected = False
        await self._link.close()
        self._link = Link(self._server, self._timeout)
        self._shards.clear()

    def sibling(self, timeout: float | None = None) -> RedisStore:
        return RedisStore(*self._given, self._timeout if timeout is None else min(timeout, CALL_TIMEOUT))

    def shard(self, queue: str) -> RedisShard:
        shard = self._shards.get(queue)
        if shard is None:
            shard_keys = keys.ShardKeys(self.namespace, queue)
            shard = self._shards[queue] = RedisShard(self._link, shard_keys, queue, self.limits, self.clock)
        return shard

    def _now(self) -> int | bytes:
        return self.clock.epoch_us() if self.clock is not None else b""

    async def registry(self) -> Registry:
        reply = await self._link.call(script("registry"), keys.registry(self.namespace), (self._now(),))
        now, flat, queues = reply
        nodes = {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}
        return Registry(int(now), nodes, sorted(queue.decode() for queue in queues))

    async def beat(self, node: str, record: bytes, ttl: int, queues: Sequence[str]) -> None:
        args = (self._now(), node, record, ttl, *queues)
        await self._link.call(script("beat"), keys.registry(self.namespace), args)

    async def lock(self, name: str, owner: str, ttl: int) -> int | None:
        args = (self._now(), owner, ttl)
        fence = await self._link.call(script("lock"), (keys.lock(self.namespace, name),), args)
        return int(fence) if fence else None

    async def unlock(self, name: str, owner: str) -> bool:
        args = (self._now(), owner)
        return bool(await self._link.call(script("unlock"), (keys.lock(self.namespace, name),), args))

    async def examine(self) -> list[Finding]:
        return await health.examine(self._link)

    async def forget(self) -> None:
        for queue in (await self.registry()).queues:
            await self._link.command(b"UNLINK", *keys.ShardKeys(self.namespace, queue).named(keys.SHARD))
        for key in keys.registry(self.namespace):
            await self._link.command(b"UNLINK", key)
