"""The token for which idle nodes sleep: a mark in the shard's row, taken by one writer.

Sleepers of this store object stand here in order. A token left by a step of this object is found right after its
commit; one left by another connection is found because `PRAGMA data_version` changes.

A token of kind OTHERS_FIRST was left by a node that put back a job it cannot run. Taking it at once, which it always
could, it would also be the one to wake when the job is due again, and no other node would ever get to run it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque

from duly.clock import SYSTEM_CLOCK
from duly.stores.sqlite.file import begin, roll_back

ANYBODY, OTHERS_FIRST = 1, 2
"""Kinds of tokens."""
OTHERS_SECONDS = 0.1
"""How long the others are given: more than two of their looks, no more than an unfit job is put back for."""
TAKE = "UPDATE shards SET token = 0 WHERE namespace = ? AND queue = ? AND token > 0"
LOOK = "SELECT token FROM shards WHERE namespace = ? AND queue = ?"
PUT = "UPDATE shards SET token = 1 WHERE namespace = ? AND queue = ?"
Shard = tuple[str, str]


class Sleeper:
    """One `wait` under way, until a moment of the monotonic clock. given: the token is its own, also if its time ran out
    in the same moment."""

    __slots__ = ("given", "looked", "roused", "shard", "until")

    def __init__(self, shard: Shard, until: float, looked: asyncio.Future[None], roused: asyncio.Future[None]) -> None:
        self.shard, self.until, self.looked, self.roused = shard, until, looked, roused
        self.given = False


class Bell:
    """Who sleeps in this store object. `add` and `leave` are called by the loop, the rest by the thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sleepers: dict[Shard, deque[Sleeper]] = {}
        self._new: list[Sleeper] = []
        self._version = -1
        self._after_others: dict[Shard, float] = {}

    @property
    def has_new(self) -> bool:
        return bool(self._new)

    def add(self, sleeper: Sleeper) -> None:
        with self._lock:
            self.sleepers.setdefault(sleeper.shard, deque()).append(sleeper)
            self._new.append(sleeper)

    def leave(self, sleeper: Sleeper) -> bool:
        """The sleeper goes: True if the token had become its own."""
        with self._lock:
            if not sleeper.given:
                self._forget(sleeper)
            return sleeper.given

    def dismiss(self) -> list[Sleeper]:
        """Everybody leaves."""
        with self._lock:
            everybody = [sleeper for line in self.sleepers.values() for sleeper in line]
            self.sleepers, self._new = {}, []
            return everybody

    def forget(self) -> None:
        """The connection was closed: another one counts changes anew."""
        self._version = -1

    def look(self, db: sqlite3.Connection, *, wrote: bool) -> list[asyncio.Future[None]]:
        """Give the tokens that lie there to the first sleepers; answers the futures to be resolved."""
        with self._lock:
            fresh, self._new = self._new, []
            shards = list(self.sleepers)
        (version,) = db.execute("PRAGMA data_version").fetchone()
        futures: list[asyncio.Future[None]] = []
        if wrote or version != self._version:
            self._version = version
        else:
            shards = list({*(sleeper.shard for sleeper in fresh), *self._after_others})
        try:
            for shard in shards:
                row = db.execute(LOOK, shard).fetchone()
                kind = row[0] if row else 0
                if kind and not self._is_for_others(shard, kind) and self._take(db, shard):
                    futures += self._give(db, shard)
        except sqlite3.Error:  # locked for long: the next look finds it
            self._version = -1
        return [*futures, *(sleeper.looked for sleeper in fresh)]

    def others_first(self, shard: Shard) -> None:
        """This store object leaves a token of that kind."""
        self._after_others[shard] = SYSTEM_CLOCK.monotonic() + OTHERS_SECONDS

    def _is_for_others(self, shard: Shard, kind: int) -> bool:
        """Whether the token has to be left to others yet. One who cannot wait for the end of that gets it at once."""
        moment = self._after_others.get(shard, 0.0)
        if kind == OTHERS_FIRST and SYSTEM_CLOCK.monotonic() < moment:
            with self._lock:
                line = self.sleepers.get(shard)
                return not line or line[0].until > moment
        self._after_others.pop(shard, None)
        return False

    def put_back(self, shard: Shard, db: sqlite3.Connection) -> None:
        """A step: leave the token of a shard again."""
        db.execute(PUT, shard)

    def _take(self, db: sqlite3.Connection, shard: Shard) -> bool:
        begin(db, "IMMEDIATE")
        try:
            taken = db.execute(TAKE, shard).rowcount == 1
            db.execute("COMMIT")
        except BaseException:
            roll_back(db)
            raise
        return taken

    def _give(self, db: sqlite3.Connection, shard: Shard) -> list[asyncio.Future[None]]:
        with self._lock:
            line = self.sleepers.get(shard)
            if line:
                sleeper = line[0]
                sleeper.given = True
                self._forget(sleeper)
                return [sleeper.roused]
        db.execute(PUT, shard)  # they have all left meanwhile
        return []

    def _forget(self, sleeper: Sleeper) -> None:
        line = self.sleepers.get(sleeper.shard)
        if line is not None and sleeper in line:
            line.remove(sleeper)
            if not line:
                del self.sleepers[sleeper.shard]
