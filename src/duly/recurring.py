"""A schedule before it is in the store: validated, its arguments packed, ready to be put."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

from duly.config import DEFAULT_QUEUE
from duly.core import codec
from duly.core import schedule as planning
from duly.core.job import DEFAULT_PRIORITY, OPTION_NAMES, Options, make_options, push_options
from duly.core.schedule import Definition
from duly.core.trigger import Every, Trigger, at, every
from duly.errors import InvalidOption, InvalidTrigger, nearest
from duly.task import arguments, options_of

if TYPE_CHECKING:
    from duly.scheduler import Scheduler

POLICIES = ("catch_up", "window", "overlap", "times", "jitter", "pause_after", "placement")
SCHEDULE_OPTIONS = (*POLICIES, "queue")
FORBIDDEN = ("delay", "at", "id", "replace", "name", "unique")


class Declaration(msgspec.Struct, frozen=True):
    """A schedule that is ready to be put."""

    id: str
    queue: str
    definition: Definition


def declare(scheduler: Scheduler, id: str, trigger: Any, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None,
            options: Mapping[str, Any]) -> Declaration:  # fmt: skip
    """A validated declaration. Raises InvalidTrigger, InvalidOption, UnknownTask, InvalidArguments, EncodingError."""
    if not isinstance(trigger, Trigger):
        raise InvalidTrigger(f"trigger={trigger!r}: give cron(…), every(…), at(…), or some of them joined with |")
    if not isinstance(id, str) or not id or len(id) > 150 or any(ord(c) < 33 or "\ud800" <= c <= "\udfff" for c in id):
        raise InvalidOption(f"schedule id {id!r}: give a text of 1 to 150 characters without spaces")
    args, kwargs = arguments(args, kwargs)
    given = options_of(task)
    for name in FORBIDDEN:
        value = options[name] if options.get(name) is not None else getattr(given, name, None)
        if value is not None:
            raise InvalidOption(
                f"{name}={value!r} makes no sense for a schedule: its ticks have their own ids and times"
            )
    own = {n: v for n, v in options.items() if n in SCHEDULE_OPTIONS}
    pushed = push_options({n: v for n, v in options.items() if n not in SCHEDULE_OPTIONS and n != "remote"}, given)
    policies = planning.policies(**{n: v for n, v in own.items() if n in POLICIES and v is not None})
    name, handler = scheduler.resolve(task, remote=bool(options.get("remote")))
    declared = handler.options if handler else Options()
    if handler is not None:
        handler.check_call(args, kwargs)
    body = codec.decode(codec.encode(name, args, dict(sorted(kwargs.items())), codec.pack_options(pushed)))
    priority = next((p for p in (pushed.priority, declared.priority) if p is not None), DEFAULT_PRIORITY)
    definition = Definition(trigger, name, body.args, body.kwargs, body.options, priority, **policies)
    queue = make_options({"queue": own.get("queue")}).queue
    return Declaration(id, queue or pushed.queue or declared.queue or DEFAULT_QUEUE, definition)


def on_own_grid(declaration: Declaration) -> Declaration:
    """Code-declared intervals lie on the grid of the epoch, shifted by a hash of their id: every deploy agrees on them."""
    trigger = declaration.definition.trigger
    if isinstance(trigger, Every) and trigger.start is None and not trigger.after_completion:
        shift = int.from_bytes(hashlib.blake2b(declaration.id.encode(), digest_size=8).digest()) % trigger.interval
        trigger = msgspec.structs.replace(trigger, start=shift)
        definition = msgspec.structs.replace(declaration.definition, trigger=trigger)
        return msgspec.structs.replace(declaration, definition=definition)
    return declaration


def split_interval(given: Mapping[str, Any]) -> tuple[Every, dict[str, Any]]:
    """The interval and the options of `@scheduler.every(…)`. Raises InvalidOption, InvalidTrigger."""
    names = [name for name, p in inspect.signature(every).parameters.items() if p.kind is p.KEYWORD_ONLY]
    known = (*names, *OPTION_NAMES, *SCHEDULE_OPTIONS, "args", "kwargs", "id")
    for name in given:
        if name not in known:
            raise InvalidOption(f"unknown option {name!r}; {nearest(name, known)}")
    interval = every(**{name: value for name, value in given.items() if name in names})
    return interval, {name: value for name, value in given.items() if name not in names}


@runtime_checkable
class Schedulable(Protocol):
    """An object that says itself when it is to run: what `schedules.put` takes as it is.

    id: of the schedule. serialize(): what the handler is called with. execute_on: the first moment, an aware datetime or
    epoch seconds. on_execute_reschedule_to: seconds between two runs; None runs it once. Each may be an attribute, a
    property or a method.
    """

    @property
    def id(self) -> Any: ...

    @property
    def execute_on(self) -> Any: ...

    @property
    def on_execute_reschedule_to(self) -> Any: ...

    def serialize(self) -> Any: ...


def read_schedulable(given: Schedulable) -> tuple[str, Trigger, Any]:
    """(id, trigger, payload) of such an object. Raises InvalidTrigger, InvalidOption."""

    def read(name: str) -> Any:
        value = getattr(given, name)
        return value() if callable(value) else value

    first: datetime | float = read("execute_on")
    seconds = read("on_execute_reschedule_to")
    trigger: Trigger = at(first) if seconds is None else every(seconds=seconds, start=first)
    return read("id"), trigger, given.serialize()


def after_pending(new: Trigger, old: Trigger, pending: int | None) -> Trigger:
    """The new trigger as it takes over from the old one once its pending moment (ms) has been: interval-scheduler's rule.

    Intervals count from the pending moment. Equal intervals stay as they were, so that nothing changes.
    """
    if isinstance(new, Every) and isinstance(old, Every) and (new.interval, new.align) == (old.interval, old.align):
        return old
    if pending is None or new == old:
        return new
    if isinstance(new, Every):
        return msgspec.structs.replace(new, start=pending)
    return at(pending / 1000) | new.between(start=(pending + 1) / 1000)
