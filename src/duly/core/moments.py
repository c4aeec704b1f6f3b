"""Moments and durations as people give them, and as they read them: everything inside is whole epoch milliseconds."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from duly.core.zone import EARLIEST, LATEST
from duly.errors import InvalidTrigger

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MS = timedelta(milliseconds=1)
FIRST, LAST = EARLIEST * 1000, LATEST * 1000  # what a datetime can show
UNITS = {"week": 604_800_000, "day": 86_400_000, "hour": 3_600_000, "minute": 60_000, "second": 1000, "millisecond": 1}


def read_moment(value: object, name: str) -> int:
    """Epoch milliseconds of an aware datetime or of epoch seconds."""
    if isinstance(value, datetime):
        return from_datetime(value, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidTrigger(f"{name} is {value!r}: use an aware datetime or epoch seconds")
    moment = math.floor(exact(value, name) * 1000)
    if moment > LAST:
        raise InvalidTrigger(f"{name} is {value!r} seconds since 1970, past the year 9999: is it in milliseconds?")
    return moment


def from_datetime(value: datetime, name: str) -> int:
    """Epoch milliseconds of an aware datetime. Raises InvalidTrigger, naming `name`."""
    if value.utcoffset() is None:
        raise InvalidTrigger(
            f"{name} is {value.isoformat()}, without a time zone: make it aware, for example with "
            '.replace(tzinfo=ZoneInfo("Europe/Paris")) or datetime.now(UTC)'
        )
    return (value - EPOCH) // MS


def exact(value: object, name: str) -> Fraction:
    """The decimal number as it was written (0.1 is a tenth); refuses what is no finite number from 0 up."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidTrigger(f"{name} is {value!r}: it must be a number")
    if not math.isfinite(value) or value < 0:
        raise InvalidTrigger(f"{name} is {value!r}: it must be finite and not negative")
    return Fraction(repr(value))


def whole_ms(ms: Fraction, name: str) -> int:
    """A duration as a whole number of milliseconds. Raises InvalidTrigger, naming `name`."""
    if ms <= 0:
        raise InvalidTrigger(f"{name} is {float(ms):g} ms: it must be at least 1 ms, as in every(seconds=10)")
    if ms > LAST:
        raise InvalidTrigger(f"{name} is {float(ms):g} ms: it must be at most {LAST} ms")
    if ms.denominator != 1:
        raise InvalidTrigger(f"{name} is {float(ms)} ms: it must be a whole number of milliseconds")
    return int(ms)


def round_up(moment: int, align: int) -> int:
    """The first multiple of `align` that is not below `moment`."""
    return -(-moment // align) * align


def duration_words(ms: int) -> str:
    """In the largest unit that divides it: second, 90 seconds, 2 hours."""
    unit, size = next((unit, size) for unit, size in UNITS.items() if ms % size == 0)
    return unit if ms == size else f"{ms // size} {unit}s"


def multiple_words(ms: int) -> str:
    """What is rounded up to: a full minute, a multiple of 90 seconds."""
    words = duration_words(ms)
    return f"a multiple of {words}" if words[0].isdigit() else f"a full {words}"


def show(moment: int) -> str:
    """A moment for people: 2026-01-01 00:00:00 UTC."""
    shown = EPOCH + moment * MS
    return shown.strftime("%Y-%m-%d %H:%M:%S") + (f".{moment % 1000:03}" if moment % 1000 else "") + " UTC"
