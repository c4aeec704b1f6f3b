"""Whether a schedule did what it should: the moments of its trigger held against the log of what was fired and skipped."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import msgspec

from duly.core.schedule import LATE_MS, Definition

AHEAD_MS = 400 * 86_400_000
MOST = 100_000
"""Moments looked at in one audit."""
Entry = tuple[int, Mapping[str, str]]
"""When it was logged (ms), and its fields: nominal, state, why, count."""


class Tick(msgspec.Struct, frozen=True):
    """One moment of a schedule (epoch seconds) and what became of it.

    fired, late (fired more than a second after it), skipped (why), missing (neither, though the mark has passed it), overdue
    (due, and not dealt with yet), coming. at: when it was fired.
    """

    moment: float
    state: Literal["fired", "late", "skipped", "missing", "overdue", "coming"]
    at: float | None = None
    why: str = ""


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


class _Reading(NamedTuple):
    """The log of one schedule beside its trigger: moments in (since, until]. fired: (moment, when). open: expected, and neither
    fired nor skipped. skipped: (moment, why)."""

    since: int
    expected: list[int]
    fired: list[tuple[int, int]]
    open: list[int]
    skipped: list[tuple[int, str]]


def audit(definition: Definition, anchor: int, mark: int, entries: Iterable[Entry], since: int, until: int) -> Audit:
    """Hold the log of one schedule, oldest entry first, against its trigger; `since` is not before the log's begin.

    Moments in ms. mark: up to where the schedule has been dealt with.
    """
    read = _read(definition, anchor, list(entries), since, until)
    counts = Counter(moment for moment, _ in read.fired)
    return Audit(
        read.since / 1000,
        until / 1000,
        len(read.expected),
        len(read.fired),
        dict(Counter(why for _, why in read.skipped)),
        tuple(m / 1000 for m in read.open if m <= mark),
        tuple(m / 1000 for m in read.open if m > mark),
        tuple(m / 1000 for m, count in sorted(counts.items()) if count > 1),
        tuple((m / 1000, (at - m) / 1000) for m, at in read.fired if at - m > LATE_MS),
    )


def ticks(definition: Definition, anchor: int, mark: int, entries: Iterable[Entry], since: int, until: int,
          coming: int) -> list[Tick]:  # fmt: skip
    """What became of each moment in (since, until], as `audit` sees it, and the next `coming` ones; by moment. In ms."""
    read = _read(definition, anchor, list(entries), since, until)
    found = [Tick(m / 1000, "late" if at - m > LATE_MS else "fired", at / 1000) for m, at in read.fired]
    found += [Tick(m / 1000, "skipped", None, why) for m, why in read.skipped]
    found += [Tick(m / 1000, "missing" if m <= mark else "overdue") for m in read.open]
    if not definition.trigger.counts_from_completion:
        ahead = itertools.islice(definition.trigger.moments(until, until + AHEAD_MS, anchor), coming)
        found += [Tick(m / 1000, "coming") for m in ahead]
    return sorted(found, key=lambda tick: tick.moment)


def _read(definition: Definition, anchor: int, log: list[Entry], since: int, until: int) -> _Reading:
    begun = [int(fields["nominal"]) for _, fields in log if fields["state"] in ("created", "updated")]
    since = max([since, *begun])
    all_fired = [(int(fields["nominal"]), at) for at, fields in log if fields["state"] == "fired"]
    fired = [(moment, at) for moment, at in all_fired if since < moment <= until]
    known = {moment for moment, _ in fired}
    if definition.trigger.counts_from_completion:  # its moments are not known before its runs have ended
        expected = sorted(known)
    else:
        pauses, moments = _pauses(log, until), definition.trigger.moments(since, until, anchor)
        expected = [m for m in itertools.islice(moments, MOST) if not any(a < m <= b for a, b in pauses)]
    open_, skipped = _less_the_skipped([m for m in expected if m not in known], log)
    return _Reading(since, expected, fired, open_, skipped)


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


def _less_the_skipped(unfired: list[int], log: Iterable[Entry]) -> tuple[list[int], list[tuple[int, str]]]:
    """What is left of the unfired moments when each entry of skipped ones, which names the last, has taken its own."""
    left, skipped = list(unfired), []
    for _, fields in log:
        if fields["state"] == "skipped":
            end = bisect_right(left, int(fields["nominal"]))
            begin = max(0, end - int(fields["count"]))
            skipped += [(moment, fields["why"]) for moment in left[begin:end]]
            del left[begin:end]
    return left, skipped
