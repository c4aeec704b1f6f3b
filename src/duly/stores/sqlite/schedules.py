"""Recurring work of a shard in SQLite: the store compares and writes, `core.schedule` decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from duly.core.lifecycle import Change
from duly.stores.base import Due, Fired, Firing, NewSchedule, Page, ScheduleRecord, check_firings, check_size
from duly.stores.editing import HIDDEN_MS, compared, created, fired, is_as_read, look_until, resumed, run_ended, updated
from duly.stores.sqlite.claim import lease_new
from duly.stores.sqlite.keep import keep
from duly.stores.sqlite.room import IN, Room, Verbs, listed, pack, unpack

COLUMNS = (
    "id, definition, revision, mark, anchor, next, app, buffer, paused, live, fired, skipped, last, late, ended, outcome, "
    "failures"
)
SAVE = f"INSERT OR REPLACE INTO schedules (shard, {COLUMNS}, look) VALUES ({', '.join('?' * 19)})"


class ScheduleVerbs(Verbs):
    """`base.Schedules` in SQLite."""

    async def put(self, schedule: NewSchedule) -> tuple[str, int]:
        return await self._write(_put, schedule)

    async def schedules(self, ids: Sequence[str] | None, cursor: str, limit: int) -> Page:
        if ids is not None:
            check_size(ids)
        return await self._read(_schedules, ids, cursor, limit)

    async def due(self, limit: int, until: int | None = None) -> Due:
        return await self._write(_due, limit, until)

    async def fire(self, node: str, firings: Sequence[Firing]) -> list[Fired]:
        check_firings(firings)
        return await self._write(_fire, node, firings)

    async def steer(self, id: str, *, remove: bool = False, paused: str | None = None) -> bool:
        return await self._write(_steer, id, remove, paused)


def _read(row: Any) -> tuple[ScheduleRecord, int | None]:
    """(the record, its next look)."""
    id, definition, revision, mark, anchor, following, app, buffer, paused, live, fired, skipped, *rest, look = row
    record = ScheduleRecord(
        id, definition, revision, mark, anchor, following, app, buffer == 1, paused, tuple(unpack(live)), fired,
        unpack(skipped), *rest,
    )  # fmt: skip
    return record, look


def end_of_run(room: Room, schedule: str, job: str, change: Change) -> None:
    """The end of a run is noted with its schedule, and one that waited for it is looked at again."""
    record, look = _load(room, schedule)
    if record is None:
        return
    if record.buffer and record.paused is None:
        look = room.now
        room.leave_token()
    _save(room, run_ended(record, job, change, room.now), look)


def _load(room: Room, id: str) -> tuple[ScheduleRecord | None, int | None]:
    row = room.one(f"SELECT {COLUMNS}, look FROM schedules WHERE shard = ? AND id = ?", room.shard, id)
    return _read(row) if row else (None, None)


def _save(room: Room, r: ScheduleRecord, look: int | None) -> None:
    room.do(
        SAVE, room.shard, r.id, r.definition, r.revision, r.mark, r.anchor, r.next, r.app, int(r.buffer), r.paused,
        pack(r.live), r.fired, pack(dict(r.skipped)), r.last, r.late, r.ended, r.outcome, r.failures, look,
    )  # fmt: skip


def _put(room: Room, new: NewSchedule) -> tuple[str, int]:
    old, look = _load(room, new.id)
    what = compared(old, new, room.now)
    if what not in ("created", "updated"):
        return what, old.revision if old is not None else 0
    record = created(new, room.now) if old is None else updated(old, new, room.now)
    if record.paused is None:
        look = room.now
        room.leave_token()
    _save(room, record, look)
    room.schedules += old is None
    _log(room, record.id, record.mark, what, "", 1)
    return what, record.revision


def _schedules(room: Room, ids: Sequence[str] | None, cursor: str, limit: int) -> Page:
    if ids is not None:
        rows = room.all(f"SELECT {COLUMNS}, look FROM schedules WHERE shard=? AND id {IN}", room.shard, listed(ids))
        found = {row[0]: _read(row)[0] for row in rows}
        return Page([found.get(id) for id in ids])
    rows = room.all(
        f"SELECT {COLUMNS}, look FROM schedules WHERE shard = ? AND id > ? ORDER BY id LIMIT ?",
        room.shard, cursor, limit + 1,
    )  # fmt: skip
    records = [_read(row)[0] for row in rows[:limit]]
    return Page(records, records[-1].id if len(rows) > limit and records else "")


def _due(room: Room, limit: int, until: int | None) -> Due:
    until = look_until(room.now, until)
    rows = room.all(
        f"SELECT {COLUMNS}, look FROM schedules WHERE shard = ? AND look <= ? ORDER BY look, id LIMIT ?",
        room.shard, until, limit,
    )  # fmt: skip
    found = []
    for row in rows:
        record = _read(row)[0]
        if record.live:  # a run that vanished must not silence its schedule
            known = room.all(f"SELECT id FROM jobs WHERE shard = ? AND id {IN} AND state != 2", room.shard,
                             listed(record.live))  # fmt: skip
            living = {id for (id,) in known}
            if len(living) < len(record.live):
                record = replace(record, live=tuple(id for id in record.live if id in living))
                _save(room, record, None)
        found.append(record)
    hidden = [(until + HIDDEN_MS, room.shard, record.id) for record in found]
    room.db.executemany("UPDATE schedules SET look = ? WHERE shard = ? AND id = ?", hidden)
    return Due(room.now, found)


def _fire(room: Room, node: str, firings: Sequence[Firing]) -> list[Fired]:
    answers: list[Fired] = []
    ids: list[str] = []
    leased: list[str] = []
    for firing in firings:
        record, _ = _load(room, firing.id)
        if record is None or not is_as_read(record, firing):
            answers.append("stale")
            continue
        all_new = _fire_one(room, record, firing)
        born = [job.id for job in firing.jobs]
        ids += born
        fence = lease_new(room, born, node, firing.lease) if firing.lease and all_new else None
        answers.append("fired" if fence is None else fence)
        leased += born if fence is not None else []
    room.record("fire", node, len(ids), ids)
    room.record("claim", node, len(leased), leased)
    return answers


def _fire_one(room: Room, record: ScheduleRecord, firing: Firing) -> bool:
    """Whether all its jobs, and any, are new."""
    answers, _ = keep(room, firing.jobs)
    _save(room, fired(record, firing), firing.look if firing.pause is None else None)
    for nominal in firing.nominals:
        _log(room, firing.id, nominal, "fired", "", 1)
    for why, count in firing.skipped.items():
        _log(room, firing.id, firing.new_mark, "skipped", why, count)
    if firing.pause is not None:
        _log(room, firing.id, firing.new_mark, "paused", firing.pause, 1)
    return bool(answers) and all(answer == "created" for answer, _ in answers)


def _log(room: Room, id: str, nominal: int, what: str, why: str, count: int) -> None:
    fields = {"schedule": id, "nominal": str(nominal), "state": what, "why": why, "count": str(count)}
    room.append("ticks", fields)


def _steer(room: Room, id: str, remove: bool, paused: str | None) -> bool:
    record, _ = _load(room, id)
    if record is None:
        return False
    if remove:
        for job in record.live:
            row = room.one("SELECT named FROM jobs WHERE shard = ? AND id = ? AND state = 0", room.shard, job)
            if row is not None:
                room.cancel_pending(job, bool(row[0]))
        room.do("DELETE FROM schedules WHERE shard = ? AND id = ?", room.shard, id)
        room.schedules -= 1
    elif paused is not None:
        _save(room, replace(record, paused=paused), None)
        _log(room, id, room.now, "paused", paused, 1)
    elif record.paused is not None:  # else a repeated resume would pass over what came due between the two
        _save(room, resumed(record, room.now), room.now)
        _log(room, id, room.now, "resumed", "", 1)
        room.leave_token()
    return True
