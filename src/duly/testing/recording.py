"""What was pushed, for tests of code that pushes: nothing is sent to a store, nothing runs.

with recorded(scheduler) as pushed:
    await place_order(42)
pushed.assert_pushed(send_receipt, 42)
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from duly.core import codec
from duly.core.job import NewJob
from duly.errors import ConfigurationError
from duly.handle import JobHandle
from duly.scheduler import Scheduler
from duly.sync import SyncJobHandle
from duly.task import JobRequest, name_of

T = TypeVar("T")


class PushedJob(msgspec.Struct, frozen=True):
    """One push. args and kwargs as they travel: plain data. new: all that a store would have been given."""

    id: str
    task: str
    queue: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    new: NewJob


class Pushed:
    """The pushes of a block, in their order."""

    def __init__(self) -> None:
        self._jobs: list[PushedJob] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def jobs(self, task: Any = None) -> Sequence[PushedJob]:
        """All of them, or those of one task, given as a task or by its name."""
        name = None if task is None else _name(task)
        return [job for job in self._jobs if name is None or job.task == name]

    def assert_pushed(self, task: Any, *args: Any, **kwargs: Any) -> PushedJob:
        """The first push of a task with just these arguments; AssertionError, which says what was pushed, if there is none.

        Arguments are compared as they travel: a dataclass equals its fields.
        """
        name = _name(task)
        expected = _packed(codec.encode(name, args, kwargs))
        for job in self.jobs(task):
            if _packed(job.new.body) == expected:
                return job
        raise AssertionError(f"{_call(name, args, kwargs)} was not pushed; {self._shown()}")

    def assert_not_pushed(self, task: Any = None) -> None:
        """AssertionError if the task, or with no task anything, was pushed."""
        if self.jobs(task):
            raise AssertionError(f"{_name(task) if task is not None else 'something'} was pushed; {self._shown()}")

    def _shown(self) -> str:
        calls = [_call(job.task, job.args, job.kwargs) for job in self._jobs]
        return "pushed: " + (", ".join(calls) if calls else "nothing")

    def add(self, request: JobRequest) -> PushedJob:
        """Note a push."""
        envelope = codec.decode(request.new.body)
        args, kwargs = tuple(codec.unpack(envelope.args)), codec.unpack(envelope.kwargs)
        job = PushedJob(request.new.id, request.task, request.queue, args, kwargs, request.new)
        self._jobs.append(job)
        return job


def _name(task: Any) -> str:
    name = task if isinstance(task, str) else name_of(task)
    if name is None:
        raise ConfigurationError(f"{task!r} is no task: give a task, a task with options, or a name")
    return name


def _packed(body: bytes) -> bytes:
    envelope = codec.decode(body)
    return codec.canonical(envelope.args, envelope.kwargs)


def _call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    words = [repr(value) for value in args] + [f"{key}={value!r}" for key, value in kwargs.items()]
    return f"{name}({', '.join(words)})"


@contextmanager
def recorded(scheduler: Scheduler) -> Iterator[Pushed]:
    """Pushes of the block are noted instead of sent; their arguments are checked as ever. Needs no connection."""
    pushed = Pushed()

    async def push(request: JobRequest) -> JobHandle[Any]:
        scheduler.require_accepting()
        job = pushed.add(request)
        return JobHandle(scheduler, job.queue, job.id, "created", request.keeps_result)

    with pushing_to(scheduler, push):
        yield pushed


@contextmanager
def pushing_to(
    scheduler: Scheduler, push: Callable[[JobRequest], Coroutine[Any, Any, JobHandle[Any]]]
) -> Iterator[None]:
    """Every push of the block goes to `push` instead of the store, from plain code too."""

    async def push_many(requests: Iterable[JobRequest]) -> list[str]:
        return [(await push(request)).id for request in requests]

    def push_sync(request: JobRequest) -> SyncJobHandle[Any]:
        return SyncJobHandle(scheduler.sync, _plainly(push(request)))

    places: tuple[tuple[object, dict[str, Any]], ...] = (
        (scheduler, {"push_request": push, "push_many": push_many}),
        (scheduler.sync, {"push_request": push_sync, "push_many": lambda requests: _plainly(push_many(requests))}),
    )
    if "push_request" in vars(scheduler):
        raise ConfigurationError("the pushes of this scheduler go elsewhere already: leave that block first")
    for owner, names in places:
        vars(owner).update(names)
    try:
        yield
    finally:
        for owner, names in places:
            for name in names:
                del vars(owner)[name]


def _plainly(work: Coroutine[Any, Any, T]) -> T:
    """The answer of a coroutine for plain code, also for plain code inside a running loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(contextvars.copy_context().run, asyncio.run, work).result()
