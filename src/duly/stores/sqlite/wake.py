"""The token for which idle nodes sleep: a mark in the shard's row, taken by one writer.

Sleepers of this store object stand here in order. A token left by a step of this object is found right after its
commit; one left by another connection is found because `PRAGMA data_version` changes.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque

from duly.stores.sqlite.file import begin, roll_back

TAKE = "UPDATE shards SET token = 0 WHERE namespace = ? AND queue = ? AND token = 1"
LOOK = "SELECT token FROM shards WHERE namespace = ? AND queue = ?"
PUT = "UPDATE shards SET token = 1 WHERE namespace = ? AND queue = ?"
Shard = tuple[str, str]


class Sleeper:
    """One `wait` under way. given: the token is its own, also if its time ran out in the same moment."""

    __slots__ = ("given", "left", "looked", "roused", "shard")

    def __init__(self, shard: Shard, looked: asyncio.Future[None], roused: asyncio.Future[None]) -> None:
        self.shard, self.looked, self.roused = shard, looked, roused
        self.given = self.left = False


class Bell:
    """Who sleeps in this store object. `add` and `leave` are called by the loop, the rest by the thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sleepers: dict[Shard, deque[Sleeper]] = {}
        self._new: list[Sleeper] = []
        self._version = -1

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
                sleeper.left = True
                self._forget(sleeper)
            return sleeper.given

    def close(self) -> list[Sleeper]:
        """Everybody; those who were looked for already hear nothing more than that their time ran out."""
        with self._lock:
            everybody = [sleeper for line in self.sleepers.values() for sleeper in line]
            self.sleepers, self._new = {}, []
            return everybody

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
            shards = list({sleeper.shard for sleeper in fresh})
        try:
            for shard in shards:
                if db.execute(LOOK, shard).fetchone() == (1,) and self._take(db, shard):
                    futures += self._give(db, shard)
        except sqlite3.Error:  # locked for long: the next look finds it
            self._version = -1
        return [*futures, *(sleeper.looked for sleeper in fresh)]

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
