"""Looking at and steering the jobs of a shard in SQLite."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, Literal

from duly.stores.base import Answer, JobRecord, Page, Sizes, check_size
from duly.stores.capabilities import AHEAD_MOST, Ahead
from duly.stores.sqlite.keep import holder
from duly.stores.sqlite.room import DEAD, IN, LEASED, PENDING, STATES, Room, Verbs, listed, unpack

UNHEARD_MS = 86_400_000
"""After so long without a call, the numbers of a client or node are forgotten: none repeats a call for a day."""
RESULT_PAUSES = (0.005, 0.05)
"""Seconds between two looks for a result: the first, and the longest."""
RECORD = (
    "id, state, body, enqueued_at, at, priority, attempts, crashes, unfit_since, fence, node, started, cancel, reason, "
    "error, trace, progress"
)
Line = tuple[int, int]
"""(state, priority): what `list` and `clear` walk through; the priority counts for pending ones."""
PENDING_LINES: tuple[Line, ...] = tuple((PENDING, priority) for priority in range(4))
LINES: dict[str, tuple[Line, ...]] = {"pending": PENDING_LINES, "leased": ((LEASED, 0),), "dead": ((DEAD, 0),)}


class CareVerbs(Verbs):
    """`base.Care` in SQLite."""

    async def get(self, ids: Sequence[str]) -> list[JobRecord | None]:
        check_size(ids)
        return await self._read(_get, ids)

    async def list(self, state: Literal["pending", "leased", "dead"], cursor: str, limit: int) -> Page:
        return await self._read(_list, state, cursor, limit)

    async def sizes(self) -> Sizes:
        return await self._read(_sizes)

    async def ahead(self, id: str) -> Ahead | None:
        return await self._read(_ahead, id)

    async def holder(self, key: str) -> Answer | None:
        return await self._read(holder, key)

    async def result(self, id: str, seconds: float = 0.0) -> bytes | None:
        found = await self._read(_result, id)
        pause, longest = RESULT_PAUSES
        while found is None and seconds > 0:  # any process may write it: there is nothing to subscribe to
            await asyncio.sleep(min(pause, seconds))
            seconds, pause = seconds - pause, min(longest, pause * 1.5)
            found = await self._read(_result, id)
        return found

    async def cancel(self, ids: Sequence[str]) -> Sequence[str]:
        check_size(ids)
        return await self._write(_cancel, ids)

    async def revive(self, ids: Sequence[str], *, waiting: bool = False) -> Sequence[bool]:
        check_size(ids)
        return await self._write(_revive, ids, waiting)

    async def clear(
        self, cursor: str, until: int | None, limit: int, ids: Sequence[str] | None = None, *, dead_only: bool = False
    ) -> tuple[int, str, int]:
        if ids is not None:
            check_size(ids)
        return await self._write(_clear, cursor, until, limit, ids, dead_only)

    async def configure(self, *, paused: bool | None = None, limit: int | None = None) -> None:
        if paused is not None or limit is not None:
            await self._write(_configure, paused, limit)

    async def reconcile(self, cursor: str, limit: int, *, repair: bool = True) -> tuple[str, dict[str, int]]:
        """Nothing is ever evicted from this store, so only the numbers of the silent are to be forgotten."""
        return await self._write(_forget_silent, limit) if repair else ("", {})

    async def history(self, stream: Literal["history", "ticks"], after: str, limit: int) -> Page:
        return await self._read(_history, stream, after, limit)


def _record(row: Any) -> JobRecord:
    id, state, body, enqueued_at, at, priority, attempts, crashes, unfit, fence, node, started, cancel, *rest = row
    return JobRecord(
        id, STATES[state], body, enqueued_at, at, priority, attempts, crashes, unfit, fence, node, started == 1,  # type: ignore[arg-type]
        cancel == 1, *rest,
    )  # fmt: skip


def _get(room: Room, ids: Sequence[str]) -> list[JobRecord | None]:
    rows = room.all(f"SELECT {RECORD} FROM jobs WHERE shard = ? AND id {IN}", room.shard, listed(ids))
    found = {row[0]: _record(row) for row in rows}
    rows = room.all(
        f"SELECT id, until FROM ended WHERE shard=? AND id {IN} AND until>?", room.shard, listed(ids), room.now
    )
    ended = {id: JobRecord(id, "ended", b"", 0, until) for id, until in rows}
    return [found.get(id) or ended.get(id) for id in ids]


def _walk(room: Room, columns: str, lines: Sequence[Line], cursor: str, limit: int) -> tuple[list[Any], str]:
    """The next rows behind the cursor through several lines. The cursor is "line:time:id" of the last row."""
    number, place = 0, (-(2**62), "")
    if cursor:
        first, at, id = cursor.split(":", 2)
        number, place = int(first), (int(at), id)
    found: list[Any] = []
    for line in range(number, len(lines)):
        state, priority = lines[line]
        only = f"AND priority = {priority}" if state == PENDING else ""
        rows = room.all(
            f"SELECT at, id, {columns} FROM jobs WHERE shard = ? AND state = {state} {only} AND (at, id) > (?, ?) "
            "ORDER BY at, id LIMIT ?",
            room.shard, *place, limit - len(found),
        )  # fmt: skip
        place = (-(2**62), "")
        found += rows
        if len(found) >= limit:
            return found, f"{line}:{found[-1][0]}:{found[-1][1]}" if found else ""
    return found, ""


def _list(room: Room, state: str, cursor: str, limit: int) -> Page:
    rows, following = _walk(room, RECORD, LINES[state], cursor, limit)
    return Page([_record(row[2:]) for row in rows], following)


def _sizes(room: Room) -> Sizes:
    row = room.one("SELECT since FROM pauses WHERE shard = ?", room.shard) if room.paused else None
    since = row[0] if row else 0
    return Sizes(
        room.now, room.pending, room.leased, room.dead, room.schedules, room.paused == 1, room.cap, paused_since=since
    )


def _ahead(room: Room, id: str) -> Ahead | None:
    row = room.one("SELECT priority, at FROM jobs WHERE shard = ? AND id = ? AND state = 0", room.shard, id)
    if row is None:
        return None
    priority, at = row
    count, where = 0, "SELECT 1 FROM jobs WHERE shard = ? AND state = 0 AND priority = ?"
    for line in range(priority + 1):
        before = ("at <= ?", room.now) if line < priority else ("(at, id) < (?, ?)", at, id)
        bounded = f"SELECT count(*) FROM ({where} AND {before[0]} LIMIT ?)"
        count += room.one(bounded, room.shard, line, *before[1:], AHEAD_MOST + 1 - count)[0]
    return Ahead(min(count, AHEAD_MOST), count > AHEAD_MOST)


def _result(room: Room, id: str) -> bytes | None:
    row = room.one("SELECT value FROM results WHERE shard = ? AND id = ? AND until > ?", room.shard, id, room.now)
    return row[0] if row else None


def _cancel(room: Room, ids: Sequence[str]) -> list[str]:
    answers = []
    for id in ids:
        row = room.one("SELECT state, named FROM jobs WHERE shard = ? AND id = ?", room.shard, id)
        if row is None:
            answers.append("ended" if room.is_remembered(id) else "unknown")
        elif row[0] == PENDING:
            room.cancel_pending(id, bool(row[1]))
            answers.append("cancelled")
        elif row[0] == LEASED:
            room.do("UPDATE jobs SET cancel = 1 WHERE shard = ? AND id = ?", room.shard, id)
            answers.append("asked")
        else:
            answers.append(STATES[row[0]])
    return answers


def _revive(room: Room, ids: Sequence[str], waiting: bool) -> list[bool]:
    revive = (
        "UPDATE jobs SET state=0, at=?, attempts=0, crashes=0, unfit_since=0 WHERE shard=? AND id=? AND state=2"
    )  # fmt: skip
    done = [room.do(revive, room.now, room.shard, id) == 1 for id in ids]
    for id in itertools.compress(ids, done):
        room.do("DELETE FROM results WHERE shard = ? AND id = ?", room.shard, id)
    room.count(DEAD, -sum(done))
    room.count(PENDING, sum(done))
    if waiting:
        hurry = "UPDATE jobs SET at=MIN(at, ?) WHERE shard=? AND id=? AND state=0"
        done = [was or room.do(hurry, room.now, room.shard, id) == 1 for was, id in zip(done, ids, strict=True)]
    if any(done):
        room.leave_token()
    return done


def _clear(
    room: Room, cursor: str, until: int | None, limit: int, ids: Sequence[str] | None, dead_only: bool
) -> tuple[int, str, int]:
    """Pending and dead jobs leave as if they had never been pushed."""
    lines = ((DEAD, 0),) if dead_only else (*PENDING_LINES, (DEAD, 0))
    which = "state=2 AND at" if dead_only else "state!=1 AND enqueued_at"
    until, following = room.now if until is None else until, ""
    if ids is None:
        rows, following = _walk(room, "enqueued_at", lines, cursor, limit)
        gone = [id for at, id, enqueued_at in rows if (at if dead_only else enqueued_at) <= until]
    else:
        rows = room.all(f"SELECT id FROM jobs WHERE shard=? AND id {IN} AND {which}<=?", room.shard,
                        listed(ids), until)  # fmt: skip
        gone = [id for (id,) in rows]
    return room.drop(gone) if gone else 0, following, until


def _configure(room: Room, paused: bool | None, limit: int | None) -> None:
    if paused and not room.paused:
        room.do("INSERT OR REPLACE INTO pauses VALUES (?, ?)", room.shard, room.now)
    if paused is False:
        room.do("DELETE FROM pauses WHERE shard = ?", room.shard)
    if paused is not None:
        room.paused = int(paused)
    if limit is not None:
        room.cap = limit or None
    room.leave_token()  # what was held back may go now


def _forget_silent(room: Room, limit: int) -> tuple[str, dict[str, int]]:
    stale = room.do(
        "DELETE FROM calls WHERE rowid IN (SELECT rowid FROM calls WHERE shard = ? AND at < ? LIMIT ?)",
        room.shard, room.now - UNHEARD_MS, limit,
    )  # fmt: skip
    return "more" if stale >= limit else "", {"stale": stale} if stale else {}


def _history(room: Room, stream: str, after: str, limit: int) -> Page:
    ms, _, n = after.partition("-")
    place = (int(ms), int(n or 0)) if after else (0, -1)
    rows = room.all(
        "SELECT ms, n, fields FROM entries WHERE shard = ? AND stream = ? AND (ms, n) > (?, ?) ORDER BY seq LIMIT ?",
        room.shard, stream, *place, limit,
    )  # fmt: skip
    items = [(f"{ms}-{n}", unpack(fields)) for ms, n, fields in rows]
    return Page(items, items[-1][0] if items else after)
