"""One schedule as people look at it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from duly.core import codec
from duly.core import schedule as planning
from duly.core.schedule import Definition
from duly.core.trigger import Trigger
from duly.errors import FormatError, InvalidTrigger
from duly.stores.base import ScheduleRecord


class ScheduleView(msgspec.Struct, frozen=True):
    """A schedule as people look at it. Moments in epoch seconds; next is None if it is not planned, or over.

    last: the last moment that was fired. late: ticks fired more than a second late. ended, outcome: when the last run
    ended, and how: "ended", or "dead: " and why. failures: runs that have died since one ended well.
    """

    id: str
    queue: str
    trigger: Trigger
    task: str
    revision: int
    paused: str | None
    next: float | None
    last: float | None
    fired: int
    skipped: Mapping[str, int]
    app: str
    living: int
    late: int = 0
    ended: float | None = None
    outcome: str = ""
    failures: int = 0


def definition_of(record: ScheduleRecord) -> Definition:
    """Raises FormatError if a newer duly has defined it, or if it is sealed and not to be opened here."""
    try:
        return planning.decode(record.definition)
    except (msgspec.MsgspecError, InvalidTrigger) as error:
        if (sealing := codec.sealing_of(record.definition)) is not None:
            raise FormatError(f"schedule {record.id!r} is {sealing}: give this scheduler its keys") from None
        if planning.is_refused(record.definition):
            raise FormatError(f"schedule {record.id!r}: {error}") from None
        raise FormatError(
            f"schedule {record.id!r} was defined by a newer duly: upgrade this node to read it ({error})"
        ) from None


def view(record: ScheduleRecord, queue: str) -> ScheduleView:
    """The record with its definition opened. Raises FormatError if a newer duly has defined it."""
    definition = definition_of(record)
    return ScheduleView(
        record.id, queue, definition.trigger, definition.task, record.revision, record.paused,
        record.next / 1000 if record.next else None, record.last / 1000 if record.last else None,
        record.fired, record.skipped, record.app, len(record.live) if definition.counted else 0,
        record.late, record.ended / 1000 if record.ended else None, record.outcome, record.failures,
    )  # fmt: skip
