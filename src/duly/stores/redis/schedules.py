"""Recurring work on Redis: schedules kept, looked at, fired."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from duly.stores.base import Due, Fired, Firing, NewSchedule, Page, check_firings, check_size
from duly.stores.redis.jobs import ShardCalls
from duly.stores.redis.packing import NONE, item, read_schedule

_encode = msgspec.msgpack.Encoder().encode


class RedisSchedules(ShardCalls):
    """put, schedules, due, fire, steer."""

    async def put(self, schedule: NewSchedule) -> tuple[str, int]:
        what, revision = await self.call(
            "put",
            schedule.id,
            schedule.definition,
            "" if schedule.mark is None else schedule.mark,
            schedule.app,
            int(schedule.buffer),
            "" if schedule.revision is None else schedule.revision,
            self.limits.history,
            self.epoch,
        )
        return what.decode(), int(revision)

    async def schedules(self, ids: Sequence[str] | None, cursor: str, limit: int) -> Page:
        if ids is not None and not ids:  # the script takes no ids for all
            return Page([])
        check_size(ids or ())
        following, flat = await self.call("schedules", cursor or "0", limit, *(ids or ()))
        pairs = zip(flat[::2], flat[1::2], strict=True)
        records = [read_schedule(id, value) if value != 0 else None for id, value in pairs]
        return Page(records, "" if following == b"0" else following.decode())

    async def due(self, limit: int, until: int | None = None) -> Due:
        now, flat = await self.call("due", limit, until or 0, at_once=True)
        return Due(int(now), [read_schedule(id, value) for id, value in zip(flat[::2], flat[1::2], strict=True)])

    async def fire(self, node: str, firings: Sequence[Firing]) -> list[Fired]:
        check_firings(firings)
        packed = []
        for f in firings:
            skipped: list[str | int] = []
            for why, count in f.skipped.items():
                skipped += (why, count)
            packed.append(
                _encode((
                    f.id, f.revision, f.mark, f.new_mark, NONE if f.next is None else f.next,
                    NONE if f.look is None else f.look, f.counted, [item(job) for job in f.jobs], f.nominals, skipped,
                    f.late, f.pause or "", f.waits, f.lease,
                ))
            )  # fmt: skip
        words = await self.call_replicated("fire", node, self.limits.history, *packed)
        return [int(word) if word.isdigit() else word.decode() for word in words]

    async def steer(self, id: str, *, remove: bool = False, paused: str | None = None) -> bool:
        what = "remove" if remove else "resume" if paused is None else "pause"
        return bool(await self.call("steer", id, what, paused or "", self.limits.history))
