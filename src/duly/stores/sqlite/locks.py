"""The locks of an SQLite file: who holds a place, and who waits for one, in the order of their tickets."""

from __future__ import annotations

import sqlite3

from duly.stores.base import Page
from duly.stores.capabilities import PLACES_SHOWN, LockPlace, LockRecord

KEPT_MS = 7 * 86_400_000
"""How long a lock's fence outlives the lock."""
END = 2**62
"""Behind every ticket."""


def take(db: sqlite3.Connection, namespace: str, name: str, owner: str, ttl: int, places: int, waiting: int,
         now_us: int) -> int | None:  # fmt: skip
    """See `base.Store.lock`."""
    now = now_us // 1000
    _forget(db, namespace, now)
    ticket, fence = db.execute(
        "SELECT ticket, fence FROM lock_places WHERE namespace=? AND name=? AND owner=?", (namespace, name, owner)
    ).fetchone() or (None, 0)
    if ticket != 0:
        held, ahead, last = db.execute(
            "SELECT count(*) FILTER (WHERE ticket=0), count(*) FILTER (WHERE ticket>0 AND ticket<?), "
            "coalesce(max(ticket), 0) FROM lock_places WHERE namespace=? AND name=?",
            (END if ticket is None else ticket, namespace, name),
        ).fetchone()
        if ahead >= places - held:
            if waiting:
                db.execute(
                    "INSERT OR REPLACE INTO lock_places VALUES (?, ?, ?, ?, 0, ?)",
                    (namespace, name, owner, last + 1 if ticket is None else ticket, now + waiting),
                )
            return None
        former = db.execute("SELECT fence FROM locks WHERE namespace=? AND name=?", (namespace, name)).fetchone()
        fence = max((former[0] if former else 0) + 1, now_us)
    db.execute(
        "INSERT INTO locks VALUES (?, ?, '', ?, ?) ON CONFLICT DO UPDATE SET owner='', "
        "fence=max(fence, excluded.fence), until=max(until, excluded.until)",
        (namespace, name, fence, now + ttl),
    )
    db.execute(
        "INSERT OR REPLACE INTO lock_places VALUES (?, ?, ?, 0, ?, ?)", (namespace, name, owner, fence, now + ttl)
    )
    return int(fence)


def free(db: sqlite3.Connection, namespace: str, name: str, owner: str, now: int) -> bool:
    """See `base.Store.unlock`."""
    _forget(db, namespace, now)
    freed = db.execute(
        "DELETE FROM lock_places WHERE namespace=? AND name=? AND owner=? RETURNING ticket", (namespace, name, owner)
    ).fetchall()
    return freed == [(0,)]


def page(db: sqlite3.Connection, namespace: str, cursor: str, limit: int, now: int) -> Page:
    """See `capabilities.ListsLocks`; in the order of their names, of which the cursor is the last."""
    names: list[str] = []
    while len(names) < limit:  # from name to name, for a lock may have very many holders
        (name,) = db.execute(
            "SELECT min(name) FROM lock_places WHERE namespace=? AND name>?",
            (namespace, names[-1] if names else cursor),
        ).fetchone()
        if name is None:
            break
        names.append(name)
    records = [record for name in names if (record := _record(db, namespace, name, now)) is not None]
    return Page(records, names[-1] if len(names) == limit else "")


def _record(db: sqlite3.Connection, namespace: str, name: str, now: int) -> LockRecord | None:
    """None if nobody holds it."""
    held, waiting = db.execute(
        "SELECT count(*) FILTER (WHERE ticket=0), count(*) FILTER (WHERE ticket>0) FROM lock_places "
        "WHERE namespace=? AND name=? AND until>?",
        (namespace, name, now),
    ).fetchone()
    places = db.execute(
        "SELECT owner, fence, until FROM lock_places WHERE namespace=? AND name=? AND until>? AND ticket=0 "
        "ORDER BY until, owner LIMIT ?",
        (namespace, name, now, PLACES_SHOWN),
    )
    return LockRecord(name, tuple(LockPlace(*place) for place in places), held, waiting) if held else None


def _forget(db: sqlite3.Connection, namespace: str, now: int) -> None:
    """Whose time is over is gone, and in the end the fence too."""
    db.execute("DELETE FROM lock_places WHERE namespace=? AND until<=?", (namespace, now))
    db.execute("DELETE FROM locks WHERE namespace=? AND until<?", (namespace, now - KEPT_MS))
