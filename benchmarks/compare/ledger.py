"""What handlers write down while they are measured: one file, mapped by the runner and by every process of a worker.

It is the same for each peer and costs a job half a microsecond: a count for each process, and for each job that is asked
to be stamped the times of its push, of its first start and of its second.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from pathlib import Path

COUNTERS = 4096
"""Cells for counts; a process has that of its pid, so none waits for another."""
TIMES = 3
PUSHED, STARTED, AGAIN = range(TIMES)


class Ledger:
    """A file of COUNTERS integers and TIMES columns of `jobs` times in seconds since the epoch (0: has not happened)."""

    def __init__(self, path: Path, jobs: int | None = None) -> None:
        if jobs is not None:
            path.write_bytes(bytes(8 * (COUNTERS + TIMES * jobs)))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.path = path
        self.jobs = (len(self._map) // 8 - COUNTERS) // TIMES
        self._counts = memoryview(self._map)[: 8 * COUNTERS].cast("q")
        self._times = memoryview(self._map)[8 * COUNTERS :].cast("d")
        self._lock = threading.Lock()

    def count(self) -> None:
        """One more job has run in this process."""
        with self._lock:
            self._counts[os.getpid() % COUNTERS] += 1

    def total(self) -> int:
        return sum(self._counts)

    def note(self, column: int, job: int) -> None:
        """It is now that this happens to the job."""
        self._times[column * self.jobs + job] = time.time()

    def start(self, job: int) -> None:
        """The job starts: for the first time, or again."""
        self.note(AGAIN if self._times[STARTED * self.jobs + job] else STARTED, job)
        self.count()

    def times(self, column: int, first: int, count: int) -> list[float]:
        """Of `count` jobs from `first`."""
        begin = column * self.jobs + first
        return self._times[begin : begin + count].tolist()

    def clear(self) -> None:
        """Everything is 0 again; no worker may be running."""
        self._map[:] = bytes(len(self._map))


def opened() -> Ledger:
    """The ledger of this run, in a process that the runner has started."""
    return Ledger(Path(os.environ["BENCH_LEDGER"]))
