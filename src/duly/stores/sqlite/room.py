"""One shard inside a transaction: its row, read when a verb begins and written when it ends, and the steps that several
verbs share. What each step has to do is said by `stores/memory`; here it is said in SQL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from duly.clock import Clock
from duly.stores.base import Limits
from duly.stores.sqlite.thread import WriterThread
from duly.stores.sqlite.wake import ANYBODY, OTHERS_FIRST

T = TypeVar("T")
pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder().decode
_json = msgspec.json.Encoder().encode

FORGET_STEP = 1_000
FORGET_AFTER_MS = 3_600_000
HISTORY_IDS = 16
NAMES = (
    *("fence", "turn", "seen", "hold", "held_at", "timer_node", "timer_at", "paused", "cap", "token"),
    *("pending", "leased", "dead", "schedules"),
)
LOAD = f"SELECT shard, {', '.join(NAMES)} FROM shards WHERE namespace = ? AND queue = ?"
SAVE = f"UPDATE shards SET {', '.join(f'{name} = ?' for name in NAMES)} WHERE shard = ?"
EARLIEST = "SELECT min(at) FROM ({})".format(
    " UNION ALL ".join(
        f"SELECT (SELECT at FROM jobs WHERE shard = ?1 AND state = 0 AND priority = {p} ORDER BY at LIMIT 1) AS at"
        for p in range(4)
    )
)
PENDING, LEASED, DEAD = 0, 1, 2
STATES = ("pending", "leased", "dead")


def listed(ids: Iterable[str]) -> str:
    """Ids as one parameter: `id IN (SELECT value FROM json_each(?))`."""
    return _json(list(ids)).decode()


IN = "IN (SELECT value FROM json_each(?))"


class Room:
    """A shard's facts during one step."""

    def __init__(self, db: sqlite3.Connection, place: tuple[str, str], now_us: int, limits: Limits) -> None:
        self.db, self.place, self.limits = db, place, limits
        self.now_us, self.now = now_us, now_us // 1000
        row = db.execute(LOAD, place).fetchone()
        self.before: tuple[Any, ...] = row or (-1, 0, 0, 0, 0, 0, None, 0, 0, None, 0, 0, 0, 0, 0)
        self.shard: int = self.before[0]
        self.fence: int = self.before[1]
        self.turn: int = self.before[2]
        self.seen: int = self.before[3]
        self.hold: int = self.before[4]
        self.held_at: int = self.before[5]
        self.timer_node: str | None = self.before[6]
        self.timer_at: int = self.before[7]
        self.paused: int = self.before[8]
        self.cap: int | None = self.before[9]
        self.token: int = self.before[10]
        self.pending: int = self.before[11]
        self.leased: int = self.before[12]
        self.dead: int = self.before[13]
        self.schedules: int = self.before[14]
        self.others_first = False

    def create(self) -> None:
        """A shard's number is given at its first write."""
        if self.shard < 0:
            self.shard = self.all("INSERT INTO shards (namespace, queue) VALUES (?, ?) RETURNING shard", *self.place)[
                0
            ][0]
            self.before = (self.shard, *self.before[1:])

    def save(self) -> None:
        facts = (
            self.fence, self.turn, self.seen, self.hold, self.held_at, self.timer_node, self.timer_at, self.paused,
            self.cap, self.token, self.pending, self.leased, self.dead, self.schedules,
        )  # fmt: skip
        if facts != self.before[1:]:
            self.db.execute(SAVE, (*facts, self.shard))

    def all(self, sql: str, *args: Any) -> list[Any]:
        return self.db.execute(sql, args).fetchall()

    def one(self, sql: str, *args: Any) -> Any:
        return self.db.execute(sql, args).fetchone()

    def do(self, sql: str, *args: Any) -> int:
        """The number of rows that were written."""
        return self.db.execute(sql, args).rowcount

    # --- what several verbs need -------------------------------------------------------------------------------------

    def leave_token(self, *, others_first: bool = False) -> None:
        """See `wake`; one that is for anybody stays so."""
        if not others_first:
            self.token = ANYBODY
        elif not self.token:
            self.token, self.others_first = OTHERS_FIRST, True

    def earliest_due(self) -> int | None:
        """The earliest due time of all priorities."""
        if not self.pending:
            return None
        found: int | None = self.one(EARLIEST, self.shard)[0]
        return found

    def is_full(self) -> bool:
        return self.cap is not None and self.leased >= self.cap

    def last_call(self, kind: str, caller: str) -> Any:
        return self.one(
            "SELECT n, fence, answer FROM calls WHERE shard = ? AND kind = ? AND caller = ?", self.shard, kind, caller
        )

    def keep_call(self, kind: str, caller: str, n: int, fence: int, answer: bytes | None) -> None:
        self.do(
            "INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?)",
            self.shard, kind, caller, n, self.now, fence, answer,
        )  # fmt: skip

    def stamp(self, lease: int, shortest: int) -> int:
        """The gap guard (DESIGN section 4). Returns by how many ms the clock has gone back since the last call."""
        now = self.now
        gap, self.seen, first = now - self.seen, now, self.seen == 0
        if first:
            return 0
        if gap < 0:
            self.hold, self.held_at = min(self.hold, now), min(self.held_at, now)
            return -int(gap)
        if 2 * gap > shortest:
            length = lease if 2 * gap > lease else shortest
            if now - self.held_at >= length:
                self.hold, self.held_at = now + length // 3, now
        return 0

    # --- unique keys, leaving ----------------------------------------------------------------------------------------

    def release_key(self, key: str | None, id: str) -> None:
        if key is not None:
            self.do("DELETE FROM unique_keys WHERE shard = ? AND key = ? AND id = ? AND scope != 'time'",
                    self.shard, key, id)  # fmt: skip

    def remember(self, id: str) -> None:
        """Keep a user-given id known after its end."""
        if self.limits.remember_ms > 0:
            until = self.now + self.limits.remember_ms
            self.do("INSERT OR REPLACE INTO ended VALUES (?, ?, ?)", self.shard, id, until)

    def is_remembered(self, id: str) -> bool:
        return self.one("SELECT 1 FROM ended WHERE shard=? AND id=? AND until>?", self.shard, id, self.now) is not None

    def drop(self, ids: Sequence[str]) -> int:
        """Take jobs and all that belongs to them out of the shard; what is remembered of them is not touched."""
        gone = self.all(f"DELETE FROM jobs WHERE shard = ? AND id {IN} RETURNING id, state, uniq", self.shard,
                        listed(ids))  # fmt: skip
        for id, state, key in gone:
            self.count(state, -1)
            self.release_key(key, id)
        return len(gone)

    def count(self, state: int, more: int) -> None:
        if state == PENDING:
            self.pending += more
        elif state == LEASED:
            self.leased += more
        else:
            self.dead += more

    def cancel_pending(self, id: str, named: bool) -> None:
        self.drop([id])
        if named:
            self.remember(id)

    def forget(self) -> None:
        """Let go of what is past its time, a little at each call."""
        over = self.now - FORGET_AFTER_MS  # a clock that goes back a little must find what it knew
        for table, key, until, more in (
            ("ended", "id", over, ""),
            ("results", "id", self.now, ""),
            ("unique_keys", "key", over, "AND scope = 'time' "),
        ):
            self.do(
                f"DELETE FROM {table} WHERE shard = ?1 AND {key} IN (SELECT {key} FROM {table} "
                f"WHERE shard = ?1 {more}AND until <= ?2 ORDER BY until LIMIT {FORGET_STEP})",
                self.shard, until,
            )  # fmt: skip

    # --- streams -----------------------------------------------------------------------------------------------------

    def record(self, verb: str, who: str, count: int, ids: Sequence[str]) -> None:
        """One entry per call that did something, never per job."""
        if count > 0:
            named = " ".join(ids[:HISTORY_IDS])
            self.append("history", {"verb": verb, "who": who, "count": str(count), "ids": named})

    def append(self, stream: str, fields: dict[str, str]) -> None:
        if self.limits.history <= 0:
            return
        last = self.one("SELECT seq, ms, n FROM entries WHERE shard=? AND stream=? ORDER BY seq DESC LIMIT 1",
                        self.shard, stream)  # fmt: skip
        seq, ms, n = last or (0, 0, 0)
        ms, n = (self.now, 0) if self.now > ms else (ms, n + 1)
        self.do("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", self.shard, stream, seq + 1, ms, n, pack(fields))
        over = seq + 1 - self.limits.history
        if over > 0:
            self.do("DELETE FROM entries WHERE shard=? AND stream=? AND seq<=?", self.shard, stream, over)


class Verbs:
    """What the verbs of a shard have in common: the thread, the clock, the limits."""

    def __init__(
        self, queue: str, namespace: str, thread: Callable[[], WriterThread], limits: Limits, clock: Clock
    ) -> None:
        self.queue = queue
        self._place, self._thread, self._limits, self._clock = (namespace, queue), thread, limits, clock

    async def _write(self, verb: Callable[..., T], *args: Any) -> T:
        """Run verb(room, *args) as one atomic step."""
        return await self._thread().run(partial(self._step, True, verb, args))

    async def _read(self, verb: Callable[..., T], *args: Any) -> T:
        """As `_write`, for what writes nothing."""
        return await self._thread().run(partial(self._step, False, verb, args), writes=False)

    def _step(self, writes: bool, verb: Callable[..., T], args: Sequence[Any], db: sqlite3.Connection) -> T:
        room = Room(db, self._place, self._clock.epoch_us(), self._limits)
        if not writes:
            return verb(room, *args)
        room.create()
        answer = verb(room, *args)
        room.save()
        if room.others_first:
            self._thread().bell.others_first(self._place)
        return answer
