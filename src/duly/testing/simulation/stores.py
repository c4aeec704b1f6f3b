"""The stores of a simulation: memory, the SQLite statements, the Redis scripts; each verb done at once, on a given clock."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from duly.stores.base import Limits, Store
from duly.stores.memory.store import MemoryStore
from duly.stores.sqlite.file import Place, open_file
from duly.stores.sqlite.store import SqliteStore
from duly.stores.sqlite.wake import TAKE
from duly.testing.clock import ManualClock

T = TypeVar("T")
KINDS = ("memory", "sqlite", "redis")
LOOK_SECONDS = 0.2
"""Seconds of virtual time between two looks for a token, where the store cannot say that there is one."""


@contextmanager
def empty_store(kind: str, clock: ManualClock, url: str = "") -> Iterator[Store]:
    """An empty store that serves verbs synchronously. url: of the Redis server, of which everything is deleted."""
    limits = Limits()
    if kind == "memory":
        yield MemoryStore(limits, clock)
    elif kind == "sqlite":
        with TemporaryDirectory(prefix="duly-simulation-") as folder:
            db = open_file(Place("sqlite:///simulation", f"{folder}/duly.db", "normal"))
            try:
                yield _inline_sqlite(db, clock, limits)
            finally:
                db.close()
    else:
        from duly.testing.simulation.blocking_redis import BlockingRedisStore

        store = BlockingRedisStore(url, "simulation", limits, clock)
        try:
            store.empty()
            yield store
        finally:
            store.hang_up()


class InlineThread:
    """Stands for the writer thread of the SQLite store: the same steps in the same transactions, in the caller's turn."""

    is_mine, is_over = True, False

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.bell = self

    def check(self) -> None:
        """It is always there."""

    def others_first(self, shard: tuple[str, str]) -> None:
        """Whom a token is for matters to real processes on one machine; here it is for whoever looks first."""

    async def run(self, work: Callable[[sqlite3.Connection], T], *, writes: bool = True) -> T:
        self._db.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
        try:
            answer = work(self._db)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return answer

    async def wait(self, shard: tuple[str, str], seconds: float) -> bool:
        return await wait_for_token(lambda: self._db.execute(TAKE, shard).rowcount == 1, seconds)


def _inline_sqlite(db: sqlite3.Connection, clock: ManualClock, limits: Limits) -> SqliteStore:
    thread: Any = InlineThread(db)

    class Inline(SqliteStore):
        async def connect(self) -> None:
            self._thread = thread

        async def close(self) -> None:
            self._thread = None

        def sibling(self, timeout: float | None = None) -> SqliteStore:
            return Inline("sqlite:///memory", "simulation", limits, clock)

    return Inline("sqlite:///memory", "simulation", limits, clock)


async def wait_for_token(take: Callable[[], bool], seconds: float) -> bool:
    """Look for a token until it is there or the time is over."""
    left = seconds
    while not take():
        if left <= 0:
            return False
        await asyncio.sleep(min(left, LOOK_SECONDS))
        left -= LOOK_SECONDS
    return True
