"""Nodes as real processes, and the ledger in which their handlers write down what they did.

A test run can die without any clean-up, so each process has a guard that kills it by its pid then (see tests.servers).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parent.parent.parent
LOOK = 0.01  # seconds between two looks at a fact
T = TypeVar("T")


class NodeProcess:
    """One `python ARGUMENTS…`: `-m duly worker app:scheduler`, or a program."""

    def __init__(self, log: Path, *arguments: str, env: dict[str, str] | None = None, cwd: Path = ROOT) -> None:
        self.command = [sys.executable, *arguments]
        self._log, self._cwd = log, cwd
        self._env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1", **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def start(self) -> NodeProcess:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, cwd=self._cwd, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests
            )  # fmt: skip
        guard = f"read _ || kill -9 {self._process.pid}"
        self._guard = subprocess.Popen(
            ["sh", "-c", guard], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None, "start() it first"
        return self._process.pid

    @property
    def output(self) -> str:
        """All that it has written so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def code(self) -> int | None:
        """Its exit code, or None while it runs."""
        assert self._process is not None, "start() it first"
        return self._process.poll()

    def says(self, text: str, within: float = 15) -> NodeProcess:
        """Wait until its output holds the text."""
        until(lambda: text in self.output or self.code is not None, within, f"{text!r} in the output of {self}")
        assert text in self.output, f"{self} ended with {self.code} and never said {text!r}:\n{self.output}"
        return self

    def is_up(self) -> NodeProcess:
        """Wait until it serves its queues."""
        return self.says(": namespace ")

    def stop_signal(self, number: int = signal.SIGTERM) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = 15) -> int:
        """Its exit code, once it has ended."""
        assert self._process is not None, "start() it first"
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} has not ended within {seconds:g} s:\n{self.output}") from None

    def kill(self) -> None:
        """kill -9, and wait until it is gone. Repeatable."""
        guard, self._guard = self._guard, None
        if guard is not None:  # first: later the pid could be somebody else's
            guard.kill()
            guard.communicate()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __repr__(self) -> str:
        return f"<node {self._log.stem}>"


def until(fact: Callable[[], T], within: float, what: str = "the fact") -> T:
    """Wait for a true answer of `fact`, and return it."""
    end = time.monotonic() + within
    while not (found := fact()):
        assert time.monotonic() < end, f"{what} did not come within {within:g} s"
        time.sleep(LOOK)
    return found


@dataclass(frozen=True)
class Entry:
    """What a handler wrote down. at: CLOCK_MONOTONIC, the same for all processes of a machine."""

    what: str
    job: str
    pid: int
    at: float
    facts: dict[str, Any]


class Ledger:
    """An append-only file: one line an entry, written in one call, so that processes do not mix."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, what: str, job: str, **facts: Any) -> None:
        line = json.dumps([what, job, os.getpid(), time.monotonic(), facts]) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def read(self, what: str = "", job: str = "") -> list[Entry]:
        """The entries so far, all or those of a kind or job."""
        text = self.path.read_text() if self.path.exists() else ""
        text = text[: text.rfind("\n") + 1]  # the last line may be on its way
        entries: Iterator[Entry] = (Entry(*json.loads(line)) for line in text.splitlines())
        return [entry for entry in entries if what in ("", entry.what) and job in ("", entry.job)]

    def has(self, count: int, what: str, job: str = "", within: float = 10) -> list[Entry]:
        """Wait for that many entries."""
        return until(
            lambda: found if len(found := self.read(what, job)) >= count else None,
            within,
            f"{count} {what!r} of job {job or 'any'} in the ledger",
        )
