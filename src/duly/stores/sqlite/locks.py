"""The locks of an SQLite file: who holds a place, and who waits for one, in the order of their tickets."""

from __future__ import annotations

import sqlite3

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


def _forget(db: sqlite3.Connection, namespace: str, now: int) -> None:
    """Whose time is over is gone, and in the end the fence too."""
    db.execute("DELETE FROM lock_places WHERE namespace=? AND until<=?", (namespace, now))
    db.execute("DELETE FROM locks WHERE namespace=? AND until<?", (namespace, now - KEPT_MS))
