"""What a cron writes down, so that a process killed in the middle of a claim leaves its ticks to the one that follows it.

Each line is JSON: `["ask", member, [[name, moment], …]]` before a claim is sent, `["begin", name, moment]` before the function's
first step. A killed process leaves what it wrote to the kernel; only a machine that stops loses it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from duly.errors import ConfigurationError

MOST_BYTES = 1_000_000
"""At this size the file is begun anew, with what still counts."""

_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(list[Any]).decode


class Ask(NamedTuple):
    """A claim that was sent, perhaps. member: by whom; ticks: (name, moment in ms) each."""

    member: str
    ticks: list[tuple[str, int]]


class Journal:
    """One file, of one process at a time."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = self._lock = -1
        self._size, self._turn = 0, threading.Lock()
        self.asked: list[Ask] = []
        self.begun: set[tuple[str, int]] = set()

    def open(self) -> None:
        """Read what a former process left. Raises ConfigurationError if another one uses the file, or it cannot be written."""
        try:
            import fcntl  # not on Windows
        except ImportError:
            raise ConfigurationError("a journal needs a system with flock") from None
        try:
            self._lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            lines = self.path.read_bytes().splitlines()
        except BlockingIOError:
            self.close()
            raise ConfigurationError(
                f"journal={str(self.path)!r} is used by another process: give each its own"
            ) from None
        except OSError as error:
            self.close()
            raise ConfigurationError(f"journal={str(self.path)!r}: {error.strerror}") from error
        self.asked, self.begun, self._size = [], set(), 0
        for line in lines:
            self._read(line)

    def _read(self, line: bytes) -> None:
        self._size += len(line) + 1
        try:
            kind, *rest = _decode(line)
            if kind == "ask":
                self.asked.append(Ask(str(rest[0]), [(str(name), int(moment)) for name, moment in rest[1]]))
            elif kind == "begin":
                self.begun.add((str(rest[0]), int(rest[1])))
        except (msgspec.MsgspecError, ValueError, TypeError, IndexError):
            return  # the machine stopped in the middle of a line

    def ask(self, member: str, ticks: Sequence[tuple[str, int]]) -> None:
        """A claim is about to be sent."""
        ask = Ask(member, list(ticks))
        self.asked.append(ask)
        self._write(["ask", *ask])

    def begin(self, name: str, moment: int) -> None:
        """A function is about to begin. From any thread."""
        self.begun.add((name, moment))
        self._write(["begin", name, moment])

    def forget(self, counts: Callable[[int], bool]) -> None:
        """Begin the file anew if it has grown, with ticks whose moments still count."""
        if self._size >= MOST_BYTES:
            with self._turn:
                self._begin_anew(counts)

    def _begin_anew(self, counts: Callable[[int], bool]) -> None:
        self.asked = [Ask(ask.member, [tick for tick in ask.ticks if counts(tick[1])]) for ask in self.asked]
        self.asked = [ask for ask in self.asked if ask.ticks]
        self.begun = {tick for tick in self.begun if counts(tick[1])}
        lines = [_encode(["ask", *ask]) for ask in self.asked] + [_encode(["begin", *tick]) for tick in self.begun]
        fresh = self.path.with_name(self.path.name + ".new")
        fresh.write_bytes(b"".join(line + b"\n" for line in lines))
        fresh.replace(self.path)
        os.close(self._file)
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self._size = sum(len(line) + 1 for line in lines)

    def _write(self, entry: list[Any]) -> None:
        line = _encode(entry) + b"\n"
        with self._turn:
            self._size += len(line)
            os.write(self._file, line)

    def close(self) -> None:
        """Another process may have it."""
        for handle in (self._file, self._lock):
            if handle >= 0:
                os.close(handle)
        self._file = self._lock = -1
