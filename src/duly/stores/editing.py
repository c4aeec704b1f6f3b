"""What a put, a firing and the end of a run make of a schedule, for stores that keep records as Python values.

Redis has its own, in put.lua, fire.lua and parts/schedule.lua.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec.structs import replace

from duly.core.lifecycle import Change
from duly.stores.base import Firing, NewSchedule, ScheduleRecord

OUTCOME_LENGTH = 200
"""Characters of a death's reason that its schedule keeps."""


HIDDEN_MS = 1_000
"""For so long `due` hides what it hands out, and so far ahead may it be asked."""


def look_until(now: int, until: int | None) -> int:
    """Up to which moment `due` looks."""
    return min(max(now, until or 0), now + HIDDEN_MS)


def created(new: NewSchedule, now: int) -> ScheduleRecord:
    """A schedule as it begins; `now` in ms, store clock."""
    mark = now if new.mark is None else min(new.mark, now)
    return ScheduleRecord(new.id, new.definition, 1, mark, now, app=new.app, buffer=new.buffer)


def compared(old: ScheduleRecord | None, new: NewSchedule, now: int) -> str:
    """What a put comes to; only `created` and `updated` write."""
    if old is None:
        return "created" if new.revision is None else "conflict"
    if (old.definition, old.app) == (new.definition, new.app):
        return "same"
    if new.revision is not None and new.revision != old.revision:
        return "conflict"
    return "due" if _has_due(old, now) and not _is_held_back(old) else "updated"


def updated(old: ScheduleRecord, new: NewSchedule, now: int) -> ScheduleRecord:
    """The schedule after an edit: the next revision, its mark now, the moments held back counted as skipped.

    A mark never goes back: under a clock that has, moments that were fired would come again.
    """
    held = bool(old.next) and _has_due(old, now)  # next 0: nobody has looked yet whether there is one
    skipped = added(old.skipped, {"edited": 1}) if held else old.skipped
    return replace(
        old,
        definition=new.definition,
        app=new.app,
        buffer=new.buffer,
        revision=old.revision + 1,
        mark=max(old.mark, now),
        next=0,
        skipped=skipped,
    )


def is_as_read(record: ScheduleRecord, firing: Firing) -> bool:
    """Whether a schedule still is what a firing was planned for."""
    if record.paused is not None or (record.revision, record.mark) != (firing.revision, firing.mark):
        return False
    return bool(record.live) or not firing.waits  # the run it waits for may have ended since


def fired(record: ScheduleRecord, firing: Firing) -> ScheduleRecord:
    """The schedule after a firing that found it as it was read."""
    ids = tuple(job.id for job in firing.jobs)
    live = (*(record.live if firing.counted else ()), *ids) if ids else record.live
    return replace(
        record,
        mark=firing.new_mark,
        next=firing.next,
        live=live,
        fired=record.fired + len(ids),
        skipped=added(record.skipped, firing.skipped),
        last=firing.nominals[-1] if ids else record.last,
        late=record.late + firing.late,
        paused=firing.pause,
    )


def outcome(change: Change) -> str:
    """How a run ended, as its schedule notes it: "ended", or "dead: " and why."""
    return f"dead: {change.reason or change.error}"[:OUTCOME_LENGTH] if change.verb == "dead" else "ended"


def run_ended(record: ScheduleRecord, job: str, change: Change, now: int) -> ScheduleRecord:
    """The schedule after one of its runs has ended: the run no longer lives, its end is noted."""
    return replace(
        record,
        live=tuple(id for id in record.live if id != job),
        ended=now,
        outcome=outcome(change),
        failures=record.failures + 1 if change.verb == "dead" else 0,
    )


def resumed(record: ScheduleRecord, now: int) -> ScheduleRecord:
    """The schedule as it goes on after a pause: from now, with no failures behind it."""
    return replace(record, paused=None, mark=max(record.mark, now), next=0, failures=0)


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
