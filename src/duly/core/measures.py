"""What is counted of runs, and how: a tally per task, with times in log-linear buckets of microseconds.

An octave (from one power of two to the next) has four buckets, so whatever the size of a time, what is read out of its
bucket is less than 13 % off; below 8 µs each bucket is one value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from duly.core.job import Claimed
from duly.core.lifecycle import END, Change

LAST = 155
"""The bucket of all that is longer than eleven days."""
ENDS = ("succeeded", "failed", "dead", "cancelled", "put_back", "taken")
"""What becomes of a claimed job: see `end_of`; taken: its lease was another's before its end was written."""
RAN, LATE = "r:", "l:"
"""Before the number of a bucket: of times that runs took, and of times from when they were due."""
MOST_TASKS = 200
"""Of so many tasks a minute is counted apart."""
OTHERS = "(others)"
"""Stands for the tasks beyond."""
KEEP_MINUTES = 720
"""How long minutes are kept."""
MOST_MINUTES = 1440
"""Minutes that one call answers."""

Counts = Mapping[str, int]
"""By counter: `started`, one of ENDS, RAN or LATE with a bucket."""


def bucket_of(us: int) -> int:
    """The bucket of a time in µs, not negative; a longer time never has a lower one."""
    bits = us.bit_length()
    if bits < 3:
        return us
    return 4 * (bits - 3) + (us >> (bits - 3)) if bits <= 40 else LAST


_TABLE = 4096
_OF_US = bytes(map(bucket_of, range(_TABLE)))
_OF_MS = bytes(bucket_of(ms * 1000) for ms in range(_TABLE))


def bounds(bucket: int) -> tuple[int, int]:
    """(the least time in a bucket, the least beyond it), in µs."""
    if bucket < 4:
        return bucket, bucket + 1
    octave, quarter = divmod(bucket, 4)
    width = 1 << (octave - 1)
    return (4 + quarter) * width, (5 + quarter) * width


def percentile(buckets: Mapping[int, int], q: float) -> float:
    """The time, in seconds, that the part `q` (from 0 to 1) of all times does not exceed; 0.0 if there are none."""
    rank, seen = max(1, math.ceil(q * sum(buckets.values()))), 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= rank:
            low, high = bounds(bucket)
            return (low + high - 1) / 2_000_000
    return 0.0


def buckets_of(counts: Counts, kind: str) -> dict[int, int]:
    """The buckets among counters; kind: RAN or LATE."""
    return {int(name[len(kind) :]): n for name, n in counts.items() if name.startswith(kind)}


def end_of(job: Claimed, change: Change) -> str:
    """Which of ENDS a change is: failed if the job runs again because this run failed or crashed, put_back if it was not to
    blame; cancelled if it is over without having been done (cancelled, discarded, expired)."""
    if change is END:
        return "succeeded"
    if change.verb == "dead":
        return "dead"
    if change.verb == "end":
        return "cancelled" if change.reason else "succeeded"
    return "failed" if change.attempts > job.attempts or change.crashes > job.crashes else "put_back"


class Tally:
    """What became of one task's runs in one queue, since the process began. ran, late: so many times in each bucket;
    ran_us, late_us: their sums."""

    __slots__ = ("ends", "late", "late_us", "ran", "ran_us", "started")

    def __init__(self) -> None:
        self.started = self.ran_us = self.late_us = 0
        self.ends = dict.fromkeys(ENDS, 0)
        self.ran, self.late = [0] * (LAST + 1), [0] * (LAST + 1)

    def note(self, took: float, claimed: int, due: int) -> None:
        """One run is over: for how many seconds it ran; when it was claimed and due (ms, the store's clock; 0: not known).

        The tables spare most runs a call each: this is on a job's path.
        """
        us = int(took * 1_000_000)
        self.ran_us += us
        self.ran[_OF_US[us] if us < _TABLE else bucket_of(us)] += 1
        if due:
            ms = claimed - due
            if ms > 0:
                self.late_us += ms * 1000
                self.late[_OF_MS[ms] if ms < _TABLE else bucket_of(ms * 1000)] += 1
            else:
                self.late[0] += 1

    def counts(self) -> dict[str, int]:
        """All counters that are not zero, by the names under which they are stored."""
        counts = {"started": self.started, **self.ends}
        counts |= {f"{RAN}{bucket}": n for bucket, n in enumerate(self.ran)}
        counts |= {f"{LATE}{bucket}": n for bucket, n in enumerate(self.late)}
        return {name: n for name, n in counts.items() if n}


def key_of(queue: str, task: str) -> str:
    """The name under which a task of a queue is counted."""
    return f"{queue}\n{task}"


def read_key(key: str) -> tuple[str, str]:
    """(queue, task) of a name; the queue of OTHERS is empty."""
    queue, _, task = key.rpartition("\n")
    return queue, task


def less(after: Counts, before: Counts) -> dict[str, int]:
    """What has been added."""
    return {name: n - before.get(name, 0) for name, n in after.items() if n != before.get(name, 0)}


def add(minute: dict[str, dict[str, int]], counts: Mapping[str, Counts]) -> Iterator[str]:
    """Add the counts of tasks to those of a minute, which has at most MOST_TASKS of them and OTHERS; the names that have
    changed."""
    for task, more in counts.items():
        name = task if task in minute or len(minute) < MOST_TASKS else OTHERS
        there = minute.setdefault(name, {})
        for counter, n in more.items():
            there[counter] = there.get(counter, 0) + n
        yield name


def check_minutes(first: int, last: int) -> None:
    """Raises ValueError for more than MOST_MINUTES."""
    if last - first >= MOST_MINUTES:
        raise ValueError(f"minutes {first} to {last}: at most {MOST_MINUTES} in one call; make several calls")


def few(counts: Mapping[str, Counts]) -> Mapping[str, Counts]:
    """At most MOST_TASKS tasks, those that started most; and OTHERS, if there are more."""
    if len(counts) <= MOST_TASKS:
        return counts
    names = sorted(counts, key=lambda name: (-counts[name].get("started", 0), name))
    kept: dict[str, dict[str, int]] = {name: dict(counts[name]) for name in names[:MOST_TASKS]}
    for _ in add(kept, {name: counts[name] for name in names[MOST_TASKS:]}):
        pass
    return kept
