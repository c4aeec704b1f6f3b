"""What the API takes, and what it gives where the read model's own shapes are not made for programs.

Moments are epoch seconds, of the store's clock; a moment that is given may be ISO 8601 with an offset, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from duly.core.trigger import Trigger, at, cron, every
from duly.dashboard.problems import Refused
from duly.errors import InvalidTrigger
from duly.views.listings import ScheduleDetail
from duly.views.schedules import ScheduleView

Queue = Annotated[str, Meta(min_length=1, max_length=200, description="The name of a queue.")]
Id = Annotated[str, Meta(min_length=1, max_length=1_000, description="An id, whatever characters it has.")]
Ids = Annotated[list[Id], Meta(min_length=1, max_length=1_000, description="Ids of one queue.")]
Limit = Annotated[int, Meta(ge=1, le=200, description="Entries of a page, at most.")]
Cursor = Annotated[str, Meta(max_length=2_000, description="That of the page before; empty for the first.")]
Text = Annotated[str, Meta(max_length=200, description="Only what has this text in its id or arguments.")]
Task = Annotated[str, Meta(max_length=200, description="Only this task.")]
OneQueue = Annotated[str, Meta(max_length=200, description="Only this queue; empty for all.")]
Hours = Annotated[float, Meta(gt=0, le=168, description="How far back.")]
Coming = Annotated[int, Meta(ge=0, le=200, description="How many of the next moments.")]
Moment = Annotated[float, Meta(ge=0, le=253_402_300_799)] | Annotated[str, Meta(max_length=64)]


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is not known is refused: a name that is misspelt is not left out in silence."""


class JobsAsked(Asked, frozen=True):
    """A page of jobs."""

    state: Literal["leased", "pending", "dead"] = "pending"
    queue: OneQueue = ""
    task: Task = ""
    text: Text = ""
    limit: Limit = 50
    cursor: Cursor = ""


class FindAsked(Asked, frozen=True):
    """A job by its id."""

    id: Id
    queue: OneQueue = ""


class OneAsked(Asked, frozen=True):
    """A job or a schedule."""

    queue: Queue
    id: Id


class QueueAsked(Asked, frozen=True):
    """A queue."""

    queue: Queue


class OneQueueAsked(Asked, frozen=True):
    """A queue, or all."""

    queue: OneQueue = ""


class SchedulesAsked(Asked, frozen=True):
    """A page of schedules."""

    queue: OneQueue = ""
    task: Task = ""
    text: Text = ""
    limit: Limit = 50
    cursor: Cursor = ""


class ScheduleAsked(Asked, frozen=True):
    """A schedule, with its moments of the last hours and the next ones."""

    queue: Queue
    id: Id
    hours: Hours = 24.0
    coming: Coming = 10


class TicksAsked(Asked, frozen=True):
    """The schedules of a queue beside each other."""

    queue: Queue
    hours: Annotated[float, Meta(gt=0, le=24)] = 3.0
    coming: Coming = 5
    limit: Annotated[int, Meta(ge=1, le=50)] = 20
    cursor: Cursor = ""


class LocksAsked(Asked, frozen=True):
    """A page of locks."""

    limit: Limit = 50
    cursor: Cursor = ""


class MeasuresAsked(Asked, frozen=True):
    """Of all, or of one queue or task."""

    hours: Annotated[float, Meta(gt=0, le=24)] = 1.0
    queue: OneQueue = ""
    task: Task = ""


class HistoryAsked(Asked, frozen=True):
    """What happened in a queue."""

    queue: Queue
    minutes: Annotated[float, Meta(gt=0, le=1440)] = 60.0


class TriggerAsked(Asked, frozen=True):
    """One of cron (an expression, in a time zone), every (seconds) and at (a moment)."""

    cron: Annotated[str, Meta(max_length=200)] = ""
    timezone: Annotated[str, Meta(max_length=64)] = "UTC"
    every: Annotated[float, Meta(gt=0, le=1e10)] | None = None
    at: Moment | None = None

    def trigger(self) -> Trigger:
        """Raises InvalidTrigger."""
        given = [name for name in ("cron", "every", "at") if getattr(self, name) not in ("", None)]
        if len(given) != 1:
            raise InvalidTrigger(
                f"{' and '.join(given) or 'nothing'} is given: give one of cron, every (seconds) and at"
            )
        if self.cron:
            return cron(self.cron, timezone=self.timezone)
        if self.every is not None:
            return every(seconds=self.every)
        return at(read_moment("at", self.at))


class PreviewAsked(TriggerAsked, frozen=True):
    """A trigger that no schedule has yet."""

    n: Annotated[int, Meta(ge=1, le=200)] = 10


class LimitAsked(Asked, frozen=True):
    """limit: null takes the limit away."""

    queue: Queue
    limit: Annotated[int, Meta(ge=1, le=1_000_000)] | None


class SomeAsked(Asked, frozen=True):
    """Jobs of a queue."""

    queue: Queue
    ids: Ids


class PauseAsked(Asked, frozen=True):
    """note: why."""

    queue: Queue
    id: Id
    note: Annotated[str, Meta(max_length=500)] = ""


class BackfillAsked(Asked, frozen=True):
    """The moments from start on, before end."""

    queue: Queue
    id: Id
    start: Moment
    end: Moment


class EditAsked(Asked, frozen=True):
    """revision: that of the schedule as it was read."""

    queue: Queue
    id: Id
    trigger: TriggerAsked
    revision: Annotated[int, Meta(ge=1)]


class QueueState(msgspec.Struct, frozen=True):
    """The switches of a queue."""

    queue: str
    paused: bool
    limit: int | None


class ScheduleAnswer(msgspec.Struct, frozen=True):
    """A schedule. trigger: its kind and fields; words: the same for people. See ScheduleView for the others."""

    id: str
    queue: str
    trigger: dict[str, Any]
    words: str
    task: str
    revision: int
    paused: str | None
    next: float | None
    last: float | None
    fired: int
    skipped: Mapping[str, int]
    app: str
    living: int
    late: int
    ended: float | None
    outcome: str
    failures: int


class SchedulesAnswer(msgspec.Struct, frozen=True):
    """A page. cursor: for the next one, empty if there is none. looked: entries looked at for it."""

    schedules: Sequence[ScheduleAnswer]
    cursor: str
    looked: int


class TickAnswer(msgspec.Struct, frozen=True):
    """A moment, what became of it, and when."""

    moment: float
    state: Literal["fired", "late", "skipped", "missing", "overdue", "coming"]
    at: float | None
    why: str


class ScheduleDetailAnswer(msgspec.Struct, frozen=True):
    """A schedule, its arguments redacted, its policies, and its moments since `since`."""

    schedule: ScheduleAnswer
    args: Any
    kwargs: Any
    policies: dict[str, Any]
    ticks: Sequence[TickAnswer]
    since: float
    now: float


class LaneAnswer(msgspec.Struct, frozen=True):
    """A schedule and its moments."""

    schedule: ScheduleAnswer
    ticks: Sequence[TickAnswer]


class LanesAnswer(msgspec.Struct, frozen=True):
    """A page of them. cursor: for the next one, empty if there is none."""

    lanes: Sequence[LaneAnswer]
    cursor: str
    since: float
    now: float


class PreviewAnswer(msgspec.Struct, frozen=True):
    """words: the trigger for people; moments: the next ones."""

    words: str
    moments: Sequence[float]


class RingAnswer(msgspec.Struct, frozen=True):
    """For each queue, the part of its ring that each node has."""

    queues: dict[str, dict[str, float]]


class BackfillAnswer(msgspec.Struct, frozen=True):
    """moments: how many were given a run."""

    moments: int


class TriggerAnswer(msgspec.Struct, frozen=True):
    """job: the id of the run."""

    job: str


class EditAnswer(msgspec.Struct, frozen=True):
    """revision: the new one."""

    revision: int


class Ok(msgspec.Struct, frozen=True):
    """It is done."""

    ok: bool = True


def read_moment(name: str, value: float | str | None) -> float:
    """Epoch seconds, of such or of ISO 8601 with an offset. Raises Refused."""
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            found = None
        if found is None or found.tzinfo is None:
            raise Refused(422, f"{name}={value!r} is no moment: give 2026-03-01T09:00+01:00, or epoch seconds")
        return found.timestamp()
    return float(value or 0)


def read_datetime(name: str, value: float | str) -> datetime:
    """The same as an aware datetime."""
    try:
        return datetime.fromtimestamp(read_moment(name, value), UTC)
    except (ValueError, OverflowError, OSError):
        raise Refused(422, f"{name}={value!r}: give a moment of the years 1 to 9999") from None


def plain(value: Any) -> Any:
    """A trigger by the names of its fields: its own form has them by place."""
    if isinstance(value, msgspec.Struct):
        return {"kind": type(value).__name__.lower()} | {
            name: plain(getattr(value, name)) for name in value.__struct_fields__
        }
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def schedule_answer(view: ScheduleView) -> ScheduleAnswer:
    """The view for programs."""
    fields = {name: getattr(view, name) for name in view.__struct_fields__}
    return ScheduleAnswer(**fields | {"trigger": plain(view.trigger), "words": view.trigger.describe()})


def tick_answers(ticks: Sequence[msgspec.Struct]) -> list[TickAnswer]:
    """The same, by name."""
    return [TickAnswer(**msgspec.structs.asdict(tick)) for tick in ticks]


def detail_answer(detail: ScheduleDetail) -> ScheduleDetailAnswer:
    """The detail for programs."""
    return ScheduleDetailAnswer(
        schedule_answer(detail.schedule), detail.args, detail.kwargs, dict(detail.policies), tick_answers(detail.ticks),
        detail.since, detail.now,
    )  # fmt: skip
