"""The Redis store: one link to the server, a shard per queue, the registry of nodes, locks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from duly.clock import Clock
from duly.config import masked
from duly.core.measures import KEEP_MINUTES, Counts, check_minutes, few
from duly.core.shards import ALGORITHM, place_of
from duly.errors import StoreRefused
from duly.stores.base import Limits, Page, Registry
from duly.stores.capabilities import Finding
from duly.stores.redis import health, keys, locks, measures
from duly.stores.redis.care import RedisCare
from duly.stores.redis.jobs import RedisJobs
from duly.stores.redis.link import CALL_TIMEOUT
from duly.stores.redis.links import open_link
from duly.stores.redis.listener import Message
from duly.stores.redis.moves import RedisMoves
from duly.stores.redis.schedules import RedisSchedules
from duly.stores.redis.scripts import script

OLDEST = (6, 2)


class RedisShard(RedisJobs, RedisCare, RedisSchedules, RedisMoves):
    """One queue on Redis."""


class RedisStore:
    """A connection to Redis or Valkey; `clock` replaces the server's clock in tests."""

    servers = 1

    def __init__(
        self, url: str, namespace: str = "duly", limits: Limits | None = None, clock: Clock | None = None,
        timeout: float = CALL_TIMEOUT,
    ) -> None:  # fmt: skip
        self.url, self._timeout = masked(url), timeout
        self._given = (url, namespace, limits or Limits(), clock)
        self.namespace, self.limits, self.clock = namespace, limits or Limits(), clock
        self._link = open_link(url, timeout)
        self._shards: dict[str, RedisShard] = {}
        self._connected = False
        self._epoch = 0

    @property
    def epoch(self) -> int:
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch = epoch
        for shard in self._shards.values():
            shard.epoch = epoch

    async def connect(self) -> None:
        if self._connected:
            return
        version = await self._version()
        if version is not None and version < OLDEST:
            raise StoreRefused(
                f"{self.url} runs version {version[0]}.{version[1]}; the oldest supported is {OLDEST[0]}.{OLDEST[1]}"
            )
        await self._link.command(b"PING")  # INFO is answered also by a server that still loads its data
        self._connected = True

    async def _version(self) -> tuple[int, int] | None:
        """The server's; None if INFO is kept from us."""
        try:
            info = (await self._link.command(b"INFO", b"server")).decode(errors="replace")
        except StoreRefused as error:
            if "NOPERM" in str(error):
                return None
            raise
        found = re.search(r"^redis_version:(\d+)\.(\d+)", info, re.MULTILINE)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    async def close(self) -> None:
        self._connected = False
        await self._link.close()
        self._link = open_link(self._given[0], self._timeout)
        self._shards.clear()

    def sibling(self, timeout: float | None = None) -> RedisStore:
        return RedisStore(*self._given, self._timeout if timeout is None else min(timeout, CALL_TIMEOUT))

    def shard(self, name: str) -> RedisShard:
        shard = self._shards.get(name)
        if shard is None:
            place = place_of(name)
            shard_keys = keys.ShardKeys(self.namespace, place.queue, place.partition)
            shard = RedisShard(self._link, shard_keys, place.queue, self.limits, self.clock)
            shard.epoch, self._shards[name] = self._epoch, shard
        return shard

    async def shard_map(self, queue: str, partitions: int, servers: int = 0) -> bytes | None:
        args = (self._now(), queue, partitions, servers or self.servers, ALGORITHM)
        text: bytes = await self._link.call(script("map"), keys.shard_map(self.namespace), args)
        return text or None

    async def change_map(self, before: bytes | None, after: bytes) -> bool:
        args = (self._now(), before or b"", after)
        return bool(await self._link.call(script("remap"), keys.shard_map(self.namespace)[:1], args))

    def _now(self) -> int | bytes:
        return self.clock.epoch_us() if self.clock is not None else b""

    async def number(self, text: str) -> str:
        key = keys.number(self.namespace)
        await self._link.command(b"SET", key, text, b"NX")
        told: bytes | None = await self._link.command(b"GET", key)
        return told.decode() if told is not None else text

    async def registry(self) -> Registry:
        reply = await self._link.call(script("registry"), keys.registry(self.namespace), (self._now(),))
        now, flat, queues = reply
        ids = [id.decode() for id in flat[::3]]
        until = {id: int(moment) for id, moment in zip(ids, flat[2::3], strict=True)}
        nodes = dict(zip(ids, flat[1::3], strict=True))
        return Registry(int(now), nodes, sorted(queue.decode() for queue in queues), until)

    async def beat(self, node: str, record: bytes, ttl: int, queues: Sequence[str]) -> None:
        args = (self._now(), node, record, ttl, *queues)
        await self._link.call(script("beat"), keys.registry(self.namespace), args)

    async def lock(self, name: str, owner: str, ttl: int, *, places: int = 1, waiting: int = 0) -> int | None:
        args = (self._now(), owner, ttl, places, waiting)
        fence = await self._link.call(script("lock"), keys.lock(self.namespace, name), args)
        return int(fence) if fence else None

    async def unlock(self, name: str, owner: str) -> bool:
        args = (self._now(), owner)
        return bool(await self._link.call(script("unlock"), keys.lock(self.namespace, name), args))

    async def locks(self, cursor: str, limit: int) -> Page:
        return await locks.page(self._link, self.namespace, self._now(), cursor, limit)

    def called(self, name: str, owner: str) -> AbstractAsyncContextManager[Message]:
        return self._link.listening(keys.lock_call(self.namespace, name, owner))

    async def measure(self, minute: int, counts: Mapping[str, Counts], keep: int) -> None:
        await measures.write(self._link, self.namespace, minute, few(counts), keep)

    async def measured(self, first: int, last: int) -> Mapping[int, Mapping[str, Counts]]:
        check_minutes(first, last)
        return await measures.read(self._link, self.namespace, first, last)

    async def examine(self) -> list[Finding]:
        return await health.examine(self._link)

    async def forget(self) -> None:
        registry = await self.registry()
        for queue in registry.queues:
            await self._link.command(b"UNLINK", *keys.ShardKeys(self.namespace, queue).named(keys.SHARD))
        for key in (*keys.registry(self.namespace), keys.number(self.namespace)):
            await self._link.command(b"UNLINK", key)
        minute = registry.now // 60_000
        minutes = (keys.measures(self.namespace, minute - ago) for ago in range(-1, KEEP_MINUTES))
        await self._link.command(b"UNLINK", *minutes)
