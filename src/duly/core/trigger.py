"""The rules for moments, as values: `cron(...)`, `every(...)`, `at(...)`.

A trigger is a frozen struct that can be compared, hashed, encoded with msgspec and decoded as the union `Trigger`. It
reads no clock and keeps no place: a moment goes in, a moment comes out, both whole epoch milliseconds. `anchor` is the
moment from which an `Every` without a start of its own counts: the store's time when the schedule was created.

The order of the fields is the wire format: new ones come last and have a default.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, tzinfo
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, TypeAlias
from zoneinfo import ZoneInfo

import msgspec

from duly.core.cron import DST, Timetable, timetable
from duly.core.cron_words import describe, is_bound_to_a_clock
from duly.core.zone import EARLIEST, LATEST
from duly.errors import InvalidTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_FIRST, _LAST = EARLIEST * 1000, LATEST * 1000  # what a datetime can show
_UNITS = {"week": 604_800_000, "day": 86_400_000, "hour": 3_600_000, "minute": 60_000, "second": 1000, "millisecond": 1}


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

    def count(self, after: int, until: int, anchor: int = 0, limit: int = 1_000_000) -> int:
        """How many moments lie in (after, until] (epoch ms); counting one by one ends at `limit`."""
        moments = self.moments(after, until, anchor)
        return sum(1 for _ in zip(range(limit), moments, strict=False))

    def upcoming(self, n: int, start: datetime, anchor: int = 0) -> list[datetime]:
        """The next `n` moments strictly after `start`, aware, in the trigger's zone; fewer if there are no more."""
        moment: int | None = _from_datetime(start, "start")
        found: list[datetime] = []
        while len(found) < n and moment is not None and (moment := self.after(moment, anchor)) is not None:
            found.append((_EPOCH + moment * _MS).astimezone(self.zone))
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
            if value is not None and not 1 <= value <= _LAST:
                raise InvalidTrigger(f"{name} is {value} ms: it must be from 1 to {_LAST} ms")
        if isinstance(self.start, int) and not _FIRST <= self.start <= _LAST:
            raise InvalidTrigger(f"start is {self.start} ms since 1970: it must be from {_FIRST} to {_LAST}")

    def after(self, moment: int, anchor: int = 0) -> int | None:
        """The first moment strictly after `moment` (epoch ms); None beyond the year 9999."""
        align = self.align or 1
        base = self._base(anchor)
        # A rounded moment is above `moment` exactly when the unrounded one is above the grid point at or below it.
        steps = max(0, (moment // align * align - base) // self.interval + 1)
        found = _round_up(base + steps * self.interval, align)
        return found if found <= _LAST else None

    def before(self, moment: int, anchor: int = 0) -> int | None:
        """The last moment strictly before `moment` (epoch ms); None if that would be before the first."""
        align = self.align or 1
        base = self._base(anchor)
        steps = ((moment - 1) // align * align - base) // self.interval
        return _round_up(base + steps * self.interval, align) if steps >= 0 else None

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
        words = f"every {_duration(self.interval)}"
        words += " after the end of the last run" if self.after_completion else ""
        words += ", at once" if self.start == "now" else ""
        words += f", from {_show(self.start)}" if isinstance(self.start, int) else ""
        return words + (f", rounded up to {_multiple(self.align)}" if self.align else "")

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
        if not _FIRST <= self.moment <= _LAST:
            raise InvalidTrigger(f"moment is {self.moment} ms since 1970: it must be from {_FIRST} to {_LAST}")

    def after(self, moment: int, anchor: int = 0) -> int | None:
        """The moment, if it is strictly after `moment`."""
        return self.moment if self.moment > moment else None

    def before(self, moment: int, anchor: int = 0) -> int | None:
        """The moment, if it is strictly before `moment`."""
        return self.moment if self.moment < moment else None

    def describe(self) -> str:
        """In words: "once, at 2026-01-01 00:00:00 UTC"."""
        return f"once, at {_show(self.moment)}"


Trigger: TypeAlias = Cron | Every | At


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
    for (unit, ms), part in zip(_UNITS.items(), parts, strict=True):
        total += _exact(part, f"{unit}s") * ms
    first: int | Literal["now"] | None = None
    if start is not None:
        first = "now" if start == "now" else _moment(start, "start")
    grid = None if align is None else _whole_ms(_exact(align, "align") * 1000, "align")
    return Every(_whole_ms(total, "the interval"), first, grid, after_completion)


def at(moment: datetime | float) -> At:
    """A trigger for one moment, an aware datetime or epoch seconds, cut to the millisecond.

    Raises InvalidTrigger for a naive datetime, and for a number that is no moment.
    """
    return At(_moment(moment, "at()"))


def _moment(value: object, name: str) -> int:
    """Epoch milliseconds of an aware datetime or of epoch seconds."""
    if isinstance(value, datetime):
        return _from_datetime(value, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidTrigger(f"{name} is {value!r}: use an aware datetime or epoch seconds")
    moment = math.floor(_exact(value, name) * 1000)
    if moment > _LAST:
        raise InvalidTrigger(f"{name} is {value!r} seconds since 1970, past the year 9999: is it in milliseconds?")
    return moment


def _from_datetime(value: datetime, name: str) -> int:
    if value.utcoffset() is None:
        raise InvalidTrigger(
            f"{name} is {value.isoformat()}, without a time zone: make it aware, for example with "
            '.replace(tzinfo=ZoneInfo("Europe/Paris")) or datetime.now(UTC)'
        )
    return (value - _EPOCH) // _MS


def _exact(value: object, name: str) -> Fraction:
    """The decimal number as it was written (0.1 is a tenth); refuses what is no finite number from 0 up."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidTrigger(f"{name} is {value!r}: it must be a number")
    if not math.isfinite(value) or value < 0:
        raise InvalidTrigger(f"{name} is {value!r}: it must be finite and not negative")
    return Fraction(repr(value))


def _whole_ms(ms: Fraction, name: str) -> int:
    if ms <= 0:
        raise InvalidTrigger(f"{name} is {float(ms):g} ms: it must be at least 1 ms, as in every(seconds=10)")
    if ms > _LAST:
        raise InvalidTrigger(f"{name} is {float(ms):g} ms: it must be at most {_LAST} ms")
    if ms.denominator != 1:
        raise InvalidTrigger(f"{name} is {float(ms)} ms: it must be a whole number of milliseconds")
    return int(ms)


def _round_up(moment: int, align: int) -> int:
    return -(-moment // align) * align


def _duration(ms: int) -> str:
    """In the largest unit that divides it: second, 90 seconds, 2 hours."""
    unit, size = next((unit, size) for unit, size in _UNITS.items() if ms % size == 0)
    return unit if ms == size else f"{ms // size} {unit}s"


def _multiple(ms: int) -> str:
    words = _duration(ms)
    return f"a multiple of {words}" if words[0].isdigit() else f"a full {words}"


def _show(moment: int) -> str:
    shown = _EPOCH + moment * _MS
    return shown.strftime("%Y-%m-%d %H:%M:%S") + (f".{moment % 1000:03}" if moment % 1000 else "") + " UTC"
