"""Words for people: counts, durations, moments (how far away by the store's clock, and when, in this machine's zone)."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves a cursor, colours a terminal, turns the direction of text, or cannot be written as UTF-8."""
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def printable(value: object, *, lines: bool = False) -> str:
    """The text with control characters written out (`\\x1b`); with `lines`, line breaks and tabs stay."""

    def escaped(found: re.Match[str]) -> str:
        character = found[0]
        if lines and character in "\n\t":
            return character
        return {"\n": "↵", "\t": " "}.get(character) or ascii(character)[1:-1]

    return _CONTROL.sub(escaped, "" if value is None else str(value))


def counted(count: int, thing: str) -> str:
    """ "1 job", "1,200 jobs"."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def percent(share: float) -> str:
    """ "33.3%"."""
    return f"{100 * share:.3g}%"


def lasting(seconds: float) -> str:
    """A duration in its two largest units: "3 m 20 s"."""
    rest = round(seconds)
    for i, (unit, size) in enumerate(_UNITS):
        if rest >= size:
            small_unit, small = _UNITS[i + 1] if i + 1 < len(_UNITS) else ("", 1)
            second = rest % size // small if small_unit else 0
            return f"{rest // size} {unit}" + (f" {second} {small_unit}" if second else "")
    return "0 s"


def relative(at: float, now: float) -> str:
    """ "in 3 m 20 s", "12 s ago" or "now"; both in epoch seconds."""
    if round(abs(at - now)) == 0:
        return "now"
    return f"in {lasting(at - now)}" if at > now else f"{lasting(now - at)} ago"


def absolute(at: float) -> str:
    """The local date and time with the offset from UTC: "2026-03-01 12:00:00+01:00"; `at` in epoch seconds."""
    try:
        return datetime.fromtimestamp(at, UTC).astimezone().isoformat(" ", "seconds")
    except (OverflowError, ValueError, OSError):  # beyond the years that a datetime can show
        return f"epoch {at:.0f}"


def both(at: float | None, now: float) -> str:
    """ "in 3 m 20 s (2026-03-01 12:00:00+01:00)"; the empty text for None."""
    return "" if at is None else f"{relative(at, now)} ({absolute(at)})"
