"""Looking at and steering jobs on Redis; every call is one bounded script."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from duly.errors import StoreRefused
from duly.stores.base import JobRecord, Page, Sizes, check_size
from duly.stores.capabilities import Ahead
from duly.stores.redis.jobs import ShardCalls
from duly.stores.redis.packing import read_record

ROOMS = (
    "jobs", "pending:0", "pending:1", "pending:2", "pending:3", "leased", "dead", "running", "attempts", "control",
    "errors", "progress", "unique", "clients", "claims", "schedules", "ticks",
)  # fmt: skip
"""What `reconcile` walks through, in this order."""
KINDS = {"jobs": "orphans", "schedules": "silent", **dict.fromkeys(ROOMS[1:7], "ghosts")}
"""What a find in a room is called; elsewhere it is stale: companions of what is gone, records of who is gone."""
DEAF_POLL = 0.25
"""Seconds between two looks for a result by a user who may not listen."""
UNHEARD_MS = 86_400_000
"""Records of clients and nodes are dropped when nothing was heard of them for this long."""


class RedisCare(ShardCalls):
    """get, list, sizes, ahead, result, cancel, revive, clear, configure, reconcile, history."""

    async def get(self, ids: Sequence[str]) -> list[JobRecord | None]:
        check_size(ids)
        return [read_record(found) for found in await self.call("get", *ids)] if ids else []

    async def list(self, state: Literal["pending", "leased", "dead"], cursor: str, limit: int) -> Page:
        offset, found = await self.call("list", state, cursor or "0", limit)
        return Page([read_record(entry) for entry in found], str(offset) if offset >= 0 else "")

    async def sizes(self) -> Sizes:
        now, pending, leased, dead, schedules, paused, limit, moved_at, paused_at = await self.call("sizes")
        most = int(limit) if limit else None
        return Sizes(int(now), pending, leased, dead, schedules, paused == b"1", most, int(moved_at), int(paused_at))

    async def ahead(self, id: str) -> Ahead | None:
        count: int = await self.call("ahead", id)
        return None if count < 0 else Ahead(count)

    async def result(self, id: str, seconds: float = 0.0) -> bytes | None:
        key = self.keys.result(id)
        found: bytes | None
        if seconds <= 0:
            found = await self.link.command(b"GET", key)
            return found
        try:
            async with self.link.listening(
                key
            ) as message:  # `settle` says on the channel of that name that it is there
                found = await self.link.command(b"GET", key)
                if found is None:
                    await asyncio.wait([message], timeout=seconds)
        except StoreRefused:  # a user without rights on channels looks from time to time
            await asyncio.sleep(min(seconds, DEAF_POLL))
            found = None
        return await self.link.command(b"GET", key) if found is None else found

    async def cancel(self, ids: Sequence[str]) -> Sequence[str]:
        check_size(ids)
        return [word.decode() for word in await self.call("cancel", self.limits.remember_ms, *ids)] if ids else []

    async def revive(self, ids: Sequence[str], *, waiting: bool = False) -> Sequence[bool]:
        check_size(ids)
        results = [self.keys.result(id) for id in ids]
        answers = await self.call("revive", int(waiting), *ids, more_keys=results) if ids else []
        return [answer == 1 for answer in answers]

    async def clear(
        self, cursor: str, until: int | None, limit: int, ids: Sequence[str] | None = None, *, dead_only: bool = False
    ) -> tuple[int, str, int]:
        if ids is not None and not ids:
            return 0, "", (await self.sizes()).now if until is None else until
        check_size(ids or ())
        stop = "" if until is None else until
        removed, following, until_ms = await self.call(
            "clear", cursor or "0", stop, limit, int(dead_only), *(ids or ())
        )
        return removed, "" if following == b"0" else following.decode(), int(until_ms)

    async def configure(self, *, paused: bool | None = None, limit: int | None = None) -> None:
        if paused is not None or limit is not None:
            await self.call("configure", "" if paused is None else int(paused), "" if limit is None else limit)

    async def reconcile(self, cursor: str, limit: int, *, repair: bool = True) -> tuple[str, dict[str, int]]:
        room, _, position = cursor.rpartition(" ") if cursor else (ROOMS[0], "", "0")
        following, found = await self.call("reconcile", room, position, limit, UNHEARD_MS, int(repair))
        findings = {KINDS.get(room, "stale"): found} if found else {}
        if following != b"0":
            return f"{room} {following.decode()}", findings
        rest = ROOMS[ROOMS.index(room) + 1 :]
        return (f"{rest[0]} 0" if rest else ""), findings

    async def history(self, stream: Literal["history", "ticks"], after: str, limit: int) -> Page:
        key = self.keys.key("history" if stream == "history" else "ticklog")
        entries = await self.link.command(b"XRANGE", key, f"({after}" if after else "-", b"+", b"COUNT", limit)
        items = [
            (id.decode(), {fields[i].decode(): fields[i + 1].decode() for i in range(0, len(fields), 2)})
            for id, fields in entries
        ]
        return Page(items, items[-1][0] if items else after)
