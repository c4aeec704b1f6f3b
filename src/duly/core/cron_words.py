"""Says a parsed cron expression in plain words: "at 09:00 on Monday through Friday"."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from duly.core.cron_fields import LAST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from duly.core.cron_fields import CronFields, Field

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_ORDINALS = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", LAST: "last"}
_MOST_TIMES = 6  # that are listed one by one


def describe(fields: CronFields) -> str:
    """The expression in words, without its zone: "every 10 seconds", "at 09:00 on the last day of the month"."""
    return _time(fields) + _day(fields) + _month(fields)


def is_bound_to_a_clock(fields: CronFields) -> bool:
    """Whether the zone matters to a reader: some hour, day or month is left out."""
    return len(fields.hour.values()) < 24 or bool(_day(fields) or _month(fields))


def _time(fields: CronFields) -> str:
    hours, minutes, seconds = fields.hour.values(), fields.minute.values(), fields.second.values()
    if len(seconds) == 1 and len(minutes) == 1:
        return _hourly(hours, minutes[0], seconds[0])
    if len(seconds) == 1 and not fields.interval_like and len(hours) * len(minutes) <= _MOST_TIMES:
        return "at " + _list([_clock(hour, minute, seconds[0]) for hour in hours for minute in minutes])
    if seconds == [0]:
        return _rate("minute", "hour", minutes) + _during("hour", hours, 24)
    return _rate("second", "minute", seconds) + _during("minute", minutes, 60) + _during("hour", hours, 24)


def _hourly(hours: list[int], minute: int, second: int) -> str:
    """One time in each of `hours`."""
    step = _step(hours)
    if len(hours) == 24 and second == 0:
        return "every hour" if minute == 0 else f"at minute {minute} of every hour"
    if len(hours) == 24:
        return f"at minute {minute}, second {second} of every hour"
    if minute == second == 0 and step and hours[0] == 0 and len(hours) * step == 24 and len(hours) > 1:
        return f"every {step} hours"
    if step and len(hours) > 3:
        pace = "hour" if step == 1 else f"{step} hours"
        return f"every {pace} from {_clock(hours[0], minute, second)} through {_clock(hours[-1], minute, second)}"
    return "at " + _list([_clock(hour, minute, second) for hour in hours])


def _rate(unit: str, whole: str, values: list[int]) -> str:
    """The finest field that is not simply 0, out of 60."""
    step = _step(values)
    if len(values) == 60:
        return f"every {unit}"
    if step and values[0] == 0 and len(values) * step == 60:
        return f"every {step} {unit}s"
    return f"at {_run(unit, values)} of the {whole}"


def _during(unit: str, values: list[int], size: int) -> str:
    return "" if len(values) == size else f", during {_run(unit, values)}"


def _day(fields: CronFields) -> str:
    by_date, by_weekday = _days_of_month(fields.day_of_month), _days_of_week(fields.day_of_week)
    if fields.either_day and not (by_date and by_weekday):  # one of them is every day: "1-31 * MON"
        return ""
    if by_date and by_weekday:
        return f" on {by_date} or on {by_weekday}" if fields.either_day else f" on {by_date}, if it is {by_weekday}"
    return f" on {by_date or by_weekday}" if by_date or by_weekday else ""


def _days_of_month(field: Field) -> str:
    """Empty when every day matches."""
    values = field.values()
    if len(values) == 31:
        return ""
    names = [_run("day", values)] if values else []
    names += [_before_last(back) for back in sorted(field.before_last)]
    names += ["the last weekday"] if field.last_weekday else []
    names += [f"the weekday nearest to day {day}" for day in sorted(field.nearest)]
    return f"{_list(names)} of the month"


def _before_last(back: int) -> str:
    return "the last day" if back == 0 else f"the last day but {back}"


def _days_of_week(field: Field) -> str:
    """Empty when every day matches."""
    values = sorted(value or 7 for value in field.values())
    if len(values) == 7:
        return ""
    names = [_DAYS[value - 1] for value in values]
    if len(values) > 2 and _step(values) == 1:
        names = [f"{names[0]} through {names[-1]}"]
    names += [
        f"the {_ORDINALS[number]} {_DAYS[day - 1]} of the month" for day, number in sorted(field.nth, key=_nth_order)
    ]
    return _list(names)


def _nth_order(nth: tuple[int, int]) -> tuple[int, int]:
    """The last one comes after the fifth, Sunday after Saturday."""
    day, number = nth
    return (number if number != LAST else 6, day or 7)


def _month(fields: CronFields) -> str:
    values = fields.month.values()
    if len(values) == 12:
        return ""
    if len(values) > 2 and _step(values) == 1:
        return f" in {_MONTHS[values[0] - 1]} through {_MONTHS[values[-1] - 1]}"
    return " in " + _list([_MONTHS[value - 1] for value in values])


def _run(unit: str, values: Sequence[int]) -> str:
    """hour 9; hours 9 through 17; every 2nd hour from 0 through 22; hours 1, 5 and 6."""
    step = _step(values)
    if len(values) == 1:
        return f"{unit} {values[0]}"
    if step == 1 and len(values) > 2:
        return f"{unit}s {values[0]} through {values[-1]}"
    if step > 1 and len(values) > 3:
        suffix = {2: "nd", 3: "rd"}.get(step, "th")  # of more than three values in sixty: no step is above 19
        return f"every {step}{suffix} {unit} from {values[0]} through {values[-1]}"
    return f"{unit}s {_list([str(value) for value in values])}"


def _step(values: Sequence[int]) -> int:
    """The common difference of at least two values; 0 if there is none."""
    steps = {after - before for before, after in pairwise(values)}
    return steps.pop() if len(steps) == 1 else 0


def _clock(hour: int, minute: int, second: int) -> str:
    return f"{hour:02}:{minute:02}" + (f":{second:02}" if second else "")


def _list(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
