"""Opening the file: the URL that names it, the settings of a connection, the tables, the errors of SQLite as ours.

What `synchronous=NORMAL` keeps (the default): with a write-ahead log a killed process loses nothing that was answered,
and the file is sound after anything; when the machine itself loses power, the last commits may be gone. `?synchronous=full`
waits for the disk at each commit, and keeps those too.
"""

from __future__ import annotations

import os
import sqlite3
import time
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from duly.errors import (
    FormatError,
    InvalidURL,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    StoreUncertain,
    nearest,
)
from duly.stores.base import FORMAT

SCHEME = "sqlite://"
OLDEST = (3, 35)
"""RETURNING, and the upserts that we use."""
BUSY_SECONDS = 5.0
"""How long SQLite itself waits for another process's write to end, before we hear of it."""
WAL_TRIES = 500
WAL_PAUSE = 0.01
SYNCHRONOUS = ("normal", "full")
TABLES = frozenset(
    {"meta", "shards", "jobs", "ended", "unique_keys", "results", "calls", "schedules", "entries", "nodes", "queues",
     "locks", "lock_places", "pauses", "measures"}
)  # fmt: skip
LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class Place(NamedTuple):
    """Where the file is, and how careful its commits are."""

    url: str
    path: str
    synchronous: str


def read_url(given: str | os.PathLike[str]) -> Place:
    """The place that a URL or path names. Raises InvalidURL; touches no file."""
    text = os.fspath(given)
    if not text.startswith(SCHEME):
        if not text or "://" in text or text.startswith(":"):
            raise InvalidURL(f"{text!r} names no file: write sqlite:///relative/path.db or sqlite:////absolute/path.db")
        return Place(f"{SCHEME}/{text}", text, SYNCHRONOUS[0])
    path, _, query = text.removeprefix(SCHEME).partition("?")
    if not path.startswith("/") or path == "/" or path.startswith("/:"):
        raise InvalidURL(
            f"{text!r} names no file: three slashes and a relative path (sqlite:///duly.db), or four for an absolute one "
            "(sqlite:////var/lib/duly.db); what needs no file is memory://"
        )
    options = dict(parse_qsl(query, keep_blank_values=True))
    synchronous = options.pop("synchronous", SYNCHRONOUS[0]).lower()
    if options:
        name = next(iter(options))
        raise InvalidURL(f"{text!r}: unknown parameter {name!r}; {nearest(name, ['synchronous'])}")
    if synchronous not in SYNCHRONOUS:
        raise InvalidURL(f"{text!r}: synchronous={synchronous}; give one of {', '.join(SYNCHRONOUS)}")
    return Place(text, unquote(path[1:]), synchronous)


def open_file(place: Place) -> sqlite3.Connection:
    """A connection in autocommit mode to a file with our tables in it, made if they were not there."""
    if sqlite3.sqlite_version_info < OLDEST:
        raise StoreRefused(
            f"this Python brings SQLite {sqlite3.sqlite_version}; the oldest supported is {OLDEST[0]}.{OLDEST[1]}"
        )
    folder = Path(place.path).absolute().parent
    if not folder.is_dir():
        raise StoreUnavailable(f"{place.url}: there is no folder {folder}; make it, or name another path")
    try:
        db = open_bare(place)
    except sqlite3.Error as error:
        raise translated(error, place.url) from error
    try:
        _switch_to_wal(db, place)
        db.execute("PRAGMA wal_autocheckpoint=0")  # see `checkpoint`
        db.execute("PRAGMA journal_size_limit=0")
        db.execute(f"PRAGMA synchronous={place.synchronous}")
        db.execute("PRAGMA temp_store=memory")
        db.execute("PRAGMA cache_size=-32768")
        _make_tables(db, place)
    except BaseException as error:
        db.close()
        if isinstance(error, sqlite3.Error):
            raise translated(error, place.url) from error
        raise
    return db


def open_bare(place: Place) -> sqlite3.Connection:
    """A connection in autocommit mode; nothing is read or set yet."""
    return sqlite3.connect(place.path, timeout=BUSY_SECONDS, isolation_level=None, cached_statements=512)


def _switch_to_wal(db: sqlite3.Connection, place: Place) -> None:
    """Two processes that do this to a new file at once: one hears "database is locked" at once, whatever its time-out."""
    for left in range(WAL_TRIES, -1, -1):
        try:
            (mode,) = db.execute("PRAGMA journal_mode=WAL").fetchone()
            if mode != "wal":
                raise StoreRefused(f"{place.url}: the file cannot have a write-ahead log: is it on a network drive?")
            return
        except sqlite3.OperationalError as error:
            if not is_locked(error) or not left:
                raise
        time.sleep(WAL_PAUSE)


def _make_tables(db: sqlite3.Connection, place: Place) -> None:
    """All tables of this format, also in a file that was made when it had fewer."""
    if _is_whole(db, place):
        return
    begin(db, "IMMEDIATE")
    try:
        if not _is_whole(db, place):
            for statement in _schema():
                db.execute(statement)
            db.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (FORMAT,))
        db.execute("COMMIT")
    except BaseException:
        roll_back(db)
        raise


def _is_whole(db: sqlite3.Connection, place: Place) -> bool:
    """Whether the file has every table; False if it is new, too."""
    names = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not names:
        return False
    found = db.execute("SELECT value FROM meta WHERE name = 'format'").fetchone() if "meta" in names else None
    if found is None:
        raise StoreRefused(f"{place.url} is an SQLite file of something else: name a file of duly's own")
    if found[0] > FORMAT:
        raise FormatError(
            f"{place.url} holds data of format {found[0]}; this duly reads up to {FORMAT}: upgrade this node"
        )
    return names >= TABLES


def _schema() -> list[str]:
    text = resources.files("duly.stores.sqlite").joinpath("schema.sql").read_text(encoding="utf-8")
    if sqlite3.sqlite_version_info < (3, 37):
        text = text.replace(") STRICT, WITHOUT", ") WITHOUT").replace(") STRICT;", ");")
    bare = "\n".join(line.partition("--")[0] for line in text.splitlines())
    return [statement for statement in bare.split(";") if statement.strip()]


# --- transactions and errors -----------------------------------------------------------------------------------------


def begin(db: sqlite3.Connection, kind: str, tries: int = 2) -> None:
    """BEGIN, waiting for other processes under a bound: SQLite's own time-out, so many times."""
    for left in range(tries - 1, -1, -1):
        try:
            db.execute(f"BEGIN {kind}")
            return
        except sqlite3.OperationalError as error:
            if not is_locked(error) or not left:
                raise


def roll_back(db: sqlite3.Connection) -> None:
    """Undo the transaction, if SQLite has not done so by itself (it does when the disk is full)."""
    if db.in_transaction:
        db.execute("ROLLBACK")


def code_of(error: BaseException) -> int:
    """The primary result code of an error of SQLite."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def is_locked(error: BaseException) -> bool:
    """Whether another connection was in the way."""
    return code_of(error) in LOCKED


def translated(error: BaseException, url: str, committing: bool = False) -> BaseException:
    """An error of SQLite as one of ours, with what to do now; anything else as it is."""
    if not isinstance(error, sqlite3.Error) or isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return error
    code = code_of(error)
    kinds: dict[int, tuple[type[StoreError], str]] = {
        sqlite3.SQLITE_FULL: (StoreFull, "the disk is full: free space, or move the file; nothing was applied"),
        sqlite3.SQLITE_BUSY: (
            StoreUnavailable,
            f"database is locked: another process wrote for {2 * BUSY_SECONDS:g} s (an open shell?); nothing was applied",
        ),
        sqlite3.SQLITE_READONLY: (StoreRefused, "the file cannot be written by this user; nothing was applied"),
        sqlite3.SQLITE_CANTOPEN: (StoreUnavailable, "the file cannot be opened: is its folder there, and writable?"),
        sqlite3.SQLITE_NOTADB: (StoreRefused, "the file is no SQLite file: name another"),
        sqlite3.SQLITE_CORRUPT: (StoreRefused, "the file is damaged: restore it, or recover it with the sqlite3 shell"),
    }
    kinds[sqlite3.SQLITE_LOCKED] = kinds[sqlite3.SQLITE_BUSY]
    kind, sentence = kinds.get(code, (StoreUncertain if committing else StoreRefused, "SQLite refused"))
    return kind(f"{url}: {sentence} ({error})")


Row = tuple[Any, ...]
