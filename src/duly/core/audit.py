"""Whether a schedule did what it should: the moments of its trigger held against the log of what was fired and skipped."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from duly.core.schedule import LATE_MS, Definition

MOST = 100_000
"""Moments looked at in one audit."""
Entry = tuple[int, Mapping[str, str]]
"""When it was logged (ms), and its fields: nominal, state, why, count."""


class Audit(msgspec.Struct, frozen=True):
    """What was found for moments in (since, until], all in epoch seconds.

    since: as asked, or later: where the log begins, where the definition was edited last. expected: moments of the
    trigger, less those of pauses. skipped: counts by reason. missing: neither fired nor skipped, though the mark has
    passed them. overdue: due, and not dealt with yet. doubled: fired more than once. late: (moment, seconds late).
    """

    since: float
    until: float
    expected: int
    fired: int
    skipped: Mapping[str, int]
    missing: tuple[float, ...] = ()
    overdue: tuple[float, ...] = ()
    doubled: tuple[float, ...] = ()
    late: tuple[tuple[float, float], ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether each moment was fired once, or skipped for a reason."""
        return not (self.missing or self.doubled)


def audit(definition: Definition, anchor: int, mark: int, entries: Iterable[Entry], since: int, until: int) -> Audit:
    """Hold the log of one schedule, oldest entry first, against its trigger; `since` is not before the log's begin.

    Moments in ms. mark: up to where the schedule has been dealt with.
    """
    log = list(entries)
    begun = [int(fields["nominal"]) for _, fields in log if fields["state"] in ("created", "updated")]
    since = max([since, *begun])
    pauses = _pauses(log, until)
    fired = Counter(int(fields["nominal"]) for _, fields in log if fields["state"] == "fired")
    fired = Counter({moment: count for moment, count in fired.items() if since < moment <= until})
    if definition.trigger.counts_from_completion:  # its moments are not known before its runs have ended
        expected = sorted(fired)
    else:
        moments = definition.trigger.moments(since, until, anchor)
        expected = [m for m in itertools.islice(moments, MOST) if not any(a < m <= b for a, b in pauses)]
    open_, skipped = _less_the_skipped([m for m in expected if m not in fired], log)
    late = [(int(fields["nominal"]), at) for at, fields in log if fields["state"] == "fired"]
    return Audit(
        since / 1000,
        until / 1000,
        len(expected),
        sum(fired.values()),
        skipped,
        tuple(m / 1000 for m in open_ if m <= mark),
        tuple(m / 1000 for m in open_ if m > mark),
        tuple(m / 1000 for m, count in sorted(fired.items()) if count > 1),
        tuple((m / 1000, (at - m) / 1000) for m, at in late if m in fired and at - m > LATE_MS),
    )


def _pauses(log: Iterable[Entry], until: int) -> list[tuple[int, int]]:
    """(from, to] of each pause; one that goes on lasts until the end. A resume sets the mark, so nothing is owed."""
    found: list[tuple[int, int]] = []
    begin: int | None = None
    for _, fields in log:
        if fields["state"] == "paused" and begin is None:
            begin = int(fields["nominal"])
        elif fields["state"] == "resumed":
            found.append((begin or 0, int(fields["nominal"])))
            begin = None
    return found if begin is None else [*found, (begin, until)]


def _less_the_skipped(unfired: list[int], log: Iterable[Entry]) -> tuple[list[int], dict[str, int]]:
    """What is left of the unfired moments when each entry of skipped ones, which names the last, has taken its own."""
    skipped: Counter[str] = Counter()
    left = list(unfired)
    for _, fields in log:
        if fields["state"] != "skipped":
            continue
        last, count = int(fields["nominal"]), int(fields["count"])
        taken = [m for m in left if m <= last][-count:]
        skipped[fields["why"]] += len(taken)
        gone = set(taken)
        left = [m for m in left if m not in gone]
    return left, {why: count for why, count in skipped.items() if count}
