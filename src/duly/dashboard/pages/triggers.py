"""Triggers and moments as people type them into a form."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from duly.core.trigger import At, Cron, Every, Trigger, at, cron, every
from duly.dashboard.problems import Refused
from duly.errors import InvalidTrigger

KINDS = ("cron", "every", "at")
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)", re.ASCII)


def read_trigger(kind: str, rule: str, zone: str, old: Trigger | None = None) -> Trigger:
    """The trigger of a form; what the form does not show (a grid, a rule for clock changes) stays as in `old`, if that is of
    the same kind. Raises InvalidTrigger, Refused."""
    rule, zone = rule.strip(), zone.strip() or "UTC"
    if kind == "cron":
        return cron(rule, timezone=zone, dst=old.dst if isinstance(old, Cron) else "vixie")
    if kind == "every":
        new = every(seconds=read_duration(rule))
        return msgspec.structs.replace(old, interval=new.interval) if isinstance(old, Every) else new
    if kind == "at":
        return at(read_moment("rule", rule, zone))
    raise Refused(422, f"kind={kind!r}: give one of {', '.join(KINDS)}")


def read_duration(text: str) -> float:
    """ "90", "90 s", "1 h 30 m": seconds. Raises InvalidTrigger."""
    plain = text.replace(" ", "")
    if re.fullmatch(r"\d+(\.\d+)?", plain, re.ASCII):
        return float(plain)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != plain:
        raise InvalidTrigger(f"every {text[:60]!r}: give a duration, such as 90 s, 5 m or 1 h 30 m")
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def read_moment(name: str, text: str, zone: str) -> datetime:
    """An ISO date and time; without an offset it is of that zone. Raises Refused."""
    try:
        found = datetime.fromisoformat(text.strip())
        return found if found.tzinfo is not None else found.replace(tzinfo=ZoneInfo(zone or "UTC"))
    except (ValueError, ZoneInfoNotFoundError, OSError):
        raise Refused(
            422,
            f"{name}={text[:60]!r}: give a date and time, such as {datetime(2026, 3, 1, 9, tzinfo=UTC):%Y-%m-%d %H:%M}",
        ) from None


def as_typed(trigger: Trigger) -> tuple[str, str, str]:
    """(kind, rule, zone) for the form; an empty rule for one that a form cannot hold."""
    if isinstance(trigger, Cron):
        return "cron", trigger.expression, trigger.timezone
    if isinstance(trigger, Every):
        seconds, ms = divmod(trigger.interval, 1000)
        return "every", f"{seconds}{f'.{ms:03}'.rstrip('0') if ms else ''} s", ""
    if isinstance(trigger, At):
        return "at", datetime.fromtimestamp(trigger.moment / 1000, UTC).isoformat(" "), "UTC"
    return "cron", "", "UTC"
