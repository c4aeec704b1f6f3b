"""Enqueue: the one way in which jobs come to be kept, for pushes, children and ticks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from duly.core.job import NewJob, due_after
from duly.stores.base import Answer
from duly.stores.sqlite.room import IN, STATES, Room, listed

COLUMNS = "(shard, id, at, priority, named, enqueued_at, uniq, body)"
CHUNKS = (128, 16, 1)
"""Rows in one statement: each call into SQLite lets other threads of Python in between, so few are better."""
INSERTS = {size: f"INSERT INTO jobs {COLUMNS} VALUES {', '.join(['(?,?,?,?,?,?,?,?)'] * size)}" for size in CHUNKS}


def keep(room: Room, jobs: Sequence[NewJob]) -> tuple[list[Answer], int]:
    """Enqueue in order: (the answers, how many were written). Leaves a token if a sleeper has to know."""
    if not jobs:
        return [], 0
    before = room.earliest_due() if not room.token else None
    keeper = _Keeper(room, jobs)
    answers = [keeper.keep_one(job) for job in jobs]
    keeper.flush()
    first = keeper.first
    if first is not None and (first <= room.now or before is None or first < before):
        room.leave_token()
    return answers, keeper.written


class _Keeper:
    """What one call knows: plain new jobs are gathered and written together."""

    def __init__(self, room: Room, jobs: Sequence[NewJob]) -> None:
        self.room = room
        rows = room.all(f"SELECT id, state FROM jobs WHERE shard=? AND id {IN}", room.shard, listed(j.id for j in jobs))
        self.known: dict[str, str] = {id: STATES[state] for id, state in rows}
        named = [job.id for job in jobs if job.named]
        self.named = bool(named)
        self.ended: set[str] = set()
        if named:
            rows = room.all(f"SELECT id FROM ended WHERE shard=? AND id {IN} AND until>?", room.shard, listed(named),
                            room.now)  # fmt: skip
            self.ended = {id for (id,) in rows}
        self.rows: list[tuple[Any, ...]] = []
        self.written = 0
        self.first: int | None = None

    def keep_one(self, new: NewJob) -> Answer:
        room, state = self.room, self.known.get(new.id)
        if state is not None and not (new.replace and state == "pending"):
            return state, new.id
        if state is None and new.named and new.id in self.ended:
            return "ended", new.id
        if new.unique is not None:
            self.flush()  # the key may be held by one of them
            held = holder(room, new.unique.key)
            if held is not None and held[1] != new.id:
                return held
        due = new.due if new.due is not None else due_after(room.now_us, new.delay)
        self.written += 1
        self.first = due if self.first is None else min(self.first, due)
        if state is not None:
            self.flush()
            _replace(room, new, due)
        else:
            key = new.unique.key if new.unique else None
            self.rows.append((room.shard, new.id, due, new.priority, int(new.named), room.now, key, new.body))
            self.known[new.id] = "pending"
        if new.unique is not None:
            hold = new.unique
            room.do("INSERT OR REPLACE INTO unique_keys VALUES (?,?,?,?,?)", room.shard, hold.key, new.id, hold.scope,
                    room.now + hold.ms)  # fmt: skip
        return ("created" if state is None else "pending"), new.id

    def flush(self) -> None:
        rows, start = self.rows, 0
        if not rows:
            return
        for size in CHUNKS:
            while len(rows) - start >= size:
                flat = [value for row in rows[start : start + size] for value in row]
                self.room.db.execute(INSERTS[size], flat)
                start += size
        self.room.pending += len(rows)
        if self.named:
            ids = listed(row[1] for row in rows if row[4])
            self.room.do(f"DELETE FROM ended WHERE shard = ? AND id {IN}", self.room.shard, ids)
        self.rows = []


def _replace(room: Room, new: NewJob, due: int) -> None:
    """Attempts, crashes and the last error stay: they are the id's."""
    key = new.unique.key if new.unique else None
    (old,) = room.one("SELECT uniq FROM jobs WHERE shard = ? AND id = ?", room.shard, new.id)
    if old is not None and old != key:
        room.release_key(old, new.id)
    room.do(
        "UPDATE jobs SET body=?, enqueued_at=?, at=?, priority=?, uniq=?, named=max(named, ?) WHERE shard=? AND id=?",
        new.body, room.now, due, new.priority, key, int(new.named), room.shard, new.id,
    )  # fmt: skip


def holder(room: Room, key: str) -> Answer | None:
    """(state, id) of the job that holds the key now, or None if it is free."""
    held = room.one(
        "SELECT u.id, u.scope, u.until, j.state FROM unique_keys u "
        "LEFT JOIN jobs j ON j.shard = u.shard AND j.id = u.id WHERE u.shard = ? AND u.key = ?",
        room.shard, key,
    )  # fmt: skip
    if held is None:
        return None
    id, scope, until, number = held
    state = STATES[number] if number is not None else None
    if scope == "time":
        return None if until <= room.now else (state or "ended", id)
    if state is None or state == "dead" or (scope == "start" and state == "leased"):
        return None
    return state, id
