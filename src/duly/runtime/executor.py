"""Runs handlers: async ones as tasks of the loop, sync ones in threads, either in child processes where the task says so;
every end becomes one Outcome.

A thread cannot be stopped: one that is over its time-out is abandoned, its job settled as timed out, its slot kept
until it really ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import queue
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from duly.clock import Clock
from duly.core.outcome import RETURNED_NONE, ChildFailed, Discard, Ending, Fail, HandlerSignal, Outcome, RetryIn, Snooze
from duly.runtime.children import Children, plain
from duly.runtime.context import Context, _current
from duly.runtime.middleware import Middleware, call_through
from duly.runtime.run import CancelReason, Run

Ended = Callable[[Run, Outcome], None]
TRACE_BYTES = 8_000
"""How much of a traceback is kept: its end."""


def outcome_of(error: BaseException) -> Outcome:
    """What an exception out of a handler means."""
    if isinstance(error, HandlerSignal):
        if isinstance(error, RetryIn):
            return Outcome(Ending.RETRY_IN, seconds=error.seconds, reason=_text(error.why)[:500])
        if isinstance(error, Snooze):
            return Outcome(Ending.SNOOZED, seconds=error.seconds, reason=_text(error.why)[:500])
        if isinstance(error, Discard):
            return Outcome(Ending.DISCARDED, reason=_text(error.why)[:500])
        if isinstance(error, Fail):
            return Outcome(Ending.FAILED, reason=_text(error.why)[:500] or "the handler said so")
    if isinstance(error, ChildFailed):
        return error.outcome
    words = _text(error)
    text = f"{type(error).__name__}: {words}" if words else type(error).__name__
    trace = _text("".join(traceback.format_exception(error)))[-TRACE_BYTES:]
    return Outcome(Ending.RAISED, reason=text[:500], error=text[:2000], trace=trace)


def _text(value: object) -> str:
    """The value as text that can be written anywhere, whatever a handler raised."""
    try:
        return str(value).encode(errors="replace").decode()
    except Exception:
        return f"<a {type(value).__name__} that cannot be shown>"


def cancelled_outcome(reason: CancelReason | None, timeout: float | None, from_outside: bool) -> Outcome:
    """What a cancellation means, by who asked for it; from_outside: somebody cancelled the task, the loop's end say."""
    if reason == "timeout":
        return Outcome(Ending.TIMED_OUT, reason=f"ran longer than its timeout of {timeout:g} s", error="TimeoutError")
    if reason == "asked":
        return Outcome(Ending.CANCELLED, reason="cancelled while it ran")
    if reason == "stop" or (reason is None and from_outside):
        return Outcome(Ending.INTERRUPTED, reason="its node stopped")
    return Outcome(Ending.RAISED, reason="the handler was cancelled from inside", error="CancelledError")


def refuse_awaitable(value: Any) -> Any:
    """What a sync handler returned; Fail if it is a coroutine that nobody would await."""
    if value is not None and inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise Fail("the handler returned a coroutine and is no async function: declare it with async def, or unwrap it")
    return value


class LoopExecutor:
    """Async handlers, those that run in child processes, and sync ones wrapped in middleware."""

    def __init__(
        self, ended: Ended, threads: ThreadExecutor, children: Children, middleware: Sequence[Middleware], clock: Clock
    ) -> None:
        self._ended, self._threads, self._children, self._middleware = ended, threads, children, tuple(middleware)
        self._monotonic = clock.monotonic

    def start(self, run: Run) -> None:
        loop = asyncio.get_running_loop()
        timeout = run.policy.timeout
        run.task = loop.create_task(self._run(run))
        if timeout is None or run.handler.in_process:  # the time in a child counts from when the child begins
            return
        if run.handler.in_thread:
            run.timer = loop.call_later(timeout, self._threads.abandon, run)
        else:
            run.timer = loop.call_later(timeout, self.cancel, run, "timeout")

    def cancel(self, run: Run, reason: CancelReason) -> None:
        """End a run. A thread cannot be ended: it sees the wish in `ctx.cancelled`, and what it returns still counts."""
        if run.cancel_reason is None:
            run.cancel_reason = reason
            if run.task is not None and not run.handler.in_thread:
                run.task.cancel()

    async def _run(self, run: Run) -> None:
        handler = run.handler
        _current.set(run)
        run.began = self._monotonic()
        try:
            if self._middleware:
                value = await self._through_middleware(run)
            elif handler.in_process:
                value = await self._children.call(run, self.cancel)
            elif handler.wants_context:
                value = await handler.fn(Context(run), *run.args, **run.kwargs)
            else:
                value = await handler.fn(*run.args, **run.kwargs)
            outcome = RETURNED_NONE if value is None else Outcome(Ending.RETURNED, value)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            outcome = cancelled_outcome(
                run.cancel_reason, run.policy.timeout, task is not None and task.cancelling() > 0
            )
        except BaseException as error:  # SystemExit in a handler ends the run, not the node
            outcome = outcome_of(error)
        if not handler.in_thread:
            if run.timer is not None:
                run.timer.cancel()
            self._ended(run, outcome)
        else:
            self._threads.done(run, outcome)

    async def _through_middleware(self, run: Run) -> Any:
        context = Context(run)
        arguments = (context, *run.args) if run.handler.wants_context else run.args

        async def innermost() -> Any:
            if run.handler.in_process:
                return plain(await self._children.call(run, self.cancel))
            call = functools.partial(run.handler.fn, *arguments, **run.kwargs)
            return await call() if run.handler.is_async else refuse_awaitable(await self._threads.call(call))

        return await call_through(self._middleware, context, innermost)


class ThreadExecutor:
    """Sync handlers, in at most `size` threads that start when they are needed.

    Not the standard library's pool: outcomes come back to the loop in batches, with one wake-up for all of them.
    """

    def __init__(self, size: int, ended: Ended, hung: Callable[[Run], None], freed: Callable[[Run], None],
                 clock: Clock) -> None:  # fmt: skip
        self._size, self._ended, self._hung, self._freed = size, ended, hung, freed
        self._monotonic = clock.monotonic
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._outbox: deque[Callable[[], None]] = deque()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._told = False
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, run: Run) -> None:
        self._submit(functools.partial(self._work, run))
        if run.policy.timeout is not None:
            run.timer = asyncio.get_running_loop().call_later(run.policy.timeout, self.abandon, run)

    def call(self, fn: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run a plain call in a thread, with the caller's context variables."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        context = contextvars.copy_context()

        def work() -> None:
            try:
                answer, error = context.run(fn), None
            except BaseException as raised:
                answer, error = None, raised
            self._tell(functools.partial(_answer, future, answer, error))

        self._submit(work)
        return future

    def _submit(self, work: Callable[[], None]) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        if self._busy >= len(self._threads) and len(self._threads) < self._size:
            thread = threading.Thread(target=self._serve, name=f"duly-thread-{len(self._threads)}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system gives no more: those that are there do it, one after the other
                if not self._threads:
                    raise
            else:
                self._threads.append(thread)
        self._busy += 1
        self._inbox.put(work)

    def _serve(self) -> None:
        while (work := self._inbox.get()) is not None:
            work()
            del work

    def _work(self, run: Run) -> None:
        token = _current.set(run)
        try:
            if run.cancel_reason is not None:  # while it waited for a thread: it must not begin any more
                self._tell(
                    functools.partial(self.done, run, cancelled_outcome(run.cancel_reason, run.policy.timeout, False))
                )
                return
            arguments = (Context(run), *run.args) if run.handler.wants_context else run.args
            run.began = self._monotonic()
            value = refuse_awaitable(run.handler.fn(*arguments, **run.kwargs))
            outcome = RETURNED_NONE if value is None else Outcome(Ending.RETURNED, value)
        except BaseException as error:
            outcome = outcome_of(error)
        finally:
            _current.reset(token)
        self._tell(functools.partial(self.done, run, outcome))

    def _tell(self, news: Callable[[], None]) -> None:
        """Called in threads: hand something to the loop; one wake-up serves all that has come by then."""
        with self._lock:
            self._outbox.append(news)
            if self._told:
                return
            self._told = True
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is on its way out
            self._loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        with self._lock:
            self._told = False
            news, self._outbox = self._outbox, deque()
        for step in news:
            self._busy -= 1
            try:
                step()
            except Exception as error:  # one that cannot be told must not take the others along
                context = {"message": "the end of a thread's run could not be told", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)

    def done(self, run: Run, outcome: Outcome) -> None:
        """A thread has come back from a handler."""
        if run.timer is not None:
            run.timer.cancel()
        if run.cancel_reason == "timeout":
            self._freed(run)  # abandoned: its job is settled already
        else:
            self._ended(run, outcome)

    def abandon(self, run: Run) -> None:
        """A run is over its time: its job is settled without it."""
        if run.cancel_reason in (None, "asked", "stop"):
            run.cancel_reason = "timeout"
            self._hung(run)

    def close(self) -> None:
        """Let the threads end once they are done with what they do."""
        for _ in self._threads:
            self._inbox.put(None)

    def join(self, seconds: float) -> bool:
        """Wait for threads that are not abandoned in a handler; whether all have ended. Called after `close`."""
        for thread in self._threads:
            thread.join(seconds)
        return not any(thread.is_alive() for thread in self._threads)


def _answer(future: asyncio.Future[Any], answer: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(answer)
    elif isinstance(error, StopIteration):
        future.set_exception(RuntimeError("the handler raised StopIteration"))
    else:
        future.set_exception(error)
