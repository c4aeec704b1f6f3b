"""What a put makes of a schedule, for stores that keep records as Python values (Redis has its own in put.lua)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec.structs import replace

from duly.stores.base import NewSchedule, ScheduleRecord


def created(new: NewSchedule, now: int) -> ScheduleRecord:
    """A schedule as it begins; `now` in ms, store clock."""
    mark = now if new.mark is None else min(new.mark, now)
    return ScheduleRecord(new.id, new.definition, 1, mark, now, app=new.app, buffer=new.buffer)


def compared(old: ScheduleRecord, new: NewSchedule, now: int) -> str:
    """What a put to an existing schedule comes to; only `updated` writes."""
    if (old.definition, old.app) == (new.definition, new.app):
        return "same"
    if new.revision is not None and new.revision != old.revision:
        return "conflict"
    return "due" if _has_due(old, now) and not _is_held_back(old) else "updated"


def updated(old: ScheduleRecord, new: NewSchedule, now: int) -> ScheduleRecord:
    """The schedule after an edit: the next revision, its mark now, the moments held back counted as skipped."""
    held = bool(old.next) and _has_due(old, now)  # next 0: nobody has looked yet whether there is one
    skipped = added(old.skipped, {"edited": 1}) if held else old.skipped
    return replace(
        old,
        definition=new.definition,
        app=new.app,
        buffer=new.buffer,
        revision=old.revision + 1,
        mark=now,
        next=0,
        skipped=skipped,
    )


def _has_due(record: ScheduleRecord, now: int) -> bool:
    """A moment is due, or nobody has planned yet whether one is (next is 0)."""
    return record.paused is None and record.next is not None and record.next <= now


def _is_held_back(record: ScheduleRecord) -> bool:
    return record.buffer and bool(record.live)


def added(before: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """Counts by name, added up."""
    counts = Counter(before)
    counts.update(more)
    return dict(counts)
