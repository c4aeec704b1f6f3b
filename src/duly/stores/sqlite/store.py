"""The SQLite store: one file, one writer thread per store object, a shard per queue, the registry of nodes, locks."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from duly.clock import SYSTEM_CLOCK, Clock
from duly.core.measures import Counts, check_minutes, few
from duly.errors import StoreUnavailable
from duly.stores.base import Limits, Page, Registry
from duly.stores.capabilities import Finding
from duly.stores.sqlite import health, locks, measures
from duly.stores.sqlite.care import CareVerbs
from duly.stores.sqlite.file import read_url
from duly.stores.sqlite.jobs import JobVerbs
from duly.stores.sqlite.schedules import ScheduleVerbs
from duly.stores.sqlite.thread import WriterThread

T = TypeVar("T")


class SqliteShard(JobVerbs, CareVerbs, ScheduleVerbs):
    """One queue in an SQLite file."""


class SqliteStore:
    """`base.Store` in an SQLite file, given as URL or path. Nothing is opened before `connect`."""

    def __init__(
        self,
        url: str | os.PathLike[str],
        namespace: str = "duly",
        limits: Limits | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._place = read_url(url)
        self.url = self._place.url
        self.namespace, self.limits, self.clock = namespace, limits or Limits(), clock or SYSTEM_CLOCK
        self._thread: WriterThread | None = None
        self._shards: dict[str, SqliteShard] = {}

    async def connect(self) -> None:
        if self._thread is not None and not self._thread.is_over:
            self._thread.check()
            return
        thread = WriterThread(self._place, asyncio.get_running_loop())
        await thread.start()
        self._thread = thread

    async def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None and thread.is_mine:
            await thread.stop()

    def sibling(self, timeout: float | None = None) -> SqliteStore:
        return SqliteStore(self.url, self.namespace, self.limits, self.clock)

    def shard(self, queue: str) -> SqliteShard:
        shard = self._shards.get(queue)
        if shard is None:
            shard = self._shards[queue] = SqliteShard(queue, self.namespace, self._current, self.limits, self.clock)
        return shard

    def _current(self) -> WriterThread:
        if self._thread is None:
            raise StoreUnavailable(f"{self.url} is not connected: await store.connect() first")
        return self._thread

    async def _run(self, work: Callable[[sqlite3.Connection, int], T], *, writes: bool = True) -> T:
        clock = self.clock
        return await self._current().run(lambda db: work(db, clock.epoch_us()), writes=writes)

    async def registry(self) -> Registry:
        def work(db: sqlite3.Connection, now_us: int) -> Registry:
            now = now_us // 1000
            beats = db.execute(
                "SELECT node, record, until FROM nodes WHERE namespace=? AND until>?", (self.namespace, now)
            ).fetchall()
            queues = db.execute("SELECT queue FROM queues WHERE namespace=? ORDER BY queue", (self.namespace,))
            return Registry(
                now,
                {node: record for node, record, _ in beats},
                [queue for (queue,) in queues],
                {node: until for node, _, until in beats},
            )

        return await self._run(work, writes=False)

    async def beat(self, node: str, record: bytes, ttl: int, queues: Sequence[str]) -> None:
        def work(db: sqlite3.Connection, now_us: int) -> None:
            now = now_us // 1000
            db.executemany("INSERT OR IGNORE INTO queues VALUES (?, ?)", [(self.namespace, queue) for queue in queues])
            if not node:
                return  # a process that only pushes names its queues
            db.execute(
                "DELETE FROM nodes WHERE namespace=? AND (node=? OR until<=?)",
                (self.namespace, node, now),
            )
            if ttl > 0:
                db.execute("INSERT INTO nodes VALUES (?, ?, ?, ?)", (self.namespace, node, record, now + ttl))

        await self._run(work)

    async def lock(self, name: str, owner: str, ttl: int, *, places: int = 1, waiting: int = 0) -> int | None:
        namespace = self.namespace
        return await self._run(lambda db, now_us: locks.take(db, namespace, name, owner, ttl, places, waiting, now_us))

    async def unlock(self, name: str, owner: str) -> bool:
        return await self._run(lambda db, now_us: locks.free(db, self.namespace, name, owner, now_us // 1000))

    async def locks(self, cursor: str, limit: int) -> Page:
        def work(db: sqlite3.Connection, now_us: int) -> Page:
            return locks.page(db, self.namespace, cursor, limit, now_us // 1000)

        return await self._run(work, writes=False)

    async def measure(self, minute: int, counts: Mapping[str, Counts], keep: int) -> None:
        tasks = few(counts)
        await self._run(lambda db, _: measures.write(db, self.namespace, minute, tasks, keep))

    async def measured(self, first: int, last: int) -> Mapping[int, Mapping[str, Counts]]:
        check_minutes(first, last)
        return await self._run(lambda db, _: measures.read(db, self.namespace, first, last), writes=False)

    async def examine(self) -> list[Finding]:
        return await self._run(lambda db, _: health.examine(db, self._place), writes=False)
