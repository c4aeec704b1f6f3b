# architecture: triggers contain triggers; msgspec finds the members of that union by name, in one module
"""The rules for moments, as values: `cron(...)`, `every(...)`, `at(...)`.

A trigger is a frozen struct that can be compared, hashed, encoded with msgspec and decoded as the union `Trigger`. It
reads no clock and keeps no place: a moment goes in, a moment comes out, both whole epoch milliseconds. `anchor` is the
moment from which an `Every` without a start of its own counts: the store's time when the schedule was created.

The order of the fields is the wire format: new ones come last and have a default.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast
from zoneinfo import ZoneInfo

import msgspec

from duly.core.calendar import Days, days
from duly.core.cron import DST, Timetable, timetable
from duly.core.cron_words import describe, is_bound_to_a_clock
from duly.core.moments import (
    EPOCH,
    FIRST,
    LAST,
    MS,
    UNITS,
    duration_words,
    exact,
    from_datetime,
    multiple_words,
    read_moment,
    round_up,
    show,
    whole_ms,
)
from duly.errors import InvalidTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_PARTS = 100
SEARCH = 10_000
"""How many excluded days, hours or minutes a search for a moment passes over."""


class _Moments(msgspec.Struct, frozen=True, array_like=True):
    """What every trigger can do, given `after` and `before`."""

    def after(self, moment: int, anchor: int = 0) -> int | None:
        """The first moment strictly after `moment` (epoch ms); None if there is none."""
        raise NotImplementedError

    def before(self, moment: int, anchor: int = 0) -> int | None:
        """The last moment strictly before `moment` (epoch ms); None if there is none."""
        raise NotImplementedError

    def describe(self) -> str:
        """The trigger in plain words."""
        raise NotImplementedError

    @property
    def zone(self) -> tzinfo:
        """The zone in which people read this trigger's moments."""
        return UTC

    def moments(self, after: int, until: int, anchor: int = 0) -> Iterator[int]:
        """The moments in (after, until], ascending; all epoch ms."""
        moment = self.after(after, anchor)
        while moment is not None and moment <= until:
            yield moment
            moment = self.after(moment, anchor)

    @property
    def counts_from_completion(self) -> bool:
        """Whether the anchor is to be the end of the last run."""
        return False

    def first(self, now: int) -> int | None:
        """The first moment of a schedule made at `now`, if the trigger names it itself (epoch ms)."""
        return None

    def __or__(self, other: Trigger) -> AnyOf:
        """The moments of either: `cron("0 9 * * mon-fri") | cron("0 11 * * sat")`."""
        return AnyOf((*_parts(self), *_parts(other)))

    def excluding(self, *what: str | date | Cron, timezone: str = "") -> Except:
        """Without the moments on some days, or at times that a cron expression names, in `timezone` (the trigger's own
        by default): `every(hours=1).excluding("sat", "sun", date(2026, 12, 25), cron("* 0-6 * * *"))`.

        Raises InvalidTrigger.
        """
        named = [part for part in what if not isinstance(part, Cron)]
        zone = timezone or getattr(self.zone, "key", "UTC")
        calendars = [days(named, zone)] if named else []
        return Except(cast("Trigger", self), (*calendars, *(part for part in what if isinstance(part, Cron))))

    def between(self, start: datetime | float | None = None, end: datetime | float | None = None) -> Between:
        """Only the moments from `start` to `end`, both included; aware datetimes or epoch seconds. Raises InvalidTrigger."""
        first = None if start is None else read_moment(start, "start")
        return Between(cast("Trigger", self), first, None if end is None else read_moment(end, "end"))

    def count(self, after: int, until: int, anchor: int = 0, limit: int = 1_000_000) -> int:
        """How many moments lie in (after, until] (epoch ms); counting one by one ends at `limit`."""
        moments = self.moments(after, until, anchor)
        return sum(1 for _ in zip(range(limit), moments, strict=False))

    def upcoming(self, n: int, start: datetime, anchor: int = 0) -> list[datetime]:
        """The next `n` moments strictly after `start`, aware, in the trigger's zone; fewer if there are no more."""
        moment: int | None = from_datetime(start, "start")
        found: list[datetime] = []
        while len(found) < n and moment is not None and (moment := self.after(moment, anchor)) is not None:
            found.append((EPOCH + moment * MS).astimezone(self.zone))
        return found


class Cron(_Moments, frozen=True, array_like=True, tag="cron"):
    """The moments of a cron expression in a time zone; made by `cron()`."""

    expression: str
    timezone: str = "UTC"
    dst: DST = "vixie"

    def __post_init__(self) -> None:
        timetable(self.expression, self.timezone, self.dst)

    @property
    def _timetable(self) -> Timetable:
        return timetable(self.expression, self.timezone, self.dst)

    @property
    def zone(self) -> tzinfo:
        """The zone of the expression."""
        return self._timetable.zone

    def around(self, moment: int) -> tuple[int, int] | None:
        """[start, end) of the time that the expression names around `moment` (epoch ms), as `excluding` sees it; or None."""
        return self._timetable.around(moment)

    def after(self, moment: int, anchor: int = 0) -> int | None:
        """The first tick strictly after `moment` (epoch ms); None beyond the year 9999."""
        return timetable(self.expression, self.timezone, self.dst).after(moment)

    def before(self, moment: int, anchor: int = 0) -> int | None:
        """The last tick strictly before `moment` (epoch ms); None before the year 1."""
        return timetable(self.expression, self.timezone, self.dst).before(moment)

    def describe(self) -> str:
        """In words: "at 09:00 on Monday through Friday, Europe/Paris"."""
        fields = self._timetable.fields
        zone = f", {self.timezone}" if is_bound_to_a_clock(fields) else ""
        return describe(fields) + zone + (", clock changes taken literally" if self.dst == "literal" else "")


class Every(_Moments, frozen=True, array_like=True, tag="every"):
    """The moments base + k * interval; made by `every()`. All fields are in milliseconds.

    The base is `start` where that is a moment; else it is the anchor, and the anchor itself is a moment only with
    `start="now"`. With `align`, each moment is rounded up to the next multiple of it (two that meet are one).

    `after_completion` asks the planner to pass the end of the last run as the anchor; until one has ended, the anchor
    is the creation as for the others. A `start` then only holds back the first moment.
    """

    interval: int
    start: int | Literal["now"] | None = None
    align: int | None = None
    after_completion: bool = False

    def __post_init__(self) -> None:
        for name, value in (("interval", self.interval), ("align", self.align)):
            if value is not None and not 1 <= value <= LAST:
                raise InvalidTrigger(f"{name} is {value} ms: it must be from 1 to {LAST} ms")
        if isinstance(self.start, int) and not FIRST <= self.start <= LAST:
            raise InvalidTrigger(f"start is {self.start} ms since 1970: it must be from {FIRST} to {LAST}")

    def after(self, moment: int, anchor: int = 0) -> int | None:
        """The first moment strictly after `moment` (epoch ms); None beyond the year 9999."""
        align = self.align or 1
        base = self._base(anchor)
        # A rounded moment is above `moment` exactly when the unrounded one is above the grid point at or below it.
        steps = max(0, (moment // align * align - base) // self.interval + 1)
        found = round_up(base + steps * self.interval, align)
        return found if found <= LAST else None

    def before(self, moment: int, anchor: int = 0) -> int | None:
        """The last moment strictly before `moment` (epoch ms); None if that would be before the first."""
        align = self.align or 1
        base = self._base(anchor)
        steps = ((moment - 1) // align * align - base) // self.interval
        return round_up(base + steps * self.interval, align) if steps >= 0 else None

    def count(self, after: int, until: int, anchor: int = 0, limit: int = 1_000_000) -> int:
        """How many moments lie in (after, until] (epoch ms): exact whatever the limit, at constant cost."""
        first, last = self.after(after, anchor), self.before(until + 1, anchor)
        if first is None or last is None or first > last:
            return 0
        if self.align is not None and self.interval <= self.align:
            return (last - first) // self.align + 1
        # Each moment is the rounding of one unrounded moment less than `align` below it.
        align, base = self.align or 1, self._base(anchor)
        return (last - base) // self.interval - (first - align - base) // self.interval

    def describe(self) -> str:
        """In words: "every 90 seconds, from 2026-01-01 00:00:00 UTC"."""
        words = f"every {duration_words(self.interval)}"
        words += " after the end of the last run" if self.after_completion else ""
        words += ", at once" if self.start == "now" else ""
        words += f", from {show(self.start)}" if isinstance(self.start, int) else ""
        return words + (f", rounded up to {multiple_words(self.align)}" if self.align else "")

    @property
    def counts_from_completion(self) -> bool:
        return self.after_completion

    def first(self, now: int) -> int | None:
        return now if self.start == "now" else self.start

    def _base(self, anchor: int) -> int:
        """The first moment, before it is rounded."""
        if self.start is None:
            return anchor + self.interval
        if self.start == "now":
            return anchor
        return max(self.start, anchor) if self.after_completion else self.start


class At(_Moments, frozen=True, array_like=True, tag="at"):
    """One moment (epoch ms); made by `at()`."""

    moment: int

    def __post_init__(self) -> None:
        if not FIRST <= self.moment <= LAST:
            raise InvalidTrigger(f"moment is {self.moment} ms since 1970: it must be from {FIRST} to {LAST}")

    def after(self, moment: int, anchor: int = 0) -> int | None:
        """The moment, if it is strictly after `moment`."""
        return self.moment if self.moment > moment else None

    def before(self, moment: int, anchor: int = 0) -> int | None:
        """The moment, if it is strictly before `moment`."""
        return self.moment if self.moment < moment else None

    def first(self, now: int) -> int | None:
        return self.moment

    def describe(self) -> str:
        """In words: "once, at 2026-01-01 00:00:00 UTC"."""
        return f"once, at {show(self.moment)}"


class AnyOf(_Moments, frozen=True, array_like=True, tag="any"):
    """The moments of several triggers, those that meet being one; made by `|`."""

    triggers: tuple[Trigger, ...]

    def __post_init__(self) -> None:
        if not 1 < len(self.triggers) <= MOST_PARTS:
            raise InvalidTrigger(f"a union of {len(self.triggers)} triggers: give from 2 to {MOST_PARTS}")
        if any(trigger.counts_from_completion for trigger in self.triggers):
            raise InvalidTrigger("every(after_completion=True) cannot be part of a union: its runs would have no order")

    @property
    def zone(self) -> tzinfo:
        """The zone of the first."""
        return self.triggers[0].zone

    def after(self, moment: int, anchor: int = 0) -> int | None:
        """The earliest of their next moments."""
        return min((m for t in self.triggers if (m := t.after(moment, anchor)) is not None), default=None)

    def before(self, moment: int, anchor: int = 0) -> int | None:
        """The latest of their last moments."""
        return max((m for t in self.triggers if (m := t.before(moment, anchor)) is not None), default=None)

    def first(self, now: int) -> int | None:
        return min((m for t in self.triggers if (m := t.first(now)) is not None), default=None)

    def describe(self) -> str:
        """In words: "at 09:00; or every 90 seconds"."""
        return "; or ".join(trigger.describe() for trigger in self.triggers)


class Except(_Moments, frozen=True, array_like=True, tag="except"):
    """A trigger without its moments in some calendars; made by `excluding`.

    A search passes over at most SEARCH excluded days, hours or minutes; a trigger of which no more is left has ended.
    """

    trigger: Trigger
    calendars: tuple[Days | Cron, ...]

    def __post_init__(self) -> None:
        if not self.calendars:
            raise InvalidTrigger('excluding() what? Give weekdays such as "sat", dates, or cron(…)')

    @property
    def zone(self) -> tzinfo:
        """The trigger's own."""
        return self.trigger.zone

    def after(self, moment: int, anchor: int = 0) -> int | None:
        """The first moment strictly after `moment` that is not excluded."""
        found = self.trigger.after(moment, anchor)
        for _ in range(SEARCH):
            around = None if found is None else self._around(found)
            if around is None:
                return found
            found = self.trigger.after(around[1] - 1, anchor)
        return None

    def before(self, moment: int, anchor: int = 0) -> int | None:
        """The last moment strictly before `moment` that is not excluded."""
        found = self.trigger.before(moment, anchor)
        for _ in range(SEARCH):
            around = None if found is None else self._around(found)
            if around is None:
                return found
            found = self.trigger.before(around[0], anchor)
        return None

    def _around(self, moment: int) -> tuple[int, int] | None:
        return next((found for calendar in self.calendars if (found := calendar.around(moment))), None)

    @property
    def counts_from_completion(self) -> bool:
        return self.trigger.counts_from_completion

    def first(self, now: int) -> int | None:
        return self.trigger.first(now)

    def describe(self) -> str:
        """In words: "every hour, except on Sunday (Europe/Paris)"."""
        return f"{self.trigger.describe()}, except {'; '.join(calendar.describe() for calendar in self.calendars)}"


class Between(_Moments, frozen=True, array_like=True, tag="between"):
    """The moments of a trigger from `start` to `end` (epoch ms, both included); made by `between`."""

    trigger: Trigger
    start: int | None = None
    end: int | None = None

    def __post_init__(self) -> None:
        if self.start is not None and self.end is not None and self.start > self.end:
            raise InvalidTrigger(f"start ({show(self.start)}) is after end ({show(self.end)})")

    @property
    def zone(self) -> tzinfo:
        """The trigger's own."""
        return self.trigger.zone

    def after(self, moment: int, anchor: int = 0) -> int | None:
        """The first moment strictly after `moment` and not before the start; None after the end."""
        if self.start is not None:
            moment = max(moment, self.start - 1)
        found = self.trigger.after(moment, anchor)
        return None if found is None or (self.end is not None and found > self.end) else found

    def before(self, moment: int, anchor: int = 0) -> int | None:
        """The last moment strictly before `moment` and not after the end; None before the start."""
        if self.end is not None:
            moment = min(moment, self.end + 1)
        found = self.trigger.before(moment, anchor)
        return None if found is None or (self.start is not None and found < self.start) else found

    def count(self, after: int, until: int, anchor: int = 0, limit: int = 1_000_000) -> int:
        """As the trigger counts, within the bounds."""
        after = after if self.start is None else max(after, self.start - 1)
        until = until if self.end is None else min(until, self.end)
        return self.trigger.count(after, until, anchor, limit)

    @property
    def counts_from_completion(self) -> bool:
        return self.trigger.counts_from_completion

    def first(self, now: int) -> int | None:
        found = self.trigger.first(now)
        return None if found is None or self.after(found - 1, now) != found else found

    def describe(self) -> str:
        """In words: "every hour, from 2026-01-01 00:00:00 UTC until 2027-01-01 00:00:00 UTC"."""
        start = f", from {show(self.start)}" if self.start is not None else ""
        return f"{self.trigger.describe()}{start}" + (f", until {show(self.end)}" if self.end is not None else "")


Trigger: TypeAlias = Cron | Every | At | AnyOf | Except | Between


def pinned(trigger: Trigger, anchor: int) -> Trigger:
    """The trigger whose moments are the same whatever the anchor: those that this one has with `anchor`."""
    if isinstance(trigger, Every) and not isinstance(trigger.start, int):
        return msgspec.structs.replace(trigger, start=anchor if trigger.start == "now" else anchor + trigger.interval)
    if isinstance(trigger, AnyOf):
        return AnyOf(tuple(pinned(part, anchor) for part in trigger.triggers))
    if isinstance(trigger, Except | Between):
        return msgspec.structs.replace(trigger, trigger=pinned(trigger.trigger, anchor))
    return trigger


def _parts(trigger: Any) -> tuple[Trigger, ...]:
    """Its parts if it is a union already."""
    if not isinstance(trigger, _Moments):
        raise InvalidTrigger(f"{trigger!r} is no trigger: join cron(…), every(…) and at(…) with |")
    return trigger.triggers if isinstance(trigger, AnyOf) else (cast("Trigger", trigger),)


def cron(expression: str, *, timezone: str | ZoneInfo = "UTC", dst: DST = "vixie") -> Cron:
    """A trigger for a cron expression of 5 fields, or 6 with the second first (grammar: cron_fields.py).

    `timezone` is an IANA name or a ZoneInfo. `dst` says what happens when clocks change (rules: cron.py). Raises
    InvalidTrigger for what cannot be read and for an expression that never fires.
    """
    if isinstance(timezone, ZoneInfo):
        timezone = timezone.key
    if not isinstance(timezone, str):
        raise InvalidTrigger(f'timezone is {timezone!r}: use an IANA name such as "Europe/Paris"')
    if isinstance(expression, str):
        expression = " ".join(expression.split())  # so that spacing makes no difference between two schedules
    return Cron(expression, timezone, dst)


def every(
    interval: timedelta = timedelta(0),
    /,
    *,
    weeks: float = 0,
    days: float = 0,
    hours: float = 0,
    minutes: float = 0,
    seconds: float = 0,
    milliseconds: float = 0,
    start: Literal["now"] | datetime | float | None = None,
    align: float | None = None,
    after_completion: bool = False,
) -> Every:
    """A trigger for fixed intervals: the sum of what is given, at least one millisecond and a whole number of them.

    `start`: None counts from the schedule's creation, which is not itself a moment; "now" counts from there and fires
    at once; an aware datetime or epoch seconds is the first moment (cut to the millisecond). `align` (seconds) rounds
    each moment up to a multiple. `after_completion` counts from the end of the last run. Raises InvalidTrigger for what
    cannot be used.
    """
    if not isinstance(interval, timedelta):
        raise InvalidTrigger(f"every({interval!r}) has no unit: write every(seconds={interval!r}) or give a timedelta")
    if interval < timedelta(0):
        raise InvalidTrigger(f"the interval is {interval}: it must not be negative")
    parts = (weeks, days, hours, minutes, seconds, milliseconds)
    total = Fraction(interval // timedelta(microseconds=1), 1000)
    for (unit, ms), part in zip(UNITS.items(), parts, strict=True):
        total += exact(part, f"{unit}s") * ms
    first: int | Literal["now"] | None = None
    if start is not None:
        first = "now" if start == "now" else read_moment(start, "start")
    grid = None if align is None else whole_ms(exact(align, "align") * 1000, "align")
    return Every(whole_ms(total, "the interval"), first, grid, after_completion)


def at(moment: datetime | float) -> At:
    """A trigger for one moment, an aware datetime or epoch seconds, cut to the millisecond.

    Raises InvalidTrigger for a naive datetime, and for a number that is no moment.
    """
    return At(read_moment(moment, "at()"))
