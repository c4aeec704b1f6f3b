"""What was counted of runs, in an SQLite file: a row per minute and task."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from duly.core.measures import Counts, add
from duly.stores.sqlite.room import pack, unpack


def write(db: sqlite3.Connection, namespace: str, minute: int, counts: Mapping[str, Counts], keep: int) -> None:
    """See `capabilities.Measured.measure`."""
    there = read(db, namespace, minute, minute).get(minute, {})
    changed = set(add(there, counts))
    db.executemany(
        "INSERT OR REPLACE INTO measures VALUES (?, ?, ?, ?)",
        [(namespace, minute, task, pack(there[task])) for task in changed],
    )
    db.execute("DELETE FROM measures WHERE namespace=? AND minute<=?", (namespace, minute - keep))


def read(db: sqlite3.Connection, namespace: str, first: int, last: int) -> dict[int, dict[str, dict[str, int]]]:
    """See `capabilities.Measured.measured`."""
    found: dict[int, dict[str, dict[str, int]]] = {}
    for minute, task, counts in db.execute(
        "SELECT minute, task, counts FROM measures WHERE namespace=? AND minute BETWEEN ? AND ?",
        (namespace, first, last),
    ):
        found.setdefault(minute, {})[task] = unpack(counts)
    return found
