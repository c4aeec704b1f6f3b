"""Days on which nothing is to happen: weekdays and dates of a time zone, as a value that a trigger can exclude."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from functools import lru_cache

import msgspec

from duly.core.zone import DAY, load_zone, stretch_at
from duly.errors import InvalidTrigger, nearest

WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
MOST_DATES = 2_000
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


class Days(msgspec.Struct, frozen=True, array_like=True, tag="days"):
    """Whole local days: weekdays (Sunday is 0) and dates (as 2026-12-25), both sorted."""

    weekdays: tuple[int, ...] = ()
    dates: tuple[str, ...] = ()
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        load_zone(self.timezone)
        if not all(0 <= day <= 6 for day in self.weekdays) or len(set(self.weekdays)) == 7:
            raise InvalidTrigger(f"weekdays={self.weekdays}: name from one to six different days")
        if len(self.dates) > MOST_DATES:
            raise InvalidTrigger(f"{len(self.dates)} dates are excluded: at most {MOST_DATES}")
        _numbers(self.dates)

    def around(self, moment: int) -> tuple[int, int] | None:
        """[start, end) of the excluded day that holds `moment`, all epoch ms; None if that day is not excluded."""
        second = moment // 1000
        start, end, offset, _ = stretch_at(load_zone(self.timezone), second)
        day, time = divmod(second + offset, DAY)
        if (day + 4) % 7 not in self.weekdays and day not in _numbers(self.dates):  # 1970-01-01 was a Thursday
            return None
        return max(second - time, start) * 1000, min(second - time + DAY, end) * 1000

    def describe(self) -> str:
        """In words: "Sunday, 2026-12-25 (Europe/Paris)"."""
        named = [WEEKDAYS[day].capitalize() for day in self.weekdays]
        return f"{', '.join([*named, *self.dates])} ({self.timezone})"


@lru_cache(maxsize=1024)
def _numbers(dates: tuple[str, ...]) -> frozenset[int]:
    """The dates as days since 1970-01-01. Raises InvalidTrigger."""
    return frozenset(_number(text) for text in dates)


def _number(text: str) -> int:
    try:
        return date.fromisoformat(text).toordinal() - _EPOCH_ORDINAL
    except (TypeError, ValueError):
        raise InvalidTrigger(f"{text!r} is no date to be excluded: write 2026-12-25") from None


def days(given: Iterable[object], timezone: str) -> Days:
    """The days named by weekday names ("sat", "Sunday"), dates, or texts such as "2026-12-25". Raises InvalidTrigger."""
    weekdays, dates = set(), set()
    for value in given:
        if isinstance(value, datetime) or not isinstance(value, date | str):
            raise InvalidTrigger(f"{value!r} is no day: give a weekday such as 'sat', a date, or a cron(…)")
        if isinstance(value, date):
            dates.add(value.isoformat())
        elif value[:1].isdigit():
            dates.add(value)
        else:
            weekdays.add(_weekday(value))
    return Days(tuple(sorted(weekdays)), tuple(sorted(dates)), timezone)


def _weekday(name: str) -> int:
    found = [number for number, day in enumerate(WEEKDAYS) if len(name) >= 3 and day.startswith(name.lower())]
    if not found:
        raise InvalidTrigger(f"there is no weekday {name!r}; {nearest(name.lower(), WEEKDAYS)}")
    return found[0]
