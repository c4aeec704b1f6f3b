"""An event loop in virtual time: when nothing is ready, the time of the next timer is now. No thread, no selector, no sleep.

Each callback takes a microsecond, for a program may wait until some time has passed, however little. Callbacks run in the
order in which they became ready, timers in the order of their times, so a program that asks neither a clock nor chance
runs the same way each time. Callbacks belong to the `Process` in whose context they were scheduled: one can be paused, as
by SIGSTOP, or killed, at any callback boundary, and the others never notice.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

T = TypeVar("T")
CALLBACK_SECONDS = 1e-6
MOST_WITHOUT_A_PAUSE = 1_000_000
"""Callbacks in a row after which a loop is taken to spin."""


class StuckLoop(Exception):
    """Nothing is ready and nothing is scheduled, or the loop spins: waiting would never end."""


if TYPE_CHECKING:
    _Loop = Any
else:
    _Loop = asyncio.AbstractEventLoop


class Process:
    """Callbacks that run, stand still and vanish together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_alive = True
        self.is_paused = False
        self.deferred: deque[_Ready] = deque()
        self.tasks: dict[asyncio.Task[Any], None] = {}

    def __repr__(self) -> str:
        return f"<process {self.name}>"


_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("duly_process", default=None)


class _Ready(NamedTuple):
    handle: asyncio.Handle
    callback: Callable[..., object]
    args: tuple[Any, ...]
    context: contextvars.Context
    process: Process | None


class VirtualLoop(_Loop):  # type: ignore[misc]  # what touches sockets, files and processes is left out
    """Runs coroutines in virtual time, which begins at 0. `now` is in seconds.

    `failures` are the contexts given to `call_exception_handler`: errors that nobody awaited.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.failures: list[dict[str, Any]] = []
        self._ready: deque[_Ready] = deque()
        self._timers: list[tuple[float, int, _Ready]] = []
        self._order = itertools.count()
        self._without_a_pause = 0
        self._running = self._stopping = self._closed = False

    # processes

    def spawn(self, process: Process, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of a process; whatever it starts belongs to the process too."""
        context = contextvars.copy_context()
        context.run(_process.set, process)
        return self.create_task(work, context=context)

    def kill(self, process: Process) -> None:
        """None of its callbacks will run again, until `bury` lets its tasks end."""
        process.is_alive = False

    def pause(self, process: Process) -> None:
        """Its callbacks wait until `resume`, its timers too."""
        process.is_paused = True

    def resume(self, process: Process) -> None:
        """What waited runs now, in its order."""
        process.is_paused = False
        self._ready.extend(process.deferred)
        process.deferred.clear()

    async def bury(self, process: Process) -> None:
        """Cancel the tasks of a process and wait for their ends, so that none is destroyed while it is pending."""
        while process.tasks:
            tasks = list(process.tasks)
            for task in tasks:
                task.cancel()
            process.is_alive = True
            self.resume(process)
            await asyncio.wait(tasks)

    # scheduling

    def time(self) -> float:
        return self.now

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        context = context if context is not None else contextvars.copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(_Ready(handle, callback, args, context, context.get(_process)))
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """As `call_soon`: all code runs in the loop's own thread."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        context = context if context is not None else contextvars.copy_context()
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        ready = _Ready(handle, callback, args, context, context.get(_process))
        heapq.heappush(self._timers, (when, next(self._order), ready))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Asked by TimerHandle.cancel: a cancelled timer is passed over when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[T]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        process = context.get(_process) if context is not None else _process.get()
        if process is not None:
            process.tasks[task] = None
            task.add_done_callback(lambda done: process.tasks.pop(done, None), context=_NOBODY)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Runs it here and now: there is no other thread."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    # running

    def run_forever(self) -> None:
        asyncio._set_running_loop(self)
        self._running, self._without_a_pause = True, 0
        try:
            while not self._stopping:
                self._step()
        finally:
            self._running = self._stopping = False
            asyncio._set_running_loop(None)

    def run_until_complete(self, future: Awaitable[T]) -> T:
        """Raises StuckLoop if it can never be done."""
        task: asyncio.Future[T] = asyncio.ensure_future(future, loop=self)
        task.add_done_callback(self._has_done, context=_NOBODY)
        try:
            self.run_forever()
        finally:
            task.remove_done_callback(self._has_done)
        return task.result()

    def _has_done(self, _task: asyncio.Future[Any]) -> None:
        self.stop()

    def _step(self) -> None:
        timers = self._timers
        if not self._ready:
            self._jump()
        while timers and timers[0][0] <= self.now:
            self._ready.append(heapq.heappop(timers)[2])
        ready = self._ready.popleft()
        process = ready.process
        if process is not None and (process.is_paused or not process.is_alive):
            process.deferred.append(ready)
            return
        if ready.handle.cancelled():
            return
        self.now += CALLBACK_SECONDS
        self._without_a_pause += 1
        if self._without_a_pause > MOST_WITHOUT_A_PAUSE:
            self._ready.appendleft(ready)
            raise StuckLoop(f"{MOST_WITHOUT_A_PAUSE:,} callbacks in a row, the last {ready.callback!r}: it spins")
        try:
            ready.context.run(ready.callback, *ready.args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.call_exception_handler({"message": f"{ready.callback!r} raised", "exception": error})

    def _jump(self) -> None:
        """To the moment of the next timer."""
        timers = self._timers
        while timers and timers[0][2].handle.cancelled():
            heapq.heappop(timers)
        if not timers:
            raise StuckLoop("nothing is ready and nothing is scheduled: what is awaited will never come")
        self.now, self._without_a_pause = max(self.now, timers[0][0]), 0

    def stop(self) -> None:
        self._stopping = True

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    # what asyncio asks of a loop besides

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(context)

    async def shutdown_asyncgens(self) -> None: ...

    async def shutdown_default_executor(self) -> None: ...


_NOBODY = contextvars.Context()
"""The context of what belongs to no process."""


@contextmanager
def virtual_loop() -> Iterator[VirtualLoop]:
    """A loop for the block; tasks that are left at its end are cancelled, and their ends awaited."""
    loop = VirtualLoop()
    try:
        yield loop
    finally:
        while left := asyncio.all_tasks(loop):  # one that ends may begin another
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in virtual time: a program that sleeps for a year is done at once. Raises StuckLoop if it never ends.

    For programs that wait for timers and for each other, not for sockets or threads.
    """
    with virtual_loop() as loop:
        return loop.run_until_complete(main)
