"""What runs inside a child process: it loads handlers, runs one job at a time, and ends when its node is gone.

The main thread runs the handlers. A reader thread listens to the node meanwhile: so a cancel is heard while a handler
runs, and the end of the node is too.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import multiprocessing.spawn
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec

from duly.core import codec
from duly.core.job import Options
from duly.core.outcome import RETURNED_NONE, Ending, Outcome
from duly.errors import EncodingError, UnfitJob
from duly.runtime import locate, messages
from duly.runtime.context import Context, _current
from duly.runtime.executor import cancelled_outcome, outcome_of, refuse_awaitable
from duly.runtime.handler import Handler
from duly.runtime.locate import MAIN, find
from duly.runtime.logs import set_up_logging
from duly.runtime.memory import resident_bytes
from duly.runtime.messages import Cancel, Done, Frames, Hello, Load, Loaded, Progress, Pushed, Work, framed
from duly.runtime.process import loop_factory
from duly.runtime.run import CancelReason

EXIT_SECONDS = 2.0
"""What an idle child gets for the ends of its modules and threads, once its node has hung up."""
READ_BYTES = 65_536
_NONE, _FALSE = msgspec.Raw(codec.pack(None)), msgspec.Raw(codec.pack(False))


def main(fd: int) -> None:
    """The whole life of a child; `fd` is its end of the socket."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # Both reach the whole group of a terminal or a service: the node decides what becomes of what runs. A function,
        # as an ignored signal would stay ignored in the programs that a handler starts.
        signal.signal(number, lambda *_: None)
    Child(socket.socket(fileno=fd)).serve()


class ChildRun:
    """A run as the handler's Context sees it here."""

    state = None

    def __init__(self, work: Work, report: Callable[[bytes], None]) -> None:
        self.job, self.fence, self.queue, self.node, self.report = work.job, work.fence, work.queue, work.node, report
        self.envelope = codec.decode(work.job.body)
        self.cancel_reason: CancelReason | None = None
        self.children: list[Any] = []
        self.task: asyncio.Task[Any] | None = None


class Child:
    """The node's other end."""

    def __init__(self, node: socket.socket) -> None:
        node.set_inheritable(False)  # else a program that a handler starts would keep the line open
        self._node = node
        self._inbox: queue.SimpleQueue[Load | Work | None] = queue.SimpleQueue()
        self._asked = self._answered = 0  # each written by one thread alone
        self._writing = threading.Lock()
        self._hello = Hello([])
        self._handlers: dict[str, Handler] = {}
        self._run: tuple[int, ChildRun] | None = None
        self._loop: asyncio.Runner | None = None

    def serve(self) -> None:
        """Do what the node asks, until it hangs up."""
        threading.Thread(target=self._read, name="duly-child-reader", daemon=True).start()
        while (message := self._inbox.get()) is not None:
            answer = self._load(message) if isinstance(message, Load) else self._work(message)
            self._answered += 1  # first: once it has the answer, the node may hang up
            self._send(answer)
        if self._loop is not None:
            self._loop.close()

    def _send(self, message: messages.ToNode) -> None:
        frame = framed(message)
        try:
            with self._writing:
                self._node.sendall(frame)
        except OSError:
            os._exit(1)  # the node is gone

    # the reader thread

    def _read(self) -> None:
        frames = Frames()
        while data := self._receive():
            for body in frames.feed(data):
                self._hear(messages.to_child.decode(body))
        if self._asked != self._answered:
            os._exit(1)  # its lease runs out, and another node runs the job: it must not go on here
        self._inbox.put(None)
        threading.Event().wait(EXIT_SECONDS)  # the end of the main thread ends this one
        os._exit(1)

    def _receive(self) -> bytes:
        try:
            return self._node.recv(READ_BYTES)
        except OSError:
            return b""

    def _hear(self, message: messages.ToChild) -> None:
        if isinstance(message, Cancel):
            self._cancel(message)
        elif isinstance(message, Hello):
            self._hello = message
            sys.argv[:] = map(os.fsdecode, message.argv)
            if message.logs:
                set_up_logging(*message.logs, with_pid=True)
        else:
            self._asked += 1
            self._inbox.put(message)

    def _cancel(self, message: Cancel) -> None:
        n, run = self._run or (0, None)
        if run is None or n != message.n:
            return
        run.cancel_reason = cast(CancelReason, message.reason)
        if run.task is not None:
            run.task.get_loop().call_soon_threadsafe(run.task.cancel)

    # the main thread

    def _load(self, load: Load) -> Loaded:
        locate.is_loading = True
        try:
            if load.target.startswith(f"{MAIN}:"):
                self._import_main()
            self._handlers[load.target] = Handler(load.task, find(load.target), Options())
        except BaseException as error:
            return Loaded(outcome_of(error))
        finally:
            locate.is_loading = False
        return Loaded()

    def _import_main(self) -> None:
        """The node's `__main__`, imported as `__mp_main__`, as multiprocessing does: what is guarded does not run."""
        if self._hello.main_name is not None:
            multiprocessing.spawn.prepare({"init_main_from_name": self._hello.main_name})
        elif self._hello.main_path is not None:
            multiprocessing.spawn.prepare({"init_main_from_path": os.fsdecode(self._hello.main_path)})

    def _work(self, work: Work) -> Done:
        run = ChildRun(work, lambda report: self._send(Progress(work.n, report)))
        self._run = work.n, run
        token = _current.set(run)
        value = _NONE
        try:
            outcome, value = RETURNED_NONE, _packed(self._call(self._handlers[work.target], run), work.keeps)
        except asyncio.CancelledError:
            asked = run.cancel_reason is not None
            outcome = Outcome(Ending.CANCELLED) if asked else cancelled_outcome(None, None, False)
        except _Misfit as error:
            outcome = Outcome(Ending.MISFIT, reason=str(error), error=str(error))
        except _NotKept as error:
            outcome = Outcome(Ending.FAILED, reason=f"its result cannot be kept: {error}", error=str(error))
        except BaseException as error:
            outcome = outcome_of(error)
        finally:
            _current.reset(token)
            self._run = None
        returned = outcome.ending is Ending.RETURNED
        pushed = [Pushed(request.queue, request.new) for request in run.children] if returned else []
        return Done(work.n, outcome, value, pushed, resident_bytes() if work.weighs else 0)

    def _call(self, handler: Handler, run: ChildRun) -> Any:
        try:
            args, kwargs = handler.bind(run.envelope)
        except UnfitJob as error:  # the code changed since the node was started
            raise _Misfit(str(error)) from None
        if handler.wants_context:
            args = (Context(run), *args)
        if not handler.is_async:
            return refuse_awaitable(handler.fn(*args, **kwargs))
        if self._loop is None:
            self._loop = asyncio.Runner(loop_factory=loop_factory())
        call = functools.partial(handler.fn, *args, **kwargs)
        value, raised = self._loop.run(_awaited(run, call), context=contextvars.copy_context())
        if raised is not None:
            raise raised
        return value


class _Misfit(Exception):
    """The arguments do not fit the handler."""


class _NotKept(Exception):
    """The result is to be kept, and cannot be encoded."""


def _packed(value: Any, keeps: bool) -> msgspec.Raw:
    if not keeps:
        return _FALSE if value is False else _NONE
    try:
        return msgspec.Raw(codec.pack(value))
    except EncodingError as error:
        raise _NotKept(str(error)) from None


async def _awaited(run: ChildRun, call: Callable[[], Awaitable[Any]]) -> tuple[Any, BaseException | None]:
    """What the call returns or raises: a SystemExit must not get hold of the loop, which serves the next run too."""
    run.task = asyncio.current_task()
    try:
        if run.cancel_reason is not None:  # before there was a task to cancel
            raise asyncio.CancelledError
        return await call(), None
    except BaseException as error:
        return None, error
