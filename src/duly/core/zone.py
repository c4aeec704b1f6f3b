"""Turns an IANA time zone into stretches of constant UTC offset, so that cron works on whole numbers.

`zoneinfo` answers "which offset holds at this moment?" but does not say when the offset changes next. We ask it every
other day over about a year, bisect between two answers that differ, and keep the outcome. Everything after that is
integer arithmetic: an ordinary cron step never touches a `datetime`.

A stretch also carries `seen`, the first local second that nobody has lived through before the stretch began. It makes
the Vixie rule simple to state: local seconds from `seen` up to the stretch's own local start were skipped (a gap),
local seconds below `seen` are being lived a second time (an overlap). That holds for changes of any size: Lord Howe's
half hour, Apia's missing day, two changes close together.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from duly.errors import InvalidTrigger

DAY = 86_400
_SECOND = timedelta(seconds=1)
# Moments outside these bounds (epoch seconds, years 1 and 9999) are answered with None; `datetime` ends there too.
EARLIEST = -62_130_000_000
LATEST = 253_400_000_000
_CHUNK = 400 * DAY
# In the whole database no two changes are closer than four days (Freetown in 1939; seven days from 2000 on).
_PROBE = 2 * DAY
_LOOK_BACK = 4 * DAY  # longer than any overlap, so that `seen` is right at the start of a chunk
# Names that mean something else on every machine; all nodes must follow the same rules.
_MACHINE_DEPENDENT = frozenset({"localtime", "posixrules"})


class Stretch(NamedTuple):
    """A time during which the offset is constant; all values in seconds.

    start, end: epoch seconds, end excluded. offset: local = epoch + offset. seen: see the top of this file.
    """

    start: int
    end: int
    offset: int
    seen: int


def load_zone(name: str) -> ZoneInfo:
    """The zone called `name`; raises InvalidTrigger when it is not an IANA name this machine knows."""
    if name not in _MACHINE_DEPENDENT:
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            pass
    raise InvalidTrigger(f'time zone "{name}" is not known: use an IANA name such as "Europe/Paris" or "UTC"')


def stretch_at(zone: ZoneInfo, second: int) -> Stretch:
    """The stretch of constant offset that holds at `second` (epoch seconds); of those there are, the nearest to it."""
    fixed = zone.utcoffset(None)  # None when the zone has more than one offset
    if fixed is not None:
        offset = fixed // _SECOND
        return Stretch(EARLIEST, LATEST + 1, offset, EARLIEST + offset)
    second = min(max(second, EARLIEST), LATEST)
    for stretch in _chunk(zone, second // _CHUNK):
        if second < stretch.end:
            return stretch
    raise AssertionError("a chunk covers all of its seconds")


@lru_cache(maxsize=4096)
def _chunk(zone: ZoneInfo, index: int) -> tuple[Stretch, ...]:
    begin, stop = max(index * _CHUNK, EARLIEST), min((index + 1) * _CHUNK, LATEST + 1)
    start = begin - _LOOK_BACK
    offset = _offset(zone, start)
    seen = start + offset
    stretches: list[Stretch] = []
    for change in (*_changes(zone, start, stop), stop):
        if change > begin:
            if start < begin:
                start, seen = begin, max(seen, begin + offset)
            stretches.append(Stretch(start, change, offset, seen))
        seen = max(seen, change + offset)
        start, offset = change, _offset(zone, change)
    return tuple(stretches)


def _changes(zone: ZoneInfo, start: int, stop: int) -> list[int]:
    """The seconds strictly between `start` and `stop` at which a new offset begins."""
    changes = []
    offset = _offset(zone, start)
    for low in range(start, stop, _PROBE):
        high = min(low + _PROBE, stop - 1)
        after = _offset(zone, high)
        if after != offset:
            changes.append(_first_second_of(zone, after, low, high))
            offset = after
    return changes


def _first_second_of(zone: ZoneInfo, offset: int, low: int, high: int) -> int:
    """The first second of `offset`, given that it does not hold at `low` and does at `high`."""
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(zone, middle) == offset:
            high = middle
        else:
            low = middle
    return high


def _offset(zone: ZoneInfo, second: int) -> int:
    within = min(max(second, EARLIEST), LATEST)
    offset = datetime.fromtimestamp(within, zone).utcoffset()
    assert offset is not None
    return offset // _SECOND
