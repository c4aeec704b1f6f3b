"""Moments for people: how far away, counted from the store's clock, and when, in the zone of this machine."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


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
