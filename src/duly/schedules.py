"""Schedules as applications touch them: put, look, pause, trigger; those declared in code and those put at run time."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from duly.config import DEFAULT_QUEUE
from duly.core import codec
from duly.core import schedule as planning
from duly.core.job import DEFAULT_PRIORITY, OPTION_NAMES, NewJob, Options, make_options
from duly.core.schedule import Definition
from duly.core.trigger import At, Cron, Every, Trigger, every
from duly.errors import FormatError, InvalidOption, InvalidTrigger, ScheduleConflict, nearest
from duly.identity import new_job_id
from duly.runtime.ticker import fire_due
from duly.stores.base import NewSchedule, ScheduleRecord, Shard
from duly.task import Call, Task, arguments

if TYPE_CHECKING:
    from duly.scheduler import Scheduler

PAGE = 200
JUST_NOW_MS = 60_000
"""A start up to this long ago still counts as a first moment; an older one only sets the grid."""
SCHEDULE_OPTIONS = ("catch_up", "window", "overlap", "queue")
FORBIDDEN = ("delay", "at", "id", "replace", "name", "unique")


class Declaration(msgspec.Struct, frozen=True):
    """A schedule that is ready to be put."""

    id: str
    queue: str
    definition: Definition


class ScheduleView(msgspec.Struct, frozen=True):
    """A schedule as people look at it. Moments in epoch seconds; next is None if it is not planned, or over."""

    id: str
    queue: str
    trigger: Trigger
    task: str
    revision: int
    paused: str | None
    next: float | None
    last: float | None
    fired: int
    skipped: Mapping[str, int]
    app: str
    living: int


def declare(scheduler: Scheduler, id: str, trigger: Any, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None,
            options: Mapping[str, Any]) -> Declaration:  # fmt: skip
    """A validated declaration. Raises InvalidTrigger, InvalidOption, UnknownTask, InvalidArguments, EncodingError."""
    if not isinstance(trigger, Cron | Every | At):
        raise InvalidTrigger(f"trigger={trigger!r}: give cron(…), every(…) or at(…)")
    if not isinstance(id, str) or not id or len(id) > 150 or any(ord(c) < 33 or "\ud800" <= c <= "\udfff" for c in id):
        raise InvalidOption(f"schedule id {id!r}: give a text of 1 to 150 characters without spaces")
    args, kwargs = arguments(args, kwargs)
    for name in FORBIDDEN:
        if options.get(name) is not None:
            raise InvalidOption(
                f"{name}={options[name]!r} makes no sense for a schedule: its ticks have their own ids and times"
            )
    own = {n: v for n, v in options.items() if n in SCHEDULE_OPTIONS}
    pushed = make_options({n: v for n, v in options.items() if n not in SCHEDULE_OPTIONS and n != "remote"})
    catch_up, window, overlap = planning.policies(
        own.get("catch_up", "latest"), own.get("window"), own.get("overlap", "allow")
    )
    name, handler = scheduler.resolve(task, remote=bool(options.get("remote")))
    declared = handler.options if handler else Options()
    if handler is not None:
        handler.check_call(args, kwargs)
    body = codec.decode(codec.encode(name, args, dict(sorted(kwargs.items())), codec.pack_options(pushed)))
    priority = next((p for p in (pushed.priority, declared.priority) if p is not None), DEFAULT_PRIORITY)
    definition = Definition(trigger, name, body.args, body.kwargs, body.options, priority, catch_up, window, overlap)
    queue = make_options({"queue": own.get("queue")}).queue or declared.queue
    return Declaration(id, queue or DEFAULT_QUEUE, definition)


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


class Schedules:
    """Recurring work in the store."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    async def put(self, id: str, trigger: Trigger, task: Any, *, args: Sequence[Any] = (),
                  kwargs: Mapping[str, Any] | None = None, revision: int | None = None, **options: Any) -> bool:  # fmt: skip
        """Create or update the schedule `id`: True if it is new, False if it was updated or was equal already.

        A changed trigger fires what is due first, then counts from now. Raises ScheduleConflict if `revision` is given
        and another edit came first; NotAccepting; and what `declare` raises.
        """
        self._scheduler.require_accepting()
        declaration = declare(self._scheduler, id, trigger, task, args, kwargs, options)
        what, found = await self.put_declaration(declaration, revision=revision)
        if what == "conflict":
            raise ScheduleConflict(f"schedule {id!r} is at revision {found}, not {revision}: read it again, then edit")
        return what == "created"

    async def put_declaration(
        self, declaration: Declaration, *, app: str = "", revision: int | None = None
    ) -> tuple[str, int]:
        """Put, firing first what is due; returns what the store says: created, same, updated or conflict.

        Raises FormatError if a newer duly has defined it.
        """
        shard = self._scheduler.shard(declaration.queue)
        definition = declaration.definition
        new = NewSchedule(
            declaration.id,
            planning.encode(definition),
            await self._first_mark(shard, definition.trigger),
            app,
            definition.overlap == "buffer",
            revision,
        )
        while True:
            what, found = await shard.put(new)
            if what != "due":
                return what, found
            records = [r for r in (await shard.schedules([declaration.id], "", 1)).items if r is not None]
            if records and not await fire_due(shard, "edit", records, (await shard.sizes()).now):
                raise FormatError(
                    f"schedule {declaration.id!r} was defined by a newer duly, and is left as it is: upgrade this node"
                )

    async def put_declared(self, declarations: Iterable[Declaration], app: str, logger: logging.Logger) -> None:
        """Put what an app's code declares. What a newer duly has defined is left alone: deploys roll."""
        for declaration in declarations:
            try:
                await self.put_declaration(declaration, app=app)
            except FormatError as error:
                logger.warning("%s", error)

    async def _first_mark(self, shard: Shard, trigger: Trigger) -> int | None:
        """Where a new schedule's mark begins, so that its first moment is not behind it."""
        if isinstance(trigger, At) or (isinstance(trigger, Every) and trigger.start == "now"):
            return 0
        if isinstance(trigger, Every) and isinstance(trigger.start, int):
            now = (await shard.sizes()).now
            return trigger.start - 1 if trigger.start > now - JUST_NOW_MS else None
        return None

    async def _record(self, id: str, queue: str) -> ScheduleRecord | None:
        return (await self._scheduler.shard(queue).schedules([id], "", 1)).items[0]  # type: ignore[no-any-return]

    async def get(self, id: str, *, queue: str = DEFAULT_QUEUE) -> ScheduleView | None:
        """The schedule, or None."""
        record = await self._record(id, queue)
        return _view(record, queue) if record else None  # raises FormatError if a newer duly defined it

    async def remove(self, id: str, *, queue: str = DEFAULT_QUEUE) -> bool:
        """Remove it, with its job that has not started; False if there is none. The cost does not grow with their number."""
        return await self._scheduler.shard(queue).steer(id, remove=True)

    async def pause(self, id: str, note: str = "", *, queue: str = DEFAULT_QUEUE) -> bool:
        """No ticks until `resume`; the note says why."""
        return await self._scheduler.shard(queue).steer(id, paused=note or "paused")

    async def resume(self, id: str, *, queue: str = DEFAULT_QUEUE) -> bool:
        """Ticks again, from now on."""
        return await self._scheduler.shard(queue).steer(id)

    async def trigger(self, id: str, *, queue: str = DEFAULT_QUEUE) -> str:
        """One run now, beside the ticks. Returns the job's id."""
        record = await self._known(id, queue)
        definition = _definition(record)
        job = planning.make_job(
            id, definition, (await self._scheduler.shard(queue).sizes()).now, f"{id}!{new_job_id()}"
        )
        await self._enqueue(queue, [job])
        return job.id

    async def backfill(self, id: str, start: datetime, end: datetime, *, queue: str = DEFAULT_QUEUE) -> int:
        """One run for each moment in [start, end), with ids of their own: a second call for the same moments, made while
        the first are known, adds nothing. Returns how many moments there are."""
        record = await self._known(id, queue)
        definition = _definition(record)
        first, last = (round((make_options({"at": moment}).at or 0) * 1000) for moment in (start, end))
        count, batch = 0, []
        for moment in definition.trigger.moments(first - 1, last - 1, record.anchor):
            count += 1
            job = planning.make_job(id, definition, moment, f"{id}#{moment}")
            batch.append(msgspec.structs.replace(job, named=True))
            if len(batch) == PAGE:
                await self._enqueue(queue, batch)
                batch = []
        if batch:
            await self._enqueue(queue, batch)
        return count

    async def preview(self, id: str, n: int = 10, *, queue: str = DEFAULT_QUEUE) -> Sequence[datetime]:
        """The next `n` moments from now (store clock), in the trigger's time zone."""
        record = await self._known(id, queue)
        now = (await self._scheduler.shard(queue).sizes()).now
        trigger = _definition(record).trigger
        return trigger.upcoming(n, datetime.fromtimestamp(now / 1000, UTC), record.anchor)

    async def clear(self, *, queue: str = DEFAULT_QUEUE) -> int:
        """Remove all schedules of a queue, one by one; how many there were."""
        count = 0
        async for record in self._records(queue):
            count += await self.remove(record.id, queue=queue)
        return count

    async def _known(self, id: str, queue: str) -> ScheduleRecord:
        record = await self._record(id, queue)
        if record is None:
            raise InvalidOption(f"queue {queue!r} has no schedule {id!r}")
        return record

    async def _enqueue(self, queue: str, jobs: list[NewJob]) -> None:
        await self._scheduler.producer(queue).push_batch(jobs)

    async def list(self, *, queue: str = DEFAULT_QUEUE, prefix: str = "") -> AsyncIterator[ScheduleView]:
        """All schedules of a queue whose id begins with `prefix`, in no particular order; read in bounded pages.

        Those that a newer duly has defined are left out: this code cannot read them.
        """
        async for record in self._records(queue):
            if record.id.startswith(prefix):
                with contextlib.suppress(FormatError):
                    yield _view(record, queue)

    async def _records(self, queue: str) -> AsyncIterator[ScheduleRecord]:
        """Each schedule once, read in bounded pages."""
        cursor = ""
        seen: set[str] = set()
        while True:
            page = await self._scheduler.shard(queue).schedules(None, cursor, PAGE)
            for record in page.items:
                if record.id not in seen:
                    seen.add(record.id)
                    yield record
            if not page.cursor:
                return
            cursor = page.cursor


def _definition(record: ScheduleRecord) -> Definition:
    try:
        return planning.decode(record.definition)
    except (msgspec.MsgspecError, InvalidTrigger) as error:
        raise FormatError(
            f"schedule {record.id!r} was defined by a newer duly: upgrade this node to read it ({error})"
        ) from None


def _view(record: ScheduleRecord, queue: str) -> ScheduleView:
    definition = _definition(record)
    return ScheduleView(
        record.id, queue, definition.trigger, definition.task, record.revision, record.paused,
        record.next / 1000 if record.next else None, record.last / 1000 if record.last else None,
        record.fired, record.skipped, record.app, len(record.live) if definition.counted else 0,
    )  # fmt: skip


def name_of(task: Any) -> str | None:
    """The name of a task object, or None for anything else."""
    if isinstance(task, Task):
        return task.name
    return task.task if isinstance(task, Call) else None
