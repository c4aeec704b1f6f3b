"""What a handler is told about its run, and what it may say about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextvars import ContextVar
from typing import Any, ParamSpec, Protocol

import msgspec

from duly.core import codec
from duly.core.codec import Envelope
from duly.core.job import Claimed
from duly.core.shards import slot_of, with_slot
from duly.errors import InvalidOption

P = ParamSpec("P")


class Told(Protocol):
    """A run, as far as a handler is told of it: on its node, or in a child process of it."""

    @property
    def job(self) -> Claimed: ...
    @property
    def envelope(self) -> Envelope: ...
    @property
    def queue(self) -> str: ...
    @property
    def fence(self) -> int: ...
    @property
    def node(self) -> str: ...
    @property
    def cancel_reason(self) -> str | None: ...
    @property
    def children(self) -> list[Any]: ...
    @property
    def state(self) -> Any: ...
    @property
    def report(self) -> Callable[[bytes], None]: ...


class JobInfo(msgspec.Struct, frozen=True):
    """The job of a run. enqueued_at in epoch seconds (store clock); schedule and nominal for a tick.

    headers: texts that travelled with it; see `Scheduler.headers`.
    """

    id: str
    task: str
    queue: str
    priority: int
    enqueued_at: float
    schedule: str | None = None
    nominal: float | None = None
    headers: Mapping[str, str] = {}


class _Done:
    """An awaitable that is there already."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


class Pushable(Protocol[P]):
    """A task, or a task with options."""

    def job(self, *args: P.args, **kwargs: P.kwargs) -> Any: ...


class Context:
    """The run that the handler is in."""

    __slots__ = ("_run",)

    def __init__(self, run: Told) -> None:
        self._run = run

    @property
    def job(self) -> JobInfo:
        """Its id, task, queue, priority, and the tick it was made for, if any."""
        run = self._run
        origin = run.envelope.origin
        return JobInfo(
            run.job.id,
            run.envelope.task,
            run.queue,
            run.job.priority,
            run.job.enqueued_at / 1000,
            origin.schedule if origin else None,
            origin.nominal / 1000 if origin else None,
            run.envelope.headers or {},
        )

    @property
    def attempt(self) -> int:
        """1 for the first run, one more after each counted failure."""
        return self._run.job.attempts + 1

    @property
    def crashes(self) -> int:
        """How often a lease of this job ended with its node, or its child process died."""
        return self._run.job.crashes

    @property
    def fence(self) -> int:
        """A number that only grows: refuse outside writes that carry a smaller one than you have seen."""
        return self._run.fence

    @property
    def node(self) -> str:
        """The name of the node that runs it."""
        return self._run.node

    @property
    def cancelled(self) -> bool:
        """Whether this run should end: it was cancelled, its lease was taken, its time is over, or the node stops."""
        return self._run.cancel_reason is not None

    @property
    def cancel_reason(self) -> str | None:
        """Why it should: `asked`, `taken`, `timeout` or `stop`; None if it need not."""
        return self._run.cancel_reason

    @property
    def state(self) -> Any:
        """What the scheduler's `lifespan` yielded; None in a child process, where the lifespan does not run."""
        return self._run.state

    def progress(self, fraction: float, message: str = "") -> Awaitable[None]:
        """Publish how far the run is (0 to 1); kept under its fence, sent with a renewal soon after.

        To be awaited in async handlers; a sync handler simply calls it.
        """
        self._run.report(codec.pack((float(fraction), str(message))))
        return _Done()

    def push(self, task: Pushable[P], /, *args: P.args, **kwargs: P.kwargs) -> str:
        """Push a child that is enqueued together with this job's own end, in one step, or not at all. Returns its id.

        `task` is a task, or a task with options, of the same scheduler. If this run loses its lease or is tried
        again, its children are not pushed.
        """
        make: Callable[..., Any] | None = getattr(task, "job", None)
        if make is None:
            raise InvalidOption(
                f"ctx.push({task!r}, …) takes a task, or a task with options, not a {type(task).__name__}"
            )
        request, run = make(*args, **kwargs), self._run
        if request.queue == run.queue and not request.new.named and request.new.unique is None:
            # in its parent's shard, where it is kept together with its end
            new = msgspec.structs.replace(request.new, id=with_slot(request.new.id, slot_of(run.job.id)))
            request = msgspec.structs.replace(request, new=new)
        stamped: Callable[[Any], Any] | None = getattr(task, "stamped", None)
        if stamped is not None:
            request = stamped(request)
        run.children.append(request)
        return request.new.id  # type: ignore[no-any-return]


_current: ContextVar[Told] = ContextVar("duly_run")


def current() -> Context:
    """The context of the run that this code is in. Raises LookupError outside of one."""
    run = _current.get(None)
    if run is None:
        raise LookupError("duly.current() was called outside of a running job")
    return Context(run)
