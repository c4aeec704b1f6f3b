"""How SQLite finds what the store asks it for: `python -m tests.stores.plans` runs the contract's tests, and says of each step
of a statement that looks through a whole table, or through all that a shard has in it.

What is left out looks through no table that grows: the arguments of a call, and what a part of the statement has found.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from duly.stores.sqlite import file
from duly.stores.sqlite.file import Place

SUITES = Path(__file__).with_name("test_sqlite.py")
ASKS = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
WHOLE = re.compile(r"^SCAN|(PRIMARY KEY|autoindex_\w+) \((shard|namespace)=\?\)$")
BOUNDED = ("CONSTANT ROW", "json_each", "subquery", "sqlite_master")


class Listening(sqlite3.Connection):
    """A connection that remembers what was asked."""

    asked: dict[str, int] = {}  # noqa: RUF012  of the whole run: the statement, and how many values it was given

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        self.asked[sql] = len(values[0]) if values else 0
        return super().execute(sql, *values)


def _open(place: Place) -> sqlite3.Connection:
    return sqlite3.connect(place.path, timeout=5, isolation_level=None, cached_statements=512, factory=Listening)


def _slow_steps() -> list[str]:
    """Of all that was asked: the step, and the statement."""
    found = []
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        made = file._schema()
        for statement in made:
            db.execute(statement)
        for sql in sorted(Listening.asked.keys() - set(made)):
            if sql.lstrip().upper().startswith(ASKS):
                for *_, step in db.execute(f"EXPLAIN QUERY PLAN {sql}", [1] * Listening.asked[sql]):
                    if WHOLE.search(step) and not any(word in step for word in BOUNDED):
                        found.append(f"{step}: {' '.join(sql.split())}")
    return found


def main() -> None:
    file.open_bare = _open
    only = "TestJobs or TestFaults or TestCare or TestSchedules or TestCluster"
    if pytest.main(["-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-W", "ignore", "-k", only, str(SUITES)]):
        sys.exit("the contract's tests failed")
    sys.stdout.write("\n".join([*_slow_steps(), f"{len(Listening.asked)} statements"]))


if __name__ == "__main__":
    main()
