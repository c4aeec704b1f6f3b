"""What was counted of runs, as people look at it: numbers over time, and of each task."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from duly.core.measures import ENDS, LATE, RAN, Counts, buckets_of, percentile, read_key

MINUTE = 60
MOST_POINTS = 240
"""Of one series; over a longer time each point stands for several minutes."""


class Times(msgspec.Struct, frozen=True):
    """Seconds that half, 95 and 99 of 100 runs did not exceed."""

    p50: float
    p95: float
    p99: float


class Point(msgspec.Struct, frozen=True):
    """What was counted in the time that begins `at` (epoch seconds). ended: in whichever way, without those put back.

    run: how long runs took; late: how long after they were due they began; None where nothing was measured.
    """

    at: float
    started: int
    ended: int
    succeeded: int
    failed: int
    dead: int
    cancelled: int
    put_back: int
    taken: int
    run: Times | None
    late: Times | None


class TaskMeasures(msgspec.Struct, frozen=True):
    """The whole time of one task of a queue. The queue of "(others)", which stands for all tasks beyond those that are counted
    apart, is empty."""

    queue: str
    task: str
    sum: Point


class Measures(msgspec.Struct, frozen=True):
    """points: one for each `step` seconds from `since` on, the last one not whole yet. tasks: those that started most first.
    is_kept: whether the store keeps measures at all."""

    since: float
    step: int
    points: Sequence[Point]
    sum: Point
    tasks: Sequence[TaskMeasures]
    is_kept: bool = True


def step_of(minutes: int) -> int:
    """How many minutes a point stands for."""
    return max(1, math.ceil(minutes / MOST_POINTS))


def measures(
    found: Mapping[int, Mapping[str, Counts]], first: int, last: int, queue: str = "", task: str = ""
) -> Measures:
    """Of the minutes from `first` to `last`; of one queue or task only, if they are given."""
    step = step_of(last - first + 1)
    points: list[dict[str, int]] = [{} for _ in range(first, last + 1, step)]
    tasks: dict[str, dict[str, int]] = {}
    for minute, by_key in found.items():
        for key, counts in by_key.items():
            theirs = read_key(key)
            if not first <= minute <= last or (queue and theirs[0] != queue) or (task and theirs[1] != task):
                continue
            _add(points[(minute - first) // step], counts)
            _add(tasks.setdefault(key, {}), counts)
    since = first * MINUTE
    of_tasks = [TaskMeasures(*read_key(key), _point(since, counts)) for key, counts in tasks.items()]
    return Measures(
        since, step * MINUTE, [_point(since + i * step * MINUTE, counts) for i, counts in enumerate(points)],
        _point(since, _sum(tasks.values())),
        sorted(of_tasks, key=lambda one: (-one.sum.started, one.queue, one.task)),
    )  # fmt: skip


def _add(to: dict[str, int], counts: Counts) -> None:
    for name, n in counts.items():
        to[name] = to.get(name, 0) + n


def _sum(all_: Iterable[Counts]) -> dict[str, int]:
    total: dict[str, int] = {}
    for counts in all_:
        _add(total, counts)
    return total


def _point(at: float, counts: Counts) -> Point:
    ends = {end: counts.get(end, 0) for end in ENDS}
    ended = sum(n for end, n in ends.items() if end != "put_back")
    return Point(
        at,
        counts.get("started", 0),
        ended,
        **ends,
        run=_times(buckets_of(counts, RAN)),
        late=_times(buckets_of(counts, LATE)),
    )


def _times(buckets: Mapping[int, int]) -> Times | None:
    return Times(*(percentile(buckets, q) for q in (0.5, 0.95, 0.99))) if buckets else None
