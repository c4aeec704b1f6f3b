"""When a worker process has done enough: after so many runs, or above so much memory.

What leaks in handlers, and in the libraries that they use, is bounded so: the process stops gracefully, and whoever keeps
it running starts a fresh one.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable
from typing import Any

from duly.errors import InvalidOption
from duly.runtime.memory import resident_bytes

JITTER = 0.1
"""So much of `max_jobs` more or less: processes that were started together do not all stop together."""
LOOK = 2.0
"""Seconds between two looks at the memory."""
MB = 1024 * 1024
MOST = 1_000_000_000


class Recycling:
    """Counts runs and watches memory for one process, and asks it to stop when either is above its limit (None: never).

    Raises InvalidOption for a limit that is out of range, or that the process is above before its first job.
    """

    def __init__(self, max_jobs: int | None = None, max_memory: float | None = None) -> None:
        _check("max_jobs", max_jobs, int, "whole number")
        _check("max_memory", max_memory, (int, float), "number of megabytes")
        if max_memory is not None and sys.platform == "win32":
            raise InvalidOption("max_memory: not on Windows, which does not tell a process its memory; use max_jobs")
        if max_memory is not None and (taken := resident_bytes() / MB) > max_memory:
            raise InvalidOption(
                f"max_memory={max_memory!r}: the process takes {taken:.0f} MB before its first job; give more"
            )
        self._enough = jittered(max_jobs, random.random()) if max_jobs is not None else 0
        self._max_memory = max_memory
        self._ended = 0
        self.ask: Callable[[str], None] = lambda _why: None
        """Told why the process should stop."""

    def run_ended(self) -> None:
        """A run has ended, well or not: one more."""
        self._ended += 1
        if self._ended == self._enough:
            self.ask(f"max-jobs: {self._ended} jobs have ended")

    async def watch(self) -> None:
        """Look at the memory until it is above its limit."""
        if self._max_memory is None:
            return
        while True:
            taken = resident_bytes() / MB
            if taken > self._max_memory:
                self.ask(f"max-memory: the process takes {taken:.0f} MB")
                return
            await asyncio.sleep(LOOK)


def jittered(limit: int, chance: float) -> int:
    """The limit of one process; `chance` is a random number from 0 to 1."""
    return max(1, round(limit * (1 + JITTER * (2 * chance - 1))))


def _check(name: str, value: Any, kind: Any, what: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, kind) or not 1 <= value <= MOST:
        raise InvalidOption(f"{name}={value!r}: give a {what} from 1 to {MOST}")
