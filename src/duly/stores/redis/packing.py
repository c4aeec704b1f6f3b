"""How values travel between Python and Lua: msgpack in the dialect of Redis' cmsgpack, and the parts of stored values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from duly.core.job import Holder, NewJob
from duly.stores.base import JobRecord, ScheduleRecord, Settlement
from duly.stores.editing import outcome

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
NONE = -1
"""How an absent moment is written."""
LATEST = 2**53
"""The epoch of what may be kept by any map."""


def raw(data: bytes) -> msgspec.Raw:
    """Bytes as msgpack text: cmsgpack knows no binary type."""
    size = len(data)
    if size < 32:
        head = bytes((0xA0 | size,))
    elif size < 256:
        head = bytes((0xD9, size))
    elif size < 65_536:
        head = b"\xda" + size.to_bytes(2)
    else:
        head = b"\xdb" + size.to_bytes(4)
    return msgspec.Raw(head + data)


def options_of(job: NewJob) -> bytes:
    """The third part of an item of parts/keep.lua: empty for a plain job."""
    hold = job.unique
    if job.priority == 1 and not job.named and not job.replace and hold is None:
        return b""
    key, scope, ms = (hold.key, hold.scope, hold.ms) if hold else ("", "end", 0)
    return _encode((job.priority, job.named, job.replace, key, scope, ms))


def due_of(job: NewJob) -> str:
    """The second part of an item: a moment, `+` and a delay in ms, or nothing for now."""
    if job.due is not None:
        return str(job.due)
    return f"+{job.delay}" if job.delay else ""


def item(job: NewJob) -> list[Any]:
    """A job as part of a packed change or firing."""
    return [job.id, due_of(job), raw(options_of(job)), raw(job.body)]


def keeps_result(s: Settlement) -> bool:
    """Whether the settlement brings a result that is to be kept for some time."""
    return s.result is not None and s.result_ms > 0


def pack_change(s: Settlement) -> bytes:
    """A settlement's change for settle.lua; empty for a plain end."""
    c = s.change
    if c.verb == "end" and not (
        s.named or s.unique or s.schedule or s.children or (s.result is not None and keeps_result(s))
    ):
        return b""
    error = _encode((c.reason, c.error, c.trace)) if c.reason or c.error else b""
    change = (
        c.verb, c.delay, c.attempts, c.crashes, c.unfit_since, s.priority, s.named, s.unique or "", s.schedule or "",
        raw(error), raw((s.result if keeps_result(s) else None) or b""), s.result_ms, [item(child) for child in s.children],
        outcome(c) if s.schedule else "", LATEST if s.epoch is None else s.epoch,
    )  # fmt: skip
    return _encode(change)


def pack_runs(settlements: Sequence[Settlement]) -> bytes:
    """What became of runs, for settle.lua: a flat list of id, fence, change."""
    words: list[Any] = []
    fence, text = -1, ""
    for s in settlements:
        if s.fence != fence:  # those of one claim come together
            fence, text = s.fence, str(s.fence)
        change = pack_change(s)
        words += (s.id, text, raw(change) if change else "")
    return _encode(words)


def read_value(value: bytes) -> tuple[int, int, bool, str | None, bytes]:
    """(enqueued at, priority, named, unique key, body) of a kept job."""
    flags, length = value[6], value[7]
    key = value[8 : 8 + length].decode() if length else None
    return int.from_bytes(value[:6]), (flags >> 1) & 3, bool(flags & 1), key, value[8 + length :]


def read_counts(text: bytes) -> tuple[int, int, int]:
    """(attempts, crashes, unfit since)."""
    if not text:
        return 0, 0, 0
    attempts, crashes, unfit = text.split()
    return int(attempts), int(crashes), int(unfit)


def read_dues(text: bytes, count: int) -> list[int]:
    """When so many claimed jobs were due: the last ones are told, 0 for those before."""
    try:
        dues = [int(due) for due in text.split()]
    except ValueError:  # no moment that any duly has written: it is worth no job
        dues = []
    return [0] * (count - len(dues)) + dues if len(dues) < count else dues


def read_holder(entry: bytes) -> Holder:
    """Who holds a job, from its running entry."""
    fence, started, node = entry.split(b" ", 2)
    return Holder(int(fence), node.decode(), started == b"1", started == b"2")


def read_record(found: Any) -> JobRecord | None:
    """One answer of get.lua or list.lua."""
    if found == 0:
        return None
    if len(found) == 2:
        return JobRecord(found[0].decode(), "ended", b"", 0, found[1])
    id, state, at, value, counts, running, cancel, error, progress = found
    enqueued, priority, _, _, body = read_value(value)
    attempts, crashes, unfit = read_counts(counts)
    holder = read_holder(running) if running else Holder(0, "", False)
    reason, text, trace = _decode(error) if error else ("", "", "")
    return JobRecord(
        id.decode(), state.decode(), body, enqueued, int(float(at)), priority, attempts, crashes, unfit, holder.fence,
        holder.node, holder.started, bool(cancel), reason, text, trace, progress or None,
    )  # fmt: skip


def read_schedule(id: bytes, value: bytes) -> ScheduleRecord:
    """A schedule as parts/schedule.lua writes it."""
    length = int.from_bytes(value[:2])
    revision, mark, anchor, following, app, buffer, paused, live, fired, skipped, last, *more = _decode(
        value[2 : 2 + length]
    )
    late, ended, ending, failures = more or (0, 0, "", 0)
    return ScheduleRecord(
        id=id.decode(),
        definition=value[2 + length :],
        revision=revision,
        mark=mark,
        anchor=anchor,
        next=None if following == NONE else following,
        app=app,
        buffer=buffer,
        paused=paused if isinstance(paused, str) else None,
        live=tuple(live),
        fired=fired,
        skipped=dict(zip(skipped[::2], skipped[1::2], strict=True)),
        last=last,
        late=late,
        ended=ended,
        outcome=ending,
        failures=failures,
    )
