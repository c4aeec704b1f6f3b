"""Tasks as applications touch them: a declared function that stays callable, and can be pushed."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

import msgspec

from duly.config import DEFAULT_QUEUE
from duly.core import codec
from duly.core.job import DEFAULT_PRIORITY, Hold, NewJob, Options, Unique, make_options, push_options, to_ms
from duly.core.shards import slot_of_key, with_slot
from duly.errors import ConfigurationError, DuplicateTask, InvalidOption
from duly.identity import new_job_id
from duly.runtime.context import Context
from duly.runtime.handler import Handler
from duly.runtime.refused import refusing
from duly.stores.sealed import REFUSED

if TYPE_CHECKING:
    from duly.handle import JobHandle
    from duly.scheduler import Scheduler
    from duly.sync import SyncJobHandle

P = ParamSpec("P")
R = TypeVar("R")


class JobRequest(msgspec.Struct, frozen=True):
    """A job that is built and validated, and not pushed yet. keeps_result: None if the pusher cannot know."""

    queue: str
    new: NewJob
    task: str
    keeps_result: bool | None = None


class Call(Generic[P, R]):
    """A task with options: what `.options(...)` returns. Immutable; keep one and push it often."""

    def __init__(
        self, scheduler: Scheduler, task: str, handler: Handler | None, declared: Options, pushed: Options
    ) -> None:
        self._scheduler, self.task, self._handler = scheduler, task, handler
        self.given = pushed
        options = merge(declared, pushed)
        self._declared, self._options = declared, options
        self.queue = options.queue or DEFAULT_QUEUE
        self._packed = codec.pack_options(pushed)
        self._priority = DEFAULT_PRIORITY if options.priority is None else options.priority
        self._due = None if options.at is None else to_ms(options.at)
        self._delay = 0 if options.delay is None else to_ms(options.delay)
        keeps = options.keep_result
        self._keeps = bool(keeps) if keeps is not None or handler is not None else None
        self._plain = options.id is None and options.unique is None
        self._shown = shown_name(f"{task}.push", "push_sync")

    def options(self, **options: Any) -> Call[P, R]:
        """The same with further options over these. Raises InvalidOption."""
        return Call(self._scheduler, self.task, self._handler, self._declared, push_options(options, self.given))

    def job(self, *args: P.args, **kwargs: P.kwargs) -> JobRequest:
        """The job, built and validated, for `push_many` or `ctx.push`. Raises InvalidArguments, EncodingError, TooLarge."""
        if self._handler is not None:
            self._handler.check_call(args, kwargs)
        body = codec.encode(self.task, args, kwargs, self._packed)
        if self._plain:
            new = NewJob(new_job_id(), body, self._delay, self._due, self._priority)
        else:
            new = self._special(body)
        return JobRequest(self.queue, new, self.task, self._keeps)

    def _special(self, body: bytes) -> NewJob:
        options = self._options
        unique = None if options.unique is None else hold_of(options.unique, self.task, body)
        id = options.id
        if id is None:  # then there is a key, and the id says where that lies
            id = with_slot(new_job_id(), slot_of_key(unique.key)) if unique is not None else new_job_id()
        return NewJob(
            id,
            body,
            self._delay,
            self._due,
            self._priority,
            named=options.id is not None,
            replace=bool(options.replace),
            unique=unique,
        )

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """A text made of the task's name and these arguments. Given as `id=` to a push with the same arguments, it lets
        that job be found and cancelled by them. Raises InvalidArguments, EncodingError, TooLarge."""
        return key_of(self.task, self.job(*args, **kwargs).new.body)

    def stamped(self, request: JobRequest) -> JobRequest:
        """See Scheduler.stamped."""
        return self._scheduler.stamped(request)

    def push(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, JobHandle[R]]:
        """Keep the job in the store: to be awaited. Once it returns, the job will run, or be visibly cancelled, dead
        or lost.

        Raises InvalidArguments, EncodingError, TooLarge, NotAccepting, StoreFull, StoreUnavailable (nothing was
        written), or PushUncertain.
        """
        push = self._push(args, kwargs)
        push.__qualname__ = self._shown  # type: ignore[attr-defined]
        return push

    async def _push(self, args: Any, kwargs: Any) -> JobHandle[R]:
        return await self._scheduler.push_request(self.job(*args, **kwargs))

    def push_sync(self, *args: P.args, **kwargs: P.kwargs) -> SyncJobHandle[R]:
        """`push` for code that is not async; see `duly.sync`."""
        return self._scheduler.sync.push_request(self.job(*args, **kwargs))


class Task(Generic[P, R]):
    """A declared task. Calling it calls the function, here and now; `push` has a node run it."""

    def __init__(self, scheduler: Scheduler, handler: Handler) -> None:
        functools.update_wrapper(self, handler.fn)
        self.name, self.handler, self.declared = handler.name, handler, handler.options
        self._scheduler = scheduler
        self._call: Call[P, R] = Call(scheduler, handler.name, handler, handler.options, Options())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.handler.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.name!r}>"

    def options(self, **options: Any) -> Call[P, R]:
        """This task with options for the pushes made from what is returned. Raises InvalidOption."""
        return self._call.options(**options)

    def job(self, *args: P.args, **kwargs: P.kwargs) -> JobRequest:
        """See Call.job."""
        return self._call.job(*args, **kwargs)

    def stamped(self, request: JobRequest) -> JobRequest:
        """See Scheduler.stamped."""
        return self._scheduler.stamped(request)

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """See Call.key."""
        return self._call.key(*args, **kwargs)

    def push(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, JobHandle[R]]:
        """See Call.push."""
        return self._call.push(*args, **kwargs)

    def push_sync(self, *args: P.args, **kwargs: P.kwargs) -> SyncJobHandle[R]:
        """See Call.push_sync."""
        return self._call.push_sync(*args, **kwargs)


class Decorator:
    """What `@scheduler.task(...)` returns: keeps the handler's signature, less a leading Context."""

    def __init__(self, declare_task: Callable[[Callable[..., Any]], Task[Any, Any]]) -> None:
        self._declare = declare_task

    @overload
    def __call__(self, fn: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]) -> Task[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]]) -> Task[P, R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Context, P], R]) -> Task[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R]) -> Task[P, R]: ...
    def __call__(self, fn: Callable[..., Any]) -> Task[Any, Any]:
        return self._declare(fn)


def shown_name(name: str, in_plain_code: str) -> str:
    """A name for a coroutine with which Python's warning about one that was never awaited says what to do."""
    return f"{name} (in code that is not async: {in_plain_code})"


def named(push: Coroutine[Any, Any, R], name: str, in_plain_code: str) -> Coroutine[Any, Any, R]:
    """The coroutine under its `shown_name`."""
    push.__qualname__ = shown_name(name, in_plain_code)  # type: ignore[attr-defined]
    return push


def merge(declared: Options, pushed: Options) -> Options:
    """What was set at push over what was declared; `at` and `delay` displace each other."""
    values = {n: getattr(declared, n) for n in Options.__struct_fields__}
    values.update({n: v for n in Options.__struct_fields__ if (v := getattr(pushed, n)) is not None})
    if pushed.at is not None:
        values["delay"] = None
    elif pushed.delay is not None:
        values["at"] = None
    return Options(**values)


def key_of(task: str, body: bytes) -> str:
    """The task and a digest of the arguments."""
    envelope = codec.decode(body)
    digest = hashlib.blake2b(codec.canonical(envelope.args, envelope.kwargs), digest_size=12).hexdigest()
    return f"{task[:150]}:{digest}"


def hold_of(unique: Unique, task: str, body: bytes) -> Hold:
    """The unique key as the store holds it; without a key of its own, it is the task and a digest of the arguments."""
    key = key_of(task, body) if unique.key is None else unique.key
    if unique.seconds is not None:
        return Hold(key, "time", to_ms(unique.seconds))
    return Hold(key, unique.until)


def default_name(fn: Callable[..., Any]) -> str:
    """The name of a task that is given none: its function's, without where it is nested."""
    name = getattr(fn, "__qualname__", type(fn).__qualname__).replace("<locals>.", "")
    return name.rpartition(".")[2] if "<" not in name else "lambda"


def plain_function(fn: Any) -> Callable[..., Any]:
    """What a task calls. Raises ConfigurationError for what cannot be called."""
    if isinstance(fn, Task):
        return fn.handler.fn
    if not callable(fn):
        raise ConfigurationError(f"{fn!r} cannot be a handler: give a function")
    return cast(Callable[..., Any], fn)


def task_options(options: Mapping[str, Any]) -> Options:
    """Validated options of a declaration. Raises InvalidOption, also for those that belong to one push."""
    for name in ("id", "at", "replace", "remote"):
        if options.get(name) is not None:
            raise InvalidOption(f"{name}={options[name]!r} belongs to one push, not to a task: use .options({name}=…)")
    return make_options(options)


class TaskBook:
    """The tasks of a scheduler, by name, alias and wildcard."""

    def __init__(self) -> None:
        self.tasks: dict[str, Handler] = {}
        self._aliases: dict[str, str] = {}
        self._shortest: float | None = None
        self.builtin: dict[str, Handler] = {REFUSED: refusing()}
        self._prepares: list[Callable[[Handler], None]] = []

    def prepare(self, work: Callable[[Handler], None]) -> None:
        """Have `work` done on each handler: those that are there, and those that are declared later."""
        self._prepares.append(work)
        for handler in self.tasks.values():
            work(handler)

    def find(self, task: str) -> Handler | None:
        """The handler of a task: its own, that of its alias, or the one bound to `*`."""
        found = self.tasks.get(task) or self.tasks.get(self._aliases.get(task, "")) or self.builtin.get(task)
        return found or self.tasks.get("*")

    def add(self, handler: Handler, aliases: tuple[str, ...] = ()) -> None:
        """Raises DuplicateTask if one of the names is taken."""
        for name in (handler.name, *aliases):
            if self.knows(name):
                raise DuplicateTask(
                    f"a task {name!r} is declared already; give this one another name=, or unbind({name!r}) first"
                )
        for work in self._prepares:
            work(handler)
        self.tasks[handler.name] = handler
        self._aliases.update(dict.fromkeys(aliases, handler.name))
        self._measure()

    def remove(self, name: str) -> bool:
        removed = self.tasks.pop(name, None) is not None or self._aliases.pop(name, None) is not None
        self._aliases = {alias: task for alias, task in self._aliases.items() if task != name}
        self._measure()
        return removed

    def knows(self, name: str) -> bool:
        return name in self.tasks or name in self._aliases

    def require_importable(self) -> None:
        """Raises ConfigurationError, naming the task, if a child process could not find the handler of one."""
        for handler in self.tasks.values():
            handler.require_importable()

    def names(self) -> list[str]:
        return sorted([*self.tasks, *self._aliases])

    def _measure(self) -> None:
        leases = [handler.policy.lease for handler in self.tasks.values() if handler.policy.lease]
        self._shortest = min(leases) if leases else None

    def shortest_lease(self) -> float | None:
        """Seconds of the shortest lease that a task here declares."""
        return self._shortest


def names_of(aliases: Any) -> tuple[str, ...]:
    """Aliases, each a name. Raises InvalidOption."""
    if isinstance(aliases, str) or not isinstance(aliases, Collection):
        raise InvalidOption(f"aliases={aliases!r}: give a sequence of names, such as ['former_name']")
    return tuple(make_options({"name": alias}).name or alias for alias in aliases)


def arguments(args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What was given as `args=` and `kwargs=`. Raises InvalidOption for what cannot be arguments."""
    if isinstance(args, str | bytes | Mapping) or not isinstance(args, Iterable):
        raise InvalidOption(f"args={args!r}: give a sequence of arguments, such as [1, 2]")
    if kwargs is not None and not (isinstance(kwargs, Mapping) and all(isinstance(name, str) for name in kwargs)):
        raise InvalidOption(f"kwargs={kwargs!r}: give a mapping from names to arguments, such as {{'order_id': 42}}")
    return tuple(args), dict(kwargs or {})


def name_of(task: Any) -> str | None:
    """The name of a task object, or None for anything else."""
    if isinstance(task, Task):
        return task.name
    return task.task if isinstance(task, Call) else None


def options_of(task: Any) -> Options | None:
    """What a task was given with `.options(...)`; None for anything else."""
    return task.given if isinstance(task, Call) else None
