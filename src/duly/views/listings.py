"""Pages and details, as `Monitor` answers them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from duly.core.audit import Entry, Tick
from duly.views.happenings import Happening
from duly.views.jobs import JobView, ResultView
from duly.views.queues import QueueView
from duly.views.schedules import ScheduleView
from duly.views.why import Reason


class JobPage(msgspec.Struct, frozen=True):
    """jobs: those that match. cursor: for the next page, empty if there is none. looked: entries looked at for it."""

    jobs: Sequence[JobView]
    cursor: str
    looked: int


class JobDetail(msgspec.Struct, frozen=True):
    """A job, its arguments redacted; what the history still knows of it, oldest first; why it is where it is; what it has
    returned, if that is kept."""

    job: JobView
    happenings: Sequence[Happening]
    why: str
    now: float
    reasons: Sequence[Reason] = ()
    result: ResultView | None = None


class SchedulePage(msgspec.Struct, frozen=True):
    """As JobPage."""

    schedules: Sequence[ScheduleView]
    cursor: str
    looked: int


class ScheduleDetail(msgspec.Struct, frozen=True):
    """A schedule with what became of its moments since `since` (epoch seconds) and the next ones; args, kwargs: redacted."""

    schedule: ScheduleView
    args: Any
    kwargs: Any
    policies: Mapping[str, Any]
    ticks: Sequence[Tick]
    since: float
    now: float


class Lane(msgspec.Struct, frozen=True):
    """What became of the moments of one schedule."""

    schedule: ScheduleView
    ticks: Sequence[Tick]


class Lanes(msgspec.Struct, frozen=True):
    """Schedules of a queue beside each other, since `since` (epoch seconds). cursor: for the next ones."""

    lanes: Sequence[Lane]
    cursor: str
    since: float
    now: float


class TickLog(NamedTuple):
    """Entries of the log of ticks, by schedule, oldest first; from when on (ms) it is whole."""

    entries: Mapping[str, Sequence[Entry]]
    first: int


class Overview(msgspec.Struct, frozen=True):
    """The whole cluster in numbers. url: without a password."""

    url: str
    namespace: str
    now: float
    pending: int
    leased: int
    dead: int
    schedules: int
    queues: Sequence[QueueView]
    nodes: int
    slots: int
    busy: int
