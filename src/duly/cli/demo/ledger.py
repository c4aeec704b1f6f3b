"""What the demo's handlers write down: one row for each run, in a SQLite file that is not the store's."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from duly.clock import SYSTEM_CLOCK
from duly.runtime.context import Context

TABLE = """
CREATE TABLE IF NOT EXISTS runs (
    run INTEGER PRIMARY KEY, job TEXT, task TEXT, nominal REAL, attempt INT, crashes INT, pid INT, began REAL, ended REAL,
    ok INT
)"""


class Run(msgspec.Struct, frozen=True, array_like=True):
    """One run of a handler. Times in epoch seconds; ended is None for one that goes on, or whose process died."""

    job: str
    task: str
    nominal: float | None
    attempt: int
    crashes: int
    pid: int
    began: float
    ended: float | None
    ok: bool


class Ledger:
    """The file; every call opens it anew, so any thread of any process may write."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self) -> None:
        with closing(self._open()) as db, db:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(TABLE)

    @contextmanager
    def run(self, ctx: Context) -> Iterator[None]:
        """Around a handler: its begin, and how it ended."""
        row = (ctx.job.id, ctx.job.task, ctx.job.nominal, ctx.attempt, ctx.crashes, os.getpid(), now())
        columns = "job, task, nominal, attempt, crashes, pid, began"
        with closing(self._open()) as db, db:
            (number,) = db.execute(
                f"INSERT INTO runs ({columns}, ok) VALUES (?, ?, ?, ?, ?, ?, ?, 0) RETURNING run", row
            ).fetchone()
        ok = False
        try:
            yield
            ok = True
        finally:
            with closing(self._open()) as db, db:
                db.execute("UPDATE runs SET ended = ?, ok = ? WHERE run = ?", (now(), ok, number))

    def read(self) -> list[Run]:
        """All runs, in the order in which they began."""
        columns = "job, task, nominal, attempt, crashes, pid, began, ended, ok"
        with closing(self._open()) as db:
            rows = db.execute(f"SELECT {columns} FROM runs ORDER BY run").fetchall()
        return msgspec.convert(rows, list[Run], strict=False)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=10)


def now() -> float:
    """Epoch seconds."""
    return SYSTEM_CLOCK.epoch_us() / 1e6
