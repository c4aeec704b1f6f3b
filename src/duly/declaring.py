"""What an application declares: its tasks, the schedules of its code, who listens. Nothing here touches a store."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast, overload

import msgspec

from duly.core import codec
from duly.core.job import Options, make_options
from duly.core.trigger import Trigger, cron
from duly.errors import DuplicateTask, EncodingError, UnknownTask, nearest
from duly.recurring import SCHEDULE_OPTIONS, Declaration, declare, on_own_grid, split_interval
from duly.runtime.context import Context
from duly.runtime.emitter import Emitter, Listener
from duly.runtime.handler import Handler
from duly.task import (
    Decorator,
    JobRequest,
    Task,
    TaskBook,
    default_name,
    name_of,
    names_of,
    plain_function,
    task_options,
)

if TYPE_CHECKING:
    from duly.scheduler import Scheduler

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
HeadersOf = Callable[[JobRequest], Mapping[str, str]]
H = TypeVar("H", bound=HeadersOf)
J = TypeVar("J")
MOST_HEADERS = 16_000
"""Bytes that the headers of one job take at most."""


class Declaring:
    """The declaring half of a Scheduler."""

    def __init__(self, emitter: Emitter) -> None:
        self._book = TaskBook()
        self._declarations: dict[tuple[str, str], Declaration] = {}
        self._headers: list[HeadersOf] = []
        self._emitter = emitter

    @property
    def _scheduler(self) -> Scheduler:
        return cast("Scheduler", self)

    @overload
    def task(self, fn: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def task(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def task(self, fn: Callable[Concatenate[Context, P], R], /) -> Task[P, R]: ...
    @overload
    def task(self, fn: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(self, *, name: str | None = None, aliases: Sequence[str] = (), **options: Any) -> Decorator: ...
    def task(self, *given: Any, **options: Any) -> Any:
        """Declare a task: `@scheduler.task` or `@scheduler.task(retry=…, timeout=…)`. The function stays callable.

        `name` is the task's name, by default the function's; `aliases` are former names that it serves too; the rest
        are task options. Raises InvalidOption, DuplicateTask.
        """
        name, aliases = options.pop("name", None), names_of(options.pop("aliases", ()))
        declared = task_options(options)

        def declare_task(function: Callable[..., Any]) -> Task[Any, Any]:
            return self._declare_task(name or default_name(function), function, declared, aliases)

        return declare_task(given[0]) if given else Decorator(declare_task)

    def _declare_task(
        self, name: str, fn: Callable[..., Any], options: Options, aliases: tuple[str, ...]
    ) -> Task[Any, Any]:
        handler = Handler(make_options({"name": name}).name or name, plain_function(fn), options)
        self._book.add(handler, aliases)
        return Task(self._scheduler, handler)

    def cron(self, expression: str, *, timezone: str = "UTC", dst: str = "vixie", **options: Any) -> Decorator:
        """Declare a task and its cron schedule in one; the schedule's id is the task's name, unless `id=` is given."""
        return self._recurring(cron(expression, timezone=timezone, dst=dst), options)  # type: ignore[arg-type]

    def every(self, *, id: str | None = None, **interval_and_options: Any) -> Decorator:
        """Declare a task and its interval schedule in one: `@scheduler.every(minutes=1)`."""
        interval, options = split_interval(interval_and_options)
        return self._recurring(interval, {**options, "id": id})

    def _recurring(self, trigger: Trigger, options: dict[str, Any]) -> Decorator:
        id = options.pop("id", None)
        name, args, kwargs = options.pop("name", None), options.pop("args", ()), options.pop("kwargs", None)
        of_schedule = {n: options.pop(n) for n in SCHEDULE_OPTIONS if n in options and n != "queue"}
        declared = task_options(options)

        def declare_both(fn: Callable[..., Any]) -> Task[Any, Any]:
            task = self._declare_task(name or default_name(fn), fn, declared, ())
            self.schedule(task, trigger, id=id or task.name, args=args, kwargs=kwargs, **of_schedule)
            return task

        return Decorator(declare_both)

    def schedule(self, task: Any, trigger: Trigger, *, id: str | None = None, args: Sequence[Any] = (),
                 kwargs: Mapping[str, Any] | None = None, **options: Any) -> None:  # fmt: skip
        """Declare a schedule before `start`, without a decorator; every node that starts puts it, equal puts change nothing."""
        id = id or name_of(task) or str(task)
        declaration = on_own_grid(declare(self._scheduler, id, trigger, task, args, kwargs, options))
        place = (declaration.queue, id)
        if place in self._declarations:
            raise DuplicateTask(
                f"a schedule {id!r} is declared already in queue {declaration.queue!r}; give this one another id="
            )
        self._declarations[place] = declaration

    def bind(self, name: str, handler: Callable[..., Any], **options: Any) -> Task[..., Any]:
        """Give the task `name` a handler, at run time too; `*` takes what no other name takes. Replaces a former one."""
        bound = Handler(make_options({"name": name}).name or name, plain_function(handler), task_options(options))
        bound.require_importable()
        self._book.remove(name)
        self._book.add(bound)
        return Task(self._scheduler, bound)

    def prepare_handlers(self, work: Callable[[Handler], None]) -> None:
        """For integrations: have `work` done on each handler, those that are declared already and those to come; it may
        wrap `handler.fn`, which runs where the handler runs: in its thread, or in the loop."""
        self._book.prepare(work)

    def unbind(self, name: str) -> bool:
        """Take a handler away; its jobs wait for a node that has one. False if there was none."""
        return self._book.remove(name)

    @overload
    def on(self, event: str) -> Callable[[F], F]: ...
    @overload
    def on(self, event: str, listener: F) -> F: ...
    def on(self, event: str, listener: F | None = None) -> Any:
        """Hear events of this process: `@scheduler.on("job.*")`, or `on(name, function)`. Raises InvalidOption."""
        if listener is not None:
            self._emitter.on(event, cast(Listener, listener))
            return listener

        def register(fn: F) -> F:
            self._emitter.on(event, cast(Listener, fn))
            return fn

        return register

    def headers(self, fn: H) -> H:
        """Have texts travel with every job that is pushed here: `fn(request)` returns them by name, called at the push, in its
        caller's context (`request.task`, `.queue`, `.new.id`). The handler finds them as `ctx.job.headers`; retries keep
        them. The ticks of schedules have none.
        """
        self._headers.append(fn)
        return fn

    def stamped(self, request: J) -> J:
        """The job with the headers that it is to have; as it is if there are none, or if it is no job: somebody else refuses
        that. Raises EncodingError if they are no texts, or very long."""
        if not isinstance(request, JobRequest):
            return request
        found: dict[str, str] = {}
        for headers in self._headers:
            found.update(headers(request))
        if not found:
            return request
        body = codec.with_headers(request.new.body, found)
        if len(body) > len(request.new.body) + MOST_HEADERS:
            raise EncodingError(
                f"the headers of a job for task {request.task!r} take more than {MOST_HEADERS:,} bytes: cut them"
            )
        return msgspec.structs.replace(request, new=msgspec.structs.replace(request.new, body=body))

    def resolve(self, task: Any, *, remote: bool = False) -> tuple[str, Handler | None]:
        """A task's name and its handler here. Raises UnknownTask unless it is declared, bound to `*`, or remote."""
        name = name_of(task) or task
        if not isinstance(name, str) or not name:
            raise UnknownTask(f"{task!r} is no task: give a declared task or its name")
        handler = self._book.find(name)
        if handler is None and not remote:
            raise UnknownTask(
                f"no task {name!r} is declared here; {nearest(name, self._book.names())} "
                "If other nodes have it, push with remote=True"
            )
        return (name if handler is not None else make_options({"name": name}).name or name), handler
