"""What the file says of its own health, for `duly doctor`."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from duly.stores.base import FORMAT
from duly.stores.capabilities import Finding
from duly.stores.sqlite.checkpoint import PATIENT_FROM, wal_size
from duly.stores.sqlite.file import Place

CHECKED_UP_TO = 64 << 20
"""Bytes of a file that is checked whole: its writer does nothing else meanwhile (0.1 s per 50 MB)."""
LONG_WAL = 4 * PATIENT_FROM
LITTLE_DISK = 512 << 20
KEEPS = {
    1: "synchronous=normal: a killed process loses nothing, a power cut may take the last commits",
    2: "synchronous=full: a commit that was answered outlives a power cut",
}


def examine(db: sqlite3.Connection, place: Place) -> list[Finding]:
    """Inside a read."""
    return [
        *version(sqlite3.sqlite_version_info[:3]),
        *settings(db),
        *sizes(place),
        *integrity(db, place),
    ]


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """See `checkpoint`; two older lines were mended too."""
    return version < (3, 51, 3) and not (3, 50, 7) <= version < (3, 51) and not (3, 44, 6) <= version < (3, 45)


def version(version: tuple[int, ...]) -> list[Finding]:
    """Of SQLite."""
    name = ".".join(map(str, version))
    if not has_wal_reset_bug(version):
        return [Finding("ok", f"SQLite {name}, format {FORMAT}")]
    return [
        Finding(
            "warning",
            f"SQLite {name} has the WAL-reset bug, which can damage a file that several connections write; duly makes "
            "its own checkpoints so that they cannot meet it",
            "let no other program write to this file; a Python with SQLite 3.51.3 or later is safe altogether",
        )
    ]


def settings(db: sqlite3.Connection) -> list[Finding]:
    """How commits are kept."""
    (mode,) = db.execute("PRAGMA journal_mode").fetchone()
    (level,) = db.execute("PRAGMA synchronous").fetchone()
    journal = Finding("ok", "journal mode wal")
    if mode != "wal":
        journal = Finding(
            "error", f"journal mode {mode}", "some program has changed it: stop it, and restart the nodes"
        )
    return [journal, Finding("ok", KEEPS[level])]


def sizes(place: Place) -> list[Finding]:
    """What lies on the disk."""
    log, free = wal_size(place), shutil.disk_usage(Path(place.path).absolute().parent).free
    sizes = Finding("ok", f"the file has {_mb(Path(place.path).stat().st_size)}, its log {_mb(log)}")
    if log > LONG_WAL:
        sizes = Finding(
            "warning",
            f"the log beside the file has grown to {_mb(log)}: somebody has been reading for long",
            "end what holds a transaction open on the file: a shell, a backup, a stopped process",
        )
    space = Finding("ok", f"{_mb(free)} free on its disk")
    if free < LITTLE_DISK:
        space = Finding(
            "warning",
            f"only {_mb(free)} free on its disk",
            "free space: on a full disk nothing is written, pushes are refused and nodes wait",
        )
    return [sizes, space]


def integrity(db: sqlite3.Connection, place: Place) -> list[Finding]:
    """Whether a small file is sound."""
    if Path(place.path).stat().st_size > CHECKED_UP_TO:
        return [Finding("ok", 'the file was not read whole, it is large: `sqlite3 FILE "PRAGMA quick_check"` does so')]
    (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if said == "ok":
        return [Finding("ok", "the file was read whole and is sound")]
    advice = "stop the nodes; restore a backup, or recover what can be read: `sqlite3 FILE .recover | sqlite3 NEW`"
    return [Finding("error", f"the file is damaged: {said}", advice)]


def _mb(size: int) -> str:
    return f"{size / (1 << 20):,.1f} MB"
