"""One job as people look at it."""

from __future__ import annotations

from typing import Any

import msgspec

from duly.core import codec
from duly.errors import ResultError, UnfitJob
from duly.stores.base import JobRecord
from duly.views.redaction import redacted


class JobView(msgspec.Struct, frozen=True):
    """One job as people look at it. Times in epoch seconds of the store's clock.

    state: pending, leased, ended (remembered), dead. at: due time, lease end or time of death, by state.
    args, kwargs: None where this code cannot read the envelope. progress: (fraction, message).
    """

    id: str
    queue: str
    state: str
    task: str | None
    args: list[Any] | None
    kwargs: dict[str, Any] | None
    priority: int
    enqueued_at: float
    at: float
    attempts: int
    crashes: int
    node: str
    fence: int
    cancel_asked: bool
    reason: str
    error: str
    trace: str
    progress: tuple[float, str] | None = None


def view(record: JobRecord, queue: str) -> JobView:
    """The record with its envelope opened, as far as this code can."""
    task = args = kwargs = None
    try:
        envelope = codec.decode(record.body)
        task, args, kwargs = envelope.task, codec.unpack(envelope.args), codec.unpack(envelope.kwargs)
    except (UnfitJob, msgspec.MsgspecError, ValueError, RecursionError):
        pass  # ended (no body), written by a newer duly, or damaged
    progress = _progress(record.progress)
    return JobView(
        record.id, queue, record.state, task, args, kwargs, record.priority, record.enqueued_at / 1000, record.at / 1000,
        record.attempts, record.crashes, record.node, record.fence, record.cancel_asked, record.reason, record.error,
        record.trace, progress,
    )  # fmt: skip


def _progress(packed: bytes | None) -> tuple[float, str] | None:
    try:
        return msgspec.msgpack.decode(packed, type=tuple[float, str]) if packed else None
    except (msgspec.MsgspecError, ValueError):
        return None


class ResultView(msgspec.Struct, frozen=True):
    """A result that is kept. ending: returned, or how else it ended. value: redacted."""

    ending: str
    value: Any
    reason: str
    error: str


def result_view(packed: bytes | None) -> ResultView | None:
    """None if there is none, or this code cannot read it."""
    try:
        ending, value, reason, error = codec.unpack(packed) if packed else (None,) * 4
    except ResultError as error:  # sealed, and this process has no keys
        return ResultView("sealed", None, str(error), "")
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
        return None
    return None if ending is None else ResultView(str(ending), redacted(value), str(reason or ""), str(error or ""))
