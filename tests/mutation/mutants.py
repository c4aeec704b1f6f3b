"""What is mutated and what a mutant is. Pure: text in, mutants out; `lua` and `sqlite` know the languages.

Of the Redis store every script and every part. Of the SQLite store the modules whose code runs inside a verb's step:
room, keep, claim, settle, jobs, care, schedules, locks, and the registry of store. Left out, since none of their
lines decides what a verb writes: file (opening, formats, errors), thread (queue and group commit), forks, checkpoint
(the log), health (what `doctor` asks), wake (the waiting; that the token is left is said by room and keep). Their tests
are `tests/stores/test_sqlite_file.py` and the second half of `test_sqlite.py`. `stores/editing.py` is left out too: the
memory store, with which the others are compared, runs the same lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

STORES = Path("src/duly/stores")
LUA = STORES / "redis" / "lua"
SQLITE = STORES / "sqlite"
SQLITE_MODULES = ("room", "keep", "claim", "schedules", "settle", "jobs", "care", "locks", "store")
"""In the order in which they import each other: the worker loads them anew in it."""


class Edit(NamedTuple):
    """One change of a text: the characters from start to end become `new`."""

    start: int
    end: int
    new: str


class Mutant(NamedTuple):
    """One changed file. line: where it begins. text: the changed lines, by which explanations find it."""

    file: str
    line: int
    text: str
    source: str


def paths(root: Path, store: str | None = None) -> list[Path]:
    """The files that are mutated, relative to the root."""
    found: list[Path] = []
    if store in (None, "redis"):
        found += sorted((root / LUA).rglob("*.lua"))
    if store in (None, "sqlite"):
        found += [root / SQLITE / f"{name}.py" for name in SQLITE_MODULES]
    return [path.relative_to(root) for path in found]


def mutants_of(root: Path, path: Path) -> list[Mutant]:
    """All mutants of one file."""
    from tests.mutation import lua, sqlite  # they make edits for us

    source = (root / path).read_text(encoding="utf-8")
    edits = lua.edits(source) if path.suffix == ".lua" else sqlite.edits(source)
    return list(applied(str(path), source, edits))


def applied(file: str, source: str, edits: Iterable[Edit]) -> Iterator[Mutant]:
    """Each edit as a mutant; those that change nothing, or the same as one before, are left out."""
    seen = {source}
    for edit in sorted(edits):
        mutated = source[: edit.start] + edit.new + source[edit.end :]
        if mutated not in seen:
            seen.add(mutated)
            yield Mutant(file, source.count("\n", 0, edit.start) + 1, described(source, edit), mutated)


def described(source: str, edit: Edit) -> str:
    """The changed lines as they now read, in one line, and what was there before; a statement that is gone is named."""
    begin = source.rfind("\n", 0, edit.start) + 1
    end = source.find("\n", edit.end)
    end = len(source) if end < 0 else end
    old = source[edit.start : edit.end]
    if edit.new in ("", "pass") and not source[begin : edit.start].strip():
        rest = source[edit.end : end].strip()
        if not rest or rest.startswith(("--", "#")):
            return "without: " + _one_line(old)
    now = _one_line(source[begin : edit.start] + edit.new + source[edit.end : end])
    before = _one_line(_difference(old, edit.new))
    return f"{now} (was: {before})" if before else now


def _difference(old: str, new: str) -> str:
    """The part of `old` that is not in `new`."""
    begin = _common(old, new)
    return old[begin : len(old) - _common(old[begin:][::-1], new[begin:][::-1])]


def _common(one: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = zip(one, other, strict=False)
    return next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _one_line(text: str) -> str:
    return " ".join(text.split())
