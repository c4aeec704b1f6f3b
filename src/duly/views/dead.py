"""Dead jobs by what they died of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from duly.views.jobs import JobView

MOST_GROUPS = 100
LONGEST = 200
_NUMBERS = re.compile(r"\d+")
"""Left out where jobs are grouped: "order 17 has no customer" and "order 18 has no customer" are one reason."""


class DeadGroup(msgspec.Struct, frozen=True):
    """Jobs of one task that died of the same. why: the first line of the reason or error, with … for numbers that
    differ. ids: some of them. last: when the last of those died, in epoch seconds."""

    queue: str
    task: str | None
    why: str
    count: int
    last: float
    ids: Sequence[str]


class DeadGroups(msgspec.Struct, frozen=True):
    """The largest groups first. dead: how many dead jobs there are; looked: at how many of them this looked."""

    groups: Sequence[DeadGroup]
    dead: int
    looked: int


def groups(jobs: Iterable[JobView]) -> list[DeadGroup]:
    """At most MOST_GROUPS."""
    found: dict[tuple[str, str | None, str], list[JobView]] = {}
    for job in jobs:
        found.setdefault((job.queue, job.task, _NUMBERS.sub("…", _why(job))), []).append(job)
    largest = sorted(found.items(), key=lambda item: (-len(item[1]), item[0][0], item[0][1] or "", item[0][2]))
    return [
        DeadGroup(
            key[0], key[1], _common(key[2], some), len(some), max(job.at for job in some), [job.id for job in some[:5]]
        )
        for key, some in largest[:MOST_GROUPS]
    ]


def _common(masked: str, jobs: Sequence[JobView]) -> str:
    """What all say; masked, where they differ in numbers."""
    said = {_why(job) for job in jobs}
    return said.pop() if len(said) == 1 else masked


def _why(job: JobView) -> str:
    lines = (job.error or job.reason).strip().splitlines()
    return lines[0][:LONGEST] if lines else ""
