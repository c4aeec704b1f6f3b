"""Jobs that run where they are pushed: for tests of what tasks do, without a store or a node.

    with eager(scheduler):
        job = await send_receipt.push(42)     # runs the handler, here and now
        assert await job.result() == "sent"

Arguments go the same way as ever: they are checked, packed, unpacked and converted to the handler's types.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from duly.core import codec
from duly.core.job import Claimed
from duly.core.outcome import RETURNED_NONE, Ending, HandlerSignal, Outcome
from duly.errors import InvalidArguments, JobFailed, UnfitJob, UnknownTask, nearest
from duly.handle import JobHandle
from duly.runtime.context import Context, _current
from duly.runtime.executor import outcome_of, refuse_awaitable
from duly.runtime.middleware import call_through
from duly.runtime.run import Run
from duly.scheduler import Scheduler
from duly.task import JobRequest
from duly.testing.recording import pushing_to

STATUS = {
    Ending.RETURNED: "ended", Ending.DISCARDED: "ended", Ending.RETRY_IN: "pending", Ending.SNOOZED: "pending",
}  # fmt: skip


class EagerJob(JobHandle[Any]):
    """A job that has run. Its result is kept, whatever its options say."""

    __slots__ = ("error", "outcome")

    def __init__(
        self, scheduler: Scheduler, request: JobRequest, outcome: Outcome, error: BaseException | None
    ) -> None:
        super().__init__(scheduler, request.queue, request.new.id, "created", True)
        self.outcome, self.error = outcome, error

    async def status(self) -> str:
        """ended; dead, if it raised; pending, if it wants to run again (RetryIn, Snooze), which it does not here."""
        return STATUS.get(self.outcome.ending, "dead")

    async def cancel(self) -> str:
        """It is too late for that: its status."""
        return await self.status()

    async def result(self, timeout: float | None = None) -> Any:
        """What the handler returned. Raises JobFailed if it ended otherwise."""
        if self.outcome.ending is Ending.RETURNED:
            return self.outcome.value
        raise JobFailed(self.id, self.outcome.reason or self.outcome.ending.value, self.outcome.error) from self.error


@contextmanager
def eager(scheduler: Scheduler, *, raises: bool = True, state: Any = None) -> Iterator[None]:
    """Each push of the block runs its handler at once, in place, and returns when it has ended; so do its children.

    raises: what a handler raises comes out of the push; else it is kept for `job.result()`. RetryIn, Snooze, Discard and
    Fail never come out. state: `ctx.state`. Nothing waits, repeats or is known twice here: delay, retry, unique and id
    have no effect. Sync handlers run in the caller's thread. Raises UnknownTask for a task that is not declared here.
    """

    async def push(request: JobRequest) -> JobHandle[Any]:
        scheduler.require_accepting()
        run = _prepare(scheduler, scheduler.stamped(request), state)
        outcome, error = await _call(scheduler, run)
        if error is not None and raises and not isinstance(error, HandlerSignal):
            raise error
        if outcome.ending is Ending.RETURNED:
            for child in run.children:
                await push(child)
        return EagerJob(scheduler, request, outcome, error)

    with pushing_to(scheduler, push):
        yield


def _prepare(scheduler: Scheduler, request: JobRequest, state: Any) -> Run:
    """The run as a node would admit it."""
    envelope = codec.decode(request.new.body)
    handler = scheduler._book.find(envelope.task)
    if handler is None:
        raise UnknownTask(
            f"no task {envelope.task!r} is declared here; {nearest(envelope.task, scheduler._book.names())}"
        )
    line: Any = SimpleNamespace(queue=request.queue, worker=SimpleNamespace(node="", state=state, nudge=lambda: None))
    now = scheduler.clock.epoch_us() // 1000
    claimed = Claimed(request.new.id, request.new.body, now, request.new.priority, request.new.named)
    run = Run(line, claimed, 1, now, 0, envelope, handler, handler.policy_for(envelope.options))
    try:
        run.args, run.kwargs = handler.bind(envelope)
    except UnfitJob as error:
        raise InvalidArguments(str(error)) from error
    return run


async def _call(scheduler: Scheduler, run: Run) -> tuple[Outcome, BaseException | None]:
    """Through the middleware, as the executor calls."""
    context, handler = Context(run), run.handler
    arguments = (context, *run.args) if handler.wants_context else run.args

    async def innermost() -> Any:
        call = functools.partial(handler.fn, *arguments, **run.kwargs)
        return await call() if handler.is_async else refuse_awaitable(call())

    token = _current.set(run)
    try:
        value = await call_through(scheduler.middleware, context, innermost)
    except Exception as error:
        return outcome_of(error), error
    finally:
        _current.reset(token)
    return RETURNED_NONE if value is None else Outcome(Ending.RETURNED, value), None
