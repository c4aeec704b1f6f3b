"""Moving jobs and schedules from one shard on Redis to another: out, in, and gone, each step one script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from duly.stores.base import Page, check_size
from duly.stores.capabilities import Departure
from duly.stores.redis.jobs import ShardCalls

MOST_BYTES = 2_000_000
"""Of one batch, about."""


class RedisMoves(ShardCalls):
    """kept, holder, lasts, remapped, depart, arrive, departed."""

    async def kept(self, what: Literal["jobs", "schedules"], cursor: str, limit: int) -> Page:
        following, flat = await self.call("kept", what, cursor or "0", limit)
        found = [(flat[i].decode(), flat[i + 1].decode()) for i in range(0, len(flat), 2)]
        return Page(found, "" if following == b"0" else following.decode())

    async def holder(self, key: str) -> tuple[str, str] | None:
        found = await self.call("holder", key)
        return (found[1].decode(), found[0].decode()) if found else None

    async def lasts(self) -> int:
        found: int = await self.call("lasts")
        return found

    async def remapped(self, epoch: int) -> None:
        await self.call("remapped", epoch)

    async def depart(
        self, target: str, name: str, ids: Sequence[str] = (), schedules: Sequence[str] = ()
    ) -> Departure | None:
        check_size([*ids, *schedules])
        found = await self.call("depart", target, name, MOST_BYTES, len(schedules), *schedules, *ids)
        if not found:
            return None
        kept, n, to, jobs, departing = found
        taken = frozenset(entry[0].decode() for entry in (*jobs, *departing))
        return Departure(kept.decode(), int(n), to.decode(), taken, (jobs, departing))

    async def arrive(self, departure: Departure) -> int:
        jobs, schedules = departure.load
        args: list[Any] = [departure.name, departure.n, len(schedules)]
        for entry in (*schedules, *jobs):
            args.extend(entry)
        written: int = await self.call_replicated("arrive", *args)  # the source removes what has arrived
        return written

    async def departed(self, n: int, cancelled: Sequence[str] = ()) -> list[str]:
        return [id.decode() for id in await self.call("departed", n, *cancelled)]
