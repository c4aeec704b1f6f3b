"""Keeps the write-ahead log short: copies it into the file now and then, while nobody writes.

SQLite before 3.51.3 (but for 3.44.6 and 3.50.7) has the WAL-reset bug, sqlite.org/wal.html#walresetbug: a commit that
begins the log anew while a checkpoint reads its length makes the checkpoint note that frames are copied which are not,
and the file is damaged. A lock among those who make checkpoints would not help, as the other party is any writer. So
SQLite's own checkpoints are off, and ours are made while a second connection of this thread holds the write lock, which
keeps everybody's commits out, also those of other programs. The checkpoint that SQLite makes by itself when the last
connection is closed needs no guard: it is made only under an exclusive lock on the file.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from duly.stores.sqlite.file import Place, open_bare

WAL_BYTES = 4 << 20
"""The log is copied when it has grown by so much. Others wait meanwhile, so it is no more than SQLite's own measure."""
PATIENT_FROM = 4 * WAL_BYTES
"""A log of this size is worth waiting for other writers."""
PATIENCE_MS = 1_000


class Checkpointer:
    """Belongs to one writer thread."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._guard: sqlite3.Connection | None = None
        self._copied = 0

    def look(self, db: sqlite3.Connection) -> None:
        """Copy the log if it has grown enough. `db` is in no transaction. Never raises: a later look tries again."""
        size = wal_size(self._place)
        if size < self._copied:  # begun anew, since all of it had been copied and nobody was reading it
            self._copied = 0
        if size - self._copied < WAL_BYTES:
            return
        try:
            self._copy(db, patient=size >= PATIENT_FROM)
            self._copied = size
        except sqlite3.Error:
            pass  # somebody writes, or the disk is full

    def _copy(self, db: sqlite3.Connection, *, patient: bool) -> None:
        if self._guard is None:
            self._guard = open_bare(self._place)
        guard = self._guard
        guard.execute(f"PRAGMA busy_timeout = {PATIENCE_MS if patient else 0}")
        guard.execute("BEGIN IMMEDIATE")
        try:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            guard.execute("ROLLBACK")

    def close(self) -> None:
        if self._guard is not None:
            self._guard.close()
            self._guard = None


def wal_size(place: Place) -> int:
    """Bytes in the log; it is cut when it is begun anew, so all of them are in use."""
    try:
        return Path(f"{place.path}-wal").stat().st_size
    except OSError:
        return 0
