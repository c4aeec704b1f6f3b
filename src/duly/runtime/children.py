"""Runs handlers with `executor="process"`: one child process at a time for each, at most so many, kept warm, replaced when
worn.

A run that is cancelled or over its time is told so and, half a second later, its child is killed; a child that dies takes
its own run along and nothing else. Not the standard library's pool: there one killed child fails all calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from duly.clock import Clock
from duly.config import Config
from duly.core.outcome import ChildFailed, Discard, Ending, Fail, Outcome, RetryIn, Snooze
from duly.runtime.childprocess import ChildGone, ChildProcess, died_how
from duly.runtime.loop import Backoff
from duly.runtime.messages import Cancel, Done, Load, Loaded, Work
from duly.runtime.run import CancelReason, Run

LAST_SECONDS = 0.5
"""Between telling a child that its run is cancelled and killing it."""
START_SECONDS = 60.0
"""What a child gets to start and to import a handler."""
EXIT_SECONDS = 3.0
"""What idle children get to end by themselves at a stop; a little more than they allow themselves."""
MB = 1024 * 1024
DIED_IDLE = "its child process had ended before"
_NONE, _FALSE = b"\xc0", b"\xc2"


class Children:
    """The child processes of a node."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config, self._clock = config, clock
        self._size = config.children or _processors()
        self._busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._idle: list[ChildProcess] = []
        self._alive: set[ChildProcess] = set()
        self._draining = False
        self._backoff = Backoff(5.0, first=0.2)

    async def call(self, run: Run, cancel: Callable[[Run, CancelReason], None]) -> Any:
        """Run the handler in a child. Returns what it returned, still packed if it is to be kept, else None or False.

        Raises the handler's own signal, else ChildFailed; if it is cancelled, the child is told, and killed. The time
        of a run counts from when its handler is called: `cancel` is called when it is over.
        """
        child: ChildProcess | None = None
        try:
            await self._slot()
            try:
                child = await self._ready(run)
                await self._send(child, run)
            except BaseException:
                self._give_back(child)
                raise
        except asyncio.CancelledError:
            if run.cancel_reason == "stop":
                raise _not_begun("its node is stopping") from None
            raise
        self._limit(run, cancel)
        try:
            return _answer(await self._done(child, run), run)
        finally:
            self._give_back(child)

    def drain(self) -> None:
        """The node stops: what waits for a child is handed back at once."""
        self._draining = True
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(_not_begun("its node is stopping"))

    async def close(self) -> None:
        """End all children. Called when no run is left."""
        for child in self._idle:
            child.close()
        exits = [child.exit for child in self._alive]
        if exits:
            await asyncio.wait(exits, timeout=EXIT_SECONDS)
        for child in [*self._alive]:
            child.kill()
            await asyncio.wait((child.exit,))

    # who may have a child

    async def _slot(self) -> None:
        """One of the `children`; whoever came first gets the next one."""
        if self._draining:
            raise _not_begun("its node is stopping")
        if self._busy < self._size:
            self._busy += 1
            return
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._pass_on()  # it was given at the moment of the cancel
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return
        self._busy -= 1

    def _give_back(self, child: ChildProcess | None) -> None:
        if child is not None and self._is_worn(child):
            child.close()
        elif child is not None and child.is_open:
            self._idle.append(child)
        self._pass_on()

    def _is_worn(self, child: ChildProcess) -> bool:
        limit = self._config.child_memory
        return child.runs >= self._config.child_jobs or (limit is not None and child.resident > limit * MB)

    # the steps of a run

    async def _ready(self, run: Run) -> ChildProcess:
        """A child that has loaded the handler."""
        target, fault = run.handler.target, "was not ready in time"
        child: ChildProcess | None = None
        try:
            child = self._idle.pop() if self._idle else self._start()
            if target in child.loaded:
                return child
            async with asyncio.timeout(START_SECONDS):
                await child.send(Load(target, run.handler.name))
                loaded = await child.answer()
        except (OSError, TimeoutError, ChildGone) as error:
            if child is not None and child.loaded and isinstance(error, ConnectionError):
                child.kill()
                raise _not_begun(DIED_IDLE) from None
            fault = str(error) or fault
        except BaseException:
            if child is not None:
                child.kill()
            raise
        else:
            assert isinstance(loaded, Loaded)
            self._backoff.reset()
            if loaded.fault is None:
                child.loaded.add(target)
                return child
            self._idle.append(child)  # it is well; the module is not
            raise ChildFailed(_unloaded(target, loaded.fault.reason, loaded.fault.trace))
        if child is not None:
            child.kill()
        await asyncio.sleep(self._backoff.pause())  # no child after the other, where none can start
        raise ChildFailed(_unloaded(target, f"its process {fault}"))

    def _start(self) -> ChildProcess:
        child = ChildProcess()
        self._alive.add(child)
        child.exit.add_done_callback(lambda _: self._gone(child))
        self._config.logger.debug("child process %d has started", child.pid)
        return child

    def _gone(self, child: ChildProcess) -> None:
        self._alive.discard(child)
        if child in self._idle:
            self._idle.remove(child)
            if not self._draining:
                self._config.logger.warning("an idle child process %s", died_how(child.exit.result()))

    async def _send(self, child: ChildProcess, run: Run) -> None:
        child.runs += 1
        child.report = run.report
        weighs = self._config.child_memory is not None
        keeps = run.policy.keep_result > 0
        work = Work(child.runs, run.handler.target, run.queue, run.fence, run.job, keeps, weighs, run.node)
        try:
            await child.send(work)
        except OSError:
            child.kill()
            raise _not_begun(DIED_IDLE) from None
        except BaseException:
            child.kill()
            raise

    def _limit(self, run: Run, cancel: Callable[[Run, CancelReason], None]) -> None:
        timeout = run.policy.timeout
        run.began = self._clock.monotonic()
        if timeout is not None:
            run.deadline = run.began + timeout + self._config.grace
            run.timer = asyncio.get_running_loop().call_later(timeout, cancel, run, "timeout")

    async def _done(self, child: ChildProcess, run: Run) -> Done:
        try:
            done = await child.answer()
        except ChildGone as gone:
            raise ChildFailed(Outcome(Ending.DIED, reason=f"its process {gone}", error=f"its process {gone}")) from None
        except asyncio.CancelledError:
            last = await self._last_words(child, run)
            if last is None or last.outcome.ending is Ending.CANCELLED or run.cancel_reason == "timeout":
                raise
            done = last  # as of a thread: what it returns still counts
        assert isinstance(done, Done)
        child.resident = done.resident
        return done

    async def _last_words(self, child: ChildProcess, run: Run) -> Done | None:
        """Tell the child that its run is cancelled; its answer, or None: then it is dead. A taken run gets no time."""
        answer = None
        try:
            if run.cancel_reason not in (None, "taken"):
                with contextlib.suppress(OSError, TimeoutError, ChildGone):
                    async with asyncio.timeout(LAST_SECONDS):
                        await child.send(Cancel(child.runs, run.cancel_reason))
                        answer = await child.answer()
        finally:
            if answer is None:
                child.kill()
        if answer is None:
            await asyncio.wait((child.exit,))
        assert answer is None or isinstance(answer, Done)
        return answer


def _answer(done: Done, run: Run) -> Any:
    """What a run in a child comes to, as if it had been here: returned, or raised."""
    outcome = done.outcome
    if outcome.ending is Ending.RETRY_IN:
        raise RetryIn(outcome.seconds, outcome.reason)
    if outcome.ending is Ending.SNOOZED:
        raise Snooze(outcome.seconds, outcome.reason)
    if outcome.ending is Ending.DISCARDED:
        raise Discard(outcome.reason)
    if outcome.ending is Ending.FAILED and not outcome.error:
        raise Fail(outcome.reason)
    if outcome.ending is not Ending.RETURNED:
        raise ChildFailed(outcome)
    run.children += done.pushed
    value = bytes(memoryview(done.value)[:1])
    return None if value == _NONE else False if value == _FALSE else done.value


def plain(value: Any) -> Any:
    """What `Children.call` returned, unpacked."""
    return msgspec.msgpack.decode(value) if isinstance(value, msgspec.Raw) else value


def _not_begun(why: str) -> ChildFailed:
    return ChildFailed(Outcome(Ending.HANDED_BACK, reason=why))


def _unloaded(target: str, why: str, trace: str = "") -> Outcome:
    reason = f"no child process could load {target}: {why}"[:500]
    return Outcome(Ending.RAISED, reason=reason, error=reason, trace=trace)


def _processors() -> int:
    """How many this process may use: a container's share, where the system says it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
