"""Finds the moments of a cron expression in a time zone: `Timetable`, integer arithmetic on one bit mask per field.

Clock changes, rule "vixie" (the default; that of Vixie cron and of Cronos, the same for 5 and 6 fields):

- A *fixed-time* expression has neither a `*` nor a step in its second, minute and hour fields: `0 9 * * *`,
  `0,30 1-3 * * MON`. Each of its local moments runs exactly once. A moment inside a gap runs at the first moment after
  the gap (several of them, or one that is due there anyway, are one run); in an overlap it runs the first time only.
- Any other expression is *interval-like*: `*/5 * * * *`, `*/10 30 1 * * *`, `0 0/2 * * *`. It follows elapsed time:
  it runs whenever the local clock shows a match, so never inside a gap and both times in an overlap.

So the second, minute and hour fields decide, each by its text; day and month fields do not. Vixie cron asks only
whether the minute or hour field *begins* with `*`. We add the second field, as its finer twin; and every step, for
`0/15 0/1 * * *` would otherwise pause for an hour in an overlap. Vixie cron takes a change of three hours or more for a
correction of the clock and runs nothing; we keep "exactly once" for gaps of any size (Apia, 30 December 2011).

Rule "literal": every expression is treated like an interval-like one.

Next and previous are one search with a direction. The time of day is mirrored for the way back (23:59:59 becomes
00:00:00), days are searched by month masks, and zones come as stretches of constant offset (zone.py).
"""

from __future__ import annotations

from calendar import monthrange
from datetime import date
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal

from duly.core.cron_fields import LAST, CronFields, Field, parse
from duly.core.zone import DAY, EARLIEST, LATEST, Stretch, load_zone, stretch_at
from duly.errors import InvalidTrigger

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

DST = Literal["vixie", "literal"]
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_FIRST_DAY, _LAST_DAY = 1 - _EPOCH_ORDINAL, date(9999, 12, 31).toordinal() - _EPOCH_ORDINAL
_GREGORIAN_CYCLE = 400 * 12 + 1  # months; weekdays and leap years repeat: what is not found in them never comes


class _TimeOfDay:
    """The matching seconds of a day, searched upwards."""

    def __init__(self, hours: int, minutes: int, seconds: int) -> None:
        self._hours, self._minutes, self._seconds = hours, minutes, seconds
        self._first_second = _lowest(seconds)
        self._first_of_hour = _lowest(minutes) * 60 + self._first_second
        self.first = _lowest(hours) * 3600 + self._first_of_hour

    def mirrored(self) -> _TimeOfDay:
        """The same times counted backwards from 23:59:59."""
        return _TimeOfDay(_mirror(self._hours, 24), _mirror(self._minutes, 60), _mirror(self._seconds, 60))

    def find(self, second: int) -> int:
        """The first matching second of the day that is not below `second`; -1 if there is none."""
        minutes, second = divmod(second, 60)
        hour, minute = divmod(minutes, 60)
        if self._hours >> hour & 1:
            if self._minutes >> minute & 1:
                rest = self._seconds >> second
                if rest:
                    return minutes * 60 + second + (rest & -rest).bit_length() - 1
            rest = self._minutes >> minute + 1
            if rest:
                return (minutes + (rest & -rest).bit_length()) * 60 + self._first_second
        rest = self._hours >> hour + 1
        if rest:
            return (hour + (rest & -rest).bit_length()) * 3600 + self._first_of_hour
        return -1


class _Days:
    """The matching days, as days since 1970-01-01."""

    def __init__(self, fields: CronFields) -> None:
        self._fields = fields
        # The month searched last; replaced as a whole, so that threads may share a timetable.
        self._month = self._month_of(0)

    def next(self, day: int) -> int | None:
        """The first matching day that is not before `day`."""
        first, end, mask = self._month
        for _ in range(_GREGORIAN_CYCLE):
            if not first <= day < end:
                if day > _LAST_DAY:
                    return None
                first, end, mask = self._month = self._month_of(day)
            rest = mask >> day - first
            if rest:
                return day + (rest & -rest).bit_length() - 1
            day = end
        return None

    def previous(self, day: int) -> int | None:
        """The last matching day that is not after `day`."""
        first, end, mask = self._month
        for _ in range(_GREGORIAN_CYCLE):
            if not first <= day < end:
                if day < _FIRST_DAY:
                    return None
                first, end, mask = self._month = self._month_of(day)
            rest = mask & (2 << day - first) - 1
            if rest:
                return first + rest.bit_length() - 1
            day = first - 1
        return None

    def _month_of(self, day: int) -> tuple[int, int, int]:
        """The month of `day`: its first day, the day after it, and a mask whose bit 0 is the first day."""
        on = date.fromordinal(day + _EPOCH_ORDINAL)
        first = day - on.day + 1
        length = monthrange(on.year, on.month)[1]
        if not self._fields.month.mask >> on.month & 1:
            return first, first + length, 0
        weekday = (first + 4) % 7  # of the first; 1970-01-01 was a Thursday, and Sunday is 0
        by_date = _days_of_month(self._fields.day_of_month, weekday, length)
        by_weekday = _days_of_week(self._fields.day_of_week, weekday, length)
        mask = by_date | by_weekday if self._fields.either_day else by_date & by_weekday
        return first, first + length, mask >> 1


class Timetable:
    """A cron expression in a zone under a DST rule. Moments are epoch milliseconds; ticks fall on whole seconds."""

    def __init__(self, fields: CronFields, zone: ZoneInfo, dst: DST) -> None:
        self.fields = fields
        self.zone = zone
        self._once = dst == "vixie" and not fields.interval_like  # each local moment runs exactly once
        self._days = _Days(fields)
        self._time = _TimeOfDay(fields.hour.mask, fields.minute.mask, fields.second.mask)
        # The stretch used last. Replaced as a whole, so that threads may share a timetable.
        self._stretch: Stretch = stretch_at(zone, 0)

    def after(self, moment: int) -> int | None:
        """The first tick strictly after `moment`; None if there is none before the year 9999 ends."""
        second = moment // 1000 + 1
        start, end, offset, seen = self._stretch
        while True:
            if not start <= second < end:
                second = max(second, EARLIEST)
                if second > LATEST:
                    return None
                start, end, offset, seen = self._stretch = stretch_at(self.zone, second)
            local = second + offset
            if self._once:
                if second == start and self._skipped(seen, local):
                    return start * 1000
                if local < seen:
                    local = seen
            found = self._at_or_after(local)
            if found is None:
                return None
            if found - offset < end:
                return (found - offset) * 1000
            second = end

    def before(self, moment: int) -> int | None:
        """The last tick strictly before `moment`; None if there is none since the year 1."""
        second = (moment - 1) // 1000
        start, end, offset, seen = self._stretch
        while True:
            if not start <= second < end:
                second = min(second, LATEST)
                if second < EARLIEST:
                    return None
                start, end, offset, seen = self._stretch = stretch_at(self.zone, second)
            found = self._at_or_before(second + offset)
            if found is None:
                return None
            if found - offset >= start and not (self._once and found < seen):
                return (found - offset) * 1000
            if self._once and self._skipped(seen, start + offset):
                return start * 1000
            second = start - 1

    def around(self, moment: int) -> tuple[int, int] | None:
        """[start, end) of the time around `moment` that the expression names, in epoch ms; None if it does not name it.

        A whole day, hour or minute, where the finer fields match all of it: "* * 25 12 *" names days, "* 0-6 * * *" hours.
        Five fields name whole minutes.
        """
        second = moment // 1000
        start, end, offset, _ = stretch_at(self.zone, second)
        day, time = divmod(second + offset, DAY)
        if self._days.next(day) != day:
            return None
        fields, unit = self.fields, DAY
        masks = ((fields.hour.mask, 24, 3600), (fields.minute.mask, 60, 60), (fields.second.mask, 60, 1))
        for mask, size, length in masks if fields.with_seconds else masks[:2]:
            if mask != (1 << size) - 1:
                unit = length
                if not mask >> time // length % size & 1:
                    return None
        begin = second - time % unit
        return max(begin, start) * 1000, min(begin + unit, end) * 1000

    def _skipped(self, seen: int, local: int) -> bool:
        """Whether a local moment in [seen, local) matches: one that a gap has swallowed."""
        if seen >= local:
            return False
        found = self._at_or_after(seen)
        return found is not None and found < local

    def _at_or_after(self, local: int) -> int | None:
        day, second = divmod(local, DAY)
        found = self._days.next(day)
        if found == day:
            time = self._time.find(second)
            if time >= 0:
                return day * DAY + time
            found = self._days.next(day + 1)
        return None if found is None else found * DAY + self._time.first

    def _at_or_before(self, local: int) -> int | None:
        day, second = divmod(local, DAY)
        found = self._days.previous(day)
        if found == day:
            time = self._mirror.find(DAY - 1 - second)
            if time >= 0:
                return day * DAY + DAY - 1 - time
            found = self._days.previous(day - 1)
        return None if found is None else found * DAY + DAY - 1 - self._mirror.first

    @cached_property
    def _mirror(self) -> _TimeOfDay:
        return self._time.mirrored()


@lru_cache(maxsize=8192)
def timetable(expression: str, timezone: str = "UTC", dst: DST = "vixie") -> Timetable:
    """The compiled form of an expression, kept for the next caller.

    Raises InvalidTrigger when the expression, the zone or the rule cannot be used, or when no day ever matches.
    """
    if dst not in ("vixie", "literal"):
        raise InvalidTrigger(f'dst "{dst}" is not a rule for clock changes: use "vixie" or "literal"')
    fields = parse(expression)
    if _Days(fields).next(0) is None:
        weekday = "" if fields.day_of_week.starred else f' with day-of-week "{fields.day_of_week.text}"'
        raise InvalidTrigger(
            f'cron expression "{expression}" never fires: month "{fields.month.text}" '
            f'has no day-of-month "{fields.day_of_month.text}"{weekday}'
        )
    return Timetable(fields, load_zone(timezone), dst)


def _days_of_month(field: Field, weekday: int, length: int) -> int:
    mask = field.mask & (2 << length) - 1
    for back in field.before_last:
        if back < length:
            mask |= 1 << length - back
    if field.last_weekday:
        mask |= 1 << _nearest_weekday(length, weekday, length)
    for day in field.nearest:
        if day <= length:
            mask |= 1 << _nearest_weekday(day, weekday, length)
    return mask


def _days_of_week(field: Field, weekday: int, length: int) -> int:
    # Bit 0 of the pattern is the first of the month; six weeks cover every month.
    pattern = field.mask * 0b1000000100000010000001000000100000010000001 >> weekday
    mask = pattern << 1 & (2 << length) - 1
    for day, number in field.nth:
        first = 1 + (day - weekday) % 7
        at = first + (length - first) // 7 * 7 if number == LAST else first + 7 * (number - 1)
        if at <= length:
            mask |= 1 << at
    return mask


def _nearest_weekday(day: int, weekday: int, length: int) -> int:
    """The Monday to Friday nearest to `day`, without leaving the month (15W and LW)."""
    match (weekday + day - 1) % 7:
        case 6:
            return day - 1 if day > 1 else day + 2
        case 0:
            return day + 1 if day < length else day - 2
        case _:
            return day


def _lowest(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def _mirror(mask: int, size: int) -> int:
    return int(f"{mask:0{size}b}"[::-1], 2)
