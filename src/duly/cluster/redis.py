"""Members that meet on a Redis or Valkey server, behind Sentinel, or on a cluster."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from duly.cluster.members import CLAIM_KEPT_MS, MEMBERS_TIMEOUT, Claim, Member, Members, Present, by_id, pack, unpack
from duly.core.job import duration, text
from duly.errors import StoreError
from duly.stores.redis.keys import PoolKeys
from duly.stores.redis.links import open_link
from duly.stores.redis.scripts import script

SCAN_COUNT = 1_000
NOBODY, ONLY_LOOK = Member(""), -1
LOOKS = "*?[]\\"
"""What means something in a pattern."""


class _RedisMembers:
    """What both drivers share: the connection, the list, the ticks. timeout: seconds; pool: its name; namespace: as of a
    Scheduler. Raises InvalidURL, InvalidOption."""

    def __init__(
        self, url: str = "redis://127.0.0.1:6379/0", *, pool: str = "default", namespace: str = "duly",
        timeout: float = MEMBERS_TIMEOUT,
    ) -> None:  # fmt: skip
        self.timeout = duration("timeout", timeout, least=0.1)
        self._url, self._keys = url, PoolKeys(text("namespace", namespace), text("pool", pool))
        self._link = open_link(url, self.timeout)  # a call that takes longer is of no use
        self._present = Present()
        self._member: Member | None = None

    async def start(self, member: Member) -> None:
        self._member = member
        await self.beat()

    async def stop(self) -> None:
        member, self._member = self._member, None
        if member is not None:
            with contextlib.suppress(StoreError):  # the time-out does it
                await self._say(member, 0)
        await self._link.close()
        self._link = open_link(self._url, self.timeout)

    async def beat(self) -> bool:
        was_known, members = await self._say(self._me, int(self.timeout * 1000))
        self._present.tell(members)
        return was_known

    async def look(self) -> Members:
        _, members = await self._say(NOBODY, ONLY_LOOK)
        return by_id(members)

    async def _say(self, member: Member, ttl: int) -> tuple[bool, list[Member]]:
        """Whether the member was known before, and who is there now. ttl: in ms; 0: it leaves; or ONLY_LOOK."""
        raise NotImplementedError

    @property
    def _me(self) -> Member:
        assert self._member is not None, "start it first"
        return self._member

    def members(self) -> AsyncIterator[Members]:
        return self._present.read()

    async def claim(self, ticks: Sequence[tuple[str, int]], member: str = "") -> list[Claim | None]:
        keys = [self._keys.marks, *(self._keys.tick(name, moment) for name, moment in ticks)]
        words = itertools.chain.from_iterable(ticks)
        answers = await self._call("tick", keys, member or self._me.id, CLAIM_KEPT_MS, *words)
        return [None if before is None else Claim(int(before) if before else None) for before in answers]

    async def marks(self, names: Sequence[str]) -> dict[str, int]:
        if not names:
            return {}
        found = await self._link.command(b"HMGET", self._keys.marks, *names)
        return {name: int(mark) for name, mark in zip(names, found, strict=True) if mark is not None}

    async def now(self) -> int:
        seconds, micros = await self._link.command(b"TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def _call(self, name: str, keys: Sequence[str], *args: Any) -> Any:
        return await self._link.call(script(name), keys, (b"", *args))


class RedisDriver(_RedisMembers):
    """`Driver` on Redis: each member has a key that ends by itself, and they are found by SCAN: for servers that have
    little else to do. On one with millions of keys use RedisZsetDriver."""

    async def _say(self, member: Member, ttl: int) -> tuple[bool, list[Member]]:
        pattern = re.sub(f"([{re.escape(LOOKS)}])", r"\\\1", self._keys.member("")) + "*"
        keys, record = (self._keys.member(member.id),), pack(member)
        cursor, was_known, found = await self._call("member", keys, record, ttl, 0, pattern, SCAN_COUNT)
        records = set(found)
        while cursor != b"0":
            cursor, _, found = await self._call("member", keys, record, ONLY_LOOK, cursor, pattern, SCAN_COUNT)
            records.update(found)
        return bool(was_known), [unpack(record) for record in records if record is not None]


class RedisZsetDriver(_RedisMembers):
    """`Driver` on Redis: the members are a sorted set by the moment, of the server's clock, until which they live."""

    async def _say(self, member: Member, ttl: int) -> tuple[bool, list[Member]]:
        was_known, records = await self._call("members", self._keys.members, member.id, pack(member), ttl)
        return bool(was_known), [unpack(record) for record in records]
