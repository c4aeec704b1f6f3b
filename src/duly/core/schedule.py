"""Recurring work, decided in pure code: which nominal moments of a schedule are fired now, and what is skipped.

The model is `plan`: (definition, mark, living runs, now) -> moments to fire, the new mark, what was dropped and why.
The store only compares (revision, mark) and writes; any node may plan any schedule. Moments are epoch ms.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from duly.core import codec
from duly.core.codec import Origin
from duly.core.job import DEFAULT_PRIORITY, NewJob, Options, duration, to_ms
from duly.core.trigger import Trigger
from duly.errors import InvalidOption, nearest

CatchUp = Literal["latest", "all"]
Overlap = Literal["allow", "skip", "buffer"]
Placement = Literal["any", "ring"]

WINDOW_MS = 3_600_000
NONE_WINDOW_MS = 60_000
MOST = 1_000_000_000
"""Of `times` and `pause_after`."""
STEP = 100
"""Ticks fired in one step at most."""
COUNT_STEP = 2_000
"""Ticks counted as skipped in one step at most: after a long outage the mark moves on in several bounded steps."""
LATE_MS = 1_000
"""A tick that is fired more than this after its moment is counted as late."""
RING_LATE_MS = 1_000
"""How long after its moment any node looks at a schedule whose ticks belong to the owner of its id; at most half an interval."""
LEAST_RING_WINDOW = 2.0
"""Seconds: what the owner has not fired is not dropped as too late when others look."""
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
    times: int | None = None
    jitter: int = 0
    pause_after: int | None = None
    placement: Placement = "any"

    @property
    def counted(self) -> bool:
        """Whether the schedule's living runs are tracked."""
        return self.overlap != "allow" or self.trigger.counts_from_completion

    @property
    def held_back(self) -> bool:
        """Whether a living run holds the next moment back; the store looks again when the run ends."""
        return self.overlap == "buffer" or self.trigger.counts_from_completion


_definitions = msgspec.msgpack.Decoder(Definition)
_RING = msgspec.msgpack.encode("ring")
_REFUSED = b"\xc1"
"""Begins what stands for a definition that is not trusted; nothing in msgpack does."""


def encode(definition: Definition) -> bytes:
    """The definition as bytes, the same for equal definitions."""
    return msgspec.msgpack.encode(definition)


def decode(data: bytes) -> Definition:
    """The definition that `encode` wrote. Raises msgspec.MsgspecError for one that is newer than this code, damaged, or
    refused."""
    if is_refused(data):
        raise msgspec.ValidationError(f"it is refused: {data[1:].decode(errors='replace')}")
    try:
        return _definitions.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.ValidationError(f"it is damaged: {error}") from None


def refused(why: str) -> bytes:
    """What stands in the place of a definition that is not trusted: `decode` says why."""
    return _REFUSED + why.encode()


def is_refused(data: bytes) -> bool:
    """Whether this is what `refused` made, in the place of a definition."""
    return data.startswith(_REFUSED)


def is_placed(data: bytes) -> bool:
    """Whether a definition that `encode` wrote has `placement="ring"`; without reading all of it."""
    return data.endswith(_RING)


def policies(*, catch_up: str = "latest", window: object = None, overlap: str = "allow", times: object = None,
             jitter: object = None, pause_after: object = None, placement: str = "any") -> dict[str, Any]:  # fmt: skip
    """The policies of a Definition, validated, by field; `catch_up="none"` is `latest` with a window of 60 s.

    window, jitter: seconds. Raises InvalidOption.
    """
    if catch_up not in ("latest", "all", "none"):
        raise InvalidOption(f"catch_up={catch_up!r}; {nearest(str(catch_up), ('latest', 'all', 'none'))}")
    if overlap not in ("allow", "skip", "buffer"):
        raise InvalidOption(f"overlap={overlap!r}; {nearest(str(overlap), ('allow', 'skip', 'buffer'))}")
    if placement not in ("any", "ring"):
        raise InvalidOption(f"placement={placement!r}; {nearest(str(placement), ('any', 'ring'))}")
    if placement == "ring" and jitter:
        raise InvalidOption(
            f"jitter={jitter!r} with placement='ring': a job that waits for its time is any node's; leave one out"
        )
    ms = WINDOW_MS if catch_up != "none" else NONE_WINDOW_MS
    if window is not None:
        ms = to_ms(duration("window", window, least=1))  # a tick is always a few ms late: 0 would skip them all
    if placement == "ring" and ms < LEAST_RING_WINDOW * 1000:
        raise InvalidOption(f"window={window!r} with placement='ring': give {LEAST_RING_WINDOW:g} seconds or more")
    for name, value in (("times", times), ("pause_after", pause_after)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST):
            raise InvalidOption(f"{name}={value!r}: give a whole number from 1 to {MOST:,}")
    return {
        "catch_up": "all" if catch_up == "all" else "latest", "window": ms, "overlap": overlap, "times": times,
        "jitter": 0 if jitter is None else to_ms(duration("jitter", jitter)), "pause_after": pause_after, "placement": placement,
    }  # fmt: skip


class Standing(msgspec.Struct, frozen=True):
    """Where a schedule stands, as the store has it. Moments in ms.

    live: a run of it is still alive (known only if `definition.counted`). fired: its ticks so far. failures: runs that
    have failed since one succeeded. ended: when the last run ended, 0 if none has.
    """

    mark: int
    anchor: int
    live: bool = False
    fired: int = 0
    failures: int = 0
    ended: int = 0


class Plan(msgspec.Struct, frozen=True):
    """What to write: moments to fire, the new mark, the next moment (None: no more), when to look again, what was skipped.

    late: how many of the moments are fired late. pause: why the schedule is paused from now on, or None.
    """

    moments: list[int]
    mark: int
    next: int | None
    look: int | None
    skipped: Mapping[str, int]
    late: int = 0
    pause: str | None = None


def plan(definition: Definition, at: Standing, now: int) -> Plan:
    """What to do about a schedule at `now`. At most STEP moments are fired and COUNT_STEP passed over a step."""
    found = _plan(definition, at, now)
    if definition.placement == "ring" and found.look is not None and found.look == found.next and found.look > now:
        then = definition.trigger.after(found.next, at.anchor)  # others come before it
        late = RING_LATE_MS if then is None else min(RING_LATE_MS, (then - found.next) // 2)
        return msgspec.structs.replace(found, look=found.look + late)  # its owner fires it at once
    return found


def _plan(definition: Definition, at: Standing, now: int) -> Plan:
    mark = at.mark
    if definition.times is not None and at.fired >= definition.times:
        return Plan([], mark, None, None, {})
    if definition.pause_after is not None and at.failures >= definition.pause_after:
        return Plan([], mark, None, None, {}, pause=f"{at.failures} runs in a row have failed")
    if definition.trigger.counts_from_completion:
        if at.live:
            return Plan([], mark, None, now + HELD_BACK_MS, {})
        at = msgspec.structs.replace(at, anchor=max(at.anchor, at.ended))
    first = definition.trigger.after(mark, at.anchor)
    if first is None or first > now:
        return Plan([], mark, first, first, {})
    if at.live and definition.overlap == "buffer":
        return Plan([], mark, first, now + HELD_BACK_MS, {})
    if at.live and definition.overlap == "skip":
        return _pass_over(definition, at, now, now, "overlap")
    if definition.catch_up == "latest":
        return _latest(definition, at, first, now)
    stale_until = now - definition.window - 1
    if first <= stale_until:
        return _pass_over(definition, at, stale_until, now, "late")
    limit = 1 if definition.counted else STEP
    return _fire(
        definition, at, list(itertools.islice(definition.trigger.moments(mark, now, at.anchor), limit)), now, {}
    )


def _latest(definition: Definition, at: Standing, first: int, now: int) -> Plan:
    trigger = definition.trigger
    latest = trigger.before(now + 1, at.anchor)
    if latest is None or latest < first:  # a search that was given up (Except): what `after` found stands
        latest = first
    if latest < now - definition.window:
        return _pass_over(definition, at, latest, now, "late")
    if latest == first:
        return _fire(definition, at, [latest], now, {})
    late = trigger.count(at.mark, latest - 1, at.anchor, COUNT_STEP)
    if late == COUNT_STEP:
        return _pass_over(definition, at, latest - 1, now, "late")
    return _fire(definition, at, [latest], now, {"late": late})


def _fire(definition: Definition, at: Standing, moments: list[int], now: int, skipped: Mapping[str, int]) -> Plan:
    if definition.times is not None:
        moments = moments[: definition.times - at.fired]
    late = sum(moment < now - LATE_MS for moment in moments)
    if definition.times is not None and at.fired + len(moments) >= definition.times:
        return Plan(moments, moments[-1], None, None, skipped, late)
    if definition.trigger.counts_from_completion:  # the next moment is not known before the run has ended
        return Plan(moments, moments[-1], None, now + HELD_BACK_MS, skipped, late)
    following = definition.trigger.after(moments[-1], at.anchor)
    look = following if following is None or following > now else now
    if definition.overlap == "buffer" and look is not None and look <= now:
        look = now + HELD_BACK_MS  # the run just fired holds it back; its settle puts it back
    return Plan(moments, moments[-1], following, look, skipped, late)


def _pass_over(definition: Definition, at: Standing, until: int, now: int, why: str) -> Plan:
    """Move the mark over the moments in (mark, until], counting them; not further than COUNT_STEP of them."""
    trigger = definition.trigger
    count = trigger.count(at.mark, until, at.anchor, COUNT_STEP)
    if count != COUNT_STEP:  # all of them: a trigger may count further than it was asked to, at no cost
        passed = count
        last = trigger.before(until + 1, at.anchor) or at.mark
    else:
        passed_over = list(itertools.islice(trigger.moments(at.mark, until, at.anchor), COUNT_STEP))
        passed, last = len(passed_over), passed_over[-1]
    following = trigger.after(last, at.anchor)
    return Plan(
        [], last, following, None if following is None else max(following, now), {why: passed} if passed else {}
    )


def tick_id(schedule: str, nominal: int) -> str:
    """The id of the job of one tick."""
    return f"{schedule}@{nominal}"


def make_job(
    schedule: str, definition: Definition, nominal: int, id: str | None = None, *, ahead: bool = False
) -> NewJob:
    """The job of one tick, due at once (at its moment, if that is ahead), or later by its jitter; `id` for a manual
    trigger or a backfill."""
    origin = Origin(schedule, nominal)
    body = codec.encode_packed(definition.task, definition.args, definition.kwargs, definition.options, origin)
    due = nominal if ahead else None
    if definition.jitter and id is None:
        due = nominal + jitter_of(schedule, nominal, definition.jitter)
    return NewJob(id or tick_id(schedule, nominal), body, due=due, priority=definition.priority)


def jitter_of(schedule: str, nominal: int, most: int) -> int:
    """From 0 to `most` ms, the same whichever node asks: a hash of the schedule's id and the nominal moment."""
    digest = hashlib.blake2b(f"{schedule}@{nominal}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % (most + 1)
