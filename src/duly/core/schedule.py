"""Recurring work, decided in pure code: which nominal moments of a schedule are fired now, and what is skipped.

The model is `plan`: (definition, mark, living runs, now) -> moments to fire, the new mark, what was dropped and why.
The store only compares (revision, mark) and writes; any node may plan any schedule. Moments are epoch ms.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Literal

import msgspec

from duly.core import codec
from duly.core.codec import Origin
from duly.core.job import DEFAULT_PRIORITY, NewJob, Options, duration
from duly.core.trigger import Trigger
from duly.errors import InvalidOption, nearest

CatchUp = Literal["latest", "all"]
Overlap = Literal["allow", "skip", "buffer"]

WINDOW_MS = 3_600_000
NONE_WINDOW_MS = 60_000
STEP = 100
"""Ticks fired in one step at most."""
COUNT_STEP = 10_000
"""Ticks counted as skipped in one step at most: after a long outage the mark moves on in several bounded steps."""
HELD_BACK_MS = 60_000
"""When a schedule that waits for its living run is looked at again, should the run's settle never name it."""


class Definition(msgspec.Struct, frozen=True, array_like=True):
    """What a schedule is; the store keeps it packed and compares it byte by byte. New fields go to the end."""

    trigger: Trigger
    task: str
    args: msgspec.Raw = msgspec.Raw(b"\x90")
    kwargs: msgspec.Raw = msgspec.Raw(b"\x80")
    options: Options | None = None
    priority: int = DEFAULT_PRIORITY
    catch_up: CatchUp = "latest"
    window: int = WINDOW_MS
    overlap: Overlap = "allow"

    @property
    def counted(self) -> bool:
        """Whether the schedule's living runs are tracked."""
        return self.overlap != "allow"


_definitions = msgspec.msgpack.Decoder(Definition)


def encode(definition: Definition) -> bytes:
    """The definition as bytes, the same for equal definitions."""
    return msgspec.msgpack.encode(definition)


def decode(data: bytes) -> Definition:
    """The definition that `encode` wrote."""
    return _definitions.decode(data)


def policies(catch_up: str = "latest", window: object = None, overlap: str = "allow") -> tuple[CatchUp, int, Overlap]:
    """Validated (catch_up, window in ms, overlap); `"none"` is `latest` with a window of 60 s. Raises InvalidOption."""
    if catch_up not in ("latest", "all", "none"):
        raise InvalidOption(f"catch_up={catch_up!r}; {nearest(str(catch_up), ('latest', 'all', 'none'))}")
    if overlap not in ("allow", "skip", "buffer"):
        raise InvalidOption(f"overlap={overlap!r}; {nearest(str(overlap), ('allow', 'skip', 'buffer'))}")
    ms = WINDOW_MS if catch_up != "none" else NONE_WINDOW_MS
    if window is not None:
        ms = int(duration("window", window, least=1) * 1000)  # a tick is always a few ms late: 0 would skip them all
    return ("all" if catch_up == "all" else "latest"), ms, overlap  # type: ignore[return-value]


class Plan(msgspec.Struct, frozen=True):
    """What to write: moments to fire, the new mark, the next moment (None: no more), when to look again, what was skipped."""

    moments: list[int]
    mark: int
    next: int | None
    look: int | None
    skipped: Mapping[str, int]


def plan(definition: Definition, mark: int, anchor: int, live: bool, now: int) -> Plan:
    """What to do about a schedule at `now`. At most STEP moments are fired and COUNT_STEP passed over a step.

    live: a run of this schedule is still alive (only asked for when `definition.counted`).
    """
    trigger = definition.trigger
    first = trigger.after(mark, anchor)
    if first is None or first > now:
        return Plan([], mark, first, first, {})
    if live and definition.overlap == "buffer":
        return Plan([], mark, first, now + HELD_BACK_MS, {})
    if live and definition.overlap == "skip":
        return _pass_over(definition, mark, anchor, now, now, "overlap")
    if definition.catch_up == "latest":
        latest = trigger.before(now + 1, anchor)
        assert latest is not None
        if latest < now - definition.window:
            return _pass_over(definition, mark, anchor, latest, now, "late")
        if latest != first:
            late = trigger.count(mark, latest - 1, anchor, COUNT_STEP)
            if late == COUNT_STEP:
                return _pass_over(definition, mark, anchor, latest - 1, now, "late")
            return _fire(definition, [latest], anchor, now, {"late": late})
        return _fire(definition, [latest], anchor, now, {})
    stale_until = now - definition.window - 1
    if first <= stale_until:
        return _pass_over(definition, mark, anchor, stale_until, now, "late")
    limit = 1 if definition.counted else STEP
    return _fire(definition, list(itertools.islice(trigger.moments(mark, now, anchor), limit)), anchor, now, {})


def _fire(definition: Definition, moments: list[int], anchor: int, now: int, skipped: Mapping[str, int]) -> Plan:
    following = definition.trigger.after(moments[-1], anchor)
    look = following if following is None or following > now else now
    if definition.overlap == "buffer" and look is not None and look <= now:
        look = now + HELD_BACK_MS  # the run just fired holds it back; its settle puts it back
    return Plan(moments, moments[-1], following, look, skipped)


def _pass_over(definition: Definition, mark: int, anchor: int, until: int, now: int, why: str) -> Plan:
    """Move the mark over the moments in (mark, until], counting them; not further than COUNT_STEP of them."""
    passed, last = 0, mark
    count = definition.trigger.count(mark, until, anchor, COUNT_STEP)
    if count != COUNT_STEP:  # all of them: a trigger may count further than it was asked to, at no cost
        passed = count
        last = definition.trigger.before(until + 1, anchor) or mark
    else:
        passed_over = list(itertools.islice(definition.trigger.moments(mark, until, anchor), COUNT_STEP))
        passed, last = len(passed_over), passed_over[-1]
    following = definition.trigger.after(last, anchor)
    return Plan(
        [], last, following, None if following is None else max(following, now), {why: passed} if passed else {}
    )


def tick_id(schedule: str, nominal: int) -> str:
    """The id of the job of one tick."""
    return f"{schedule}@{nominal}"


def make_job(schedule: str, definition: Definition, nominal: int, id: str | None = None) -> NewJob:
    """The job of one tick, due at once; `id` for a manual trigger or a backfill."""
    origin = Origin(schedule, nominal, definition.counted)
    body = codec.encode_packed(definition.task, definition.args, definition.kwargs, definition.options, origin)
    return NewJob(id or tick_id(schedule, nominal), body, priority=definition.priority)
