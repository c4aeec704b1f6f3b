"""Schedules as applications touch them: put, look, pause, trigger; those declared in code and those put at run time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from duly.config import DEFAULT_QUEUE
from duly.core import schedule as planning
from duly.core.audit import Audit, audit
from duly.core.job import NewJob, make_options, queue_name
from duly.core.trigger import At, Trigger, pinned
from duly.errors import FormatError, InvalidOption, InvalidTrigger, ScheduleConflict, StaleMap, StoreUnavailable
from duly.identity import new_job_id
from duly.recurring import Declaration, Schedulable, after_pending, declare, read_schedulable
from duly.runtime.loop import Backoff
from duly.runtime.producer import LONGEST_PAUSE
from duly.runtime.ticker import fire_due
from duly.stores.base import Due, NewSchedule, ScheduleRecord, Shard
from duly.views.schedules import ScheduleView, definition_of, view

if TYPE_CHECKING:
    from duly.scheduler import Scheduler

PAGE = 200
MOST_STEPS = 100
"""Steps in which what is due is fired before a pause."""
JUST_NOW_MS = 60_000
"""A start up to this long ago still counts as a first moment; an older one only sets the grid."""


class Schedules:
    """Recurring work in the store."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    async def put(self, id: str | Schedulable, trigger: Trigger | None = None, task: Any = None, *,
                  args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, revision: int | None = None,
                  after_pending: bool = False, **options: Any) -> bool:  # fmt: skip
        """Create or update the schedule `id`: True if it is new, False if it was updated or was equal already.

        A changed trigger fires what is due first, then counts from now; with `after_pending` the moment that is pending
        stays, and the new trigger counts from there. Raises ScheduleConflict if `revision` is given and another edit
        came first; NotAccepting; and what `declare` raises.

        In place of an id, trigger and arguments, an object that says them itself (`recurring.Schedulable`), with the task
        that is to be called with what it serializes to (by default one named after its class, or what is bound to `*`);
        its updates take effect after the pending moment.
        """
        self._scheduler.require_accepting()
        if not isinstance(id, str):
            if not isinstance(id, Schedulable) or trigger is not None or args or kwargs:
                raise InvalidOption(
                    f"schedule id {id!r}: give a text, a trigger and a task, or an object that says them itself"
                )
            task, (id, trigger, payload) = task or type(id).__name__, read_schedulable(id)
            args, after_pending = (payload,), True
        declaration = declare(self._scheduler, id, trigger, task, args, kwargs, options)
        if after_pending:
            return await self._put_after_pending(declaration, revision)
        what, found = await self.put_declaration(declaration, revision=revision)
        if what == "conflict":
            raise _conflict(declaration.id, found, revision)
        return what == "created"

    async def edit(self, id: str, trigger: Trigger, *, queue: str = DEFAULT_QUEUE, revision: int | None = None) -> bool:
        """Another trigger, and the rest as it is; False if it is equal. A moment that is due is fired first, then it counts
        from now. Raises InvalidOption if there is no such schedule, or if code declares it; ScheduleConflict if `revision`
        is given and another edit came first."""
        self._scheduler.require_accepting()
        if not isinstance(trigger, Trigger):
            raise InvalidTrigger(f"trigger={trigger!r}: give cron(…), every(…), at(…), or some of them joined with |")
        while True:
            record = await self._known(id, queue)
            if record.app:
                raise InvalidOption(f"schedule {id!r} is declared in the code of app {record.app!r}: change it there")
            definition = msgspec.structs.replace(definition_of(record), trigger=trigger)
            mark = await self._first_mark(self._scheduler.shard(queue), trigger)
            read = record.revision if revision is None else revision
            new = NewSchedule(id, planning.encode(definition), mark, "", definition.held_back, read)
            what, found = await self._put(queue, new)
            if what != "conflict":
                return what == "updated"
            if revision is not None:
                raise _conflict(id, found, revision)

    async def _put_after_pending(self, declaration: Declaration, revision: int | None) -> bool:
        """Each try edits what it has read; another editor's step between is read again, unless `revision` forbids it."""
        while True:
            old = await self._record(declaration.id, declaration.queue)
            if old is None:
                what, found = await self.put_declaration(declaration, revision=revision)
            else:
                trigger = after_pending(declaration.definition.trigger, definition_of(old).trigger, old.next or None)
                definition = msgspec.structs.replace(declaration.definition, trigger=trigger)
                edit = msgspec.structs.replace(declaration, definition=definition)
                what, found = await self.put_declaration(edit, revision=revision or old.revision)
            if what != "conflict":
                return what == "created"
            if revision is not None:
                raise _conflict(declaration.id, found, revision)

    async def put_declaration(
        self, declaration: Declaration, *, app: str = "", revision: int | None = None
    ) -> tuple[str, int]:
        """Put, firing first what is due; returns what the store says: created, same, updated or conflict.

        Raises FormatError if a newer duly has defined it.
        """
        await self._scheduler.make_known(declaration.queue)
        definition = declaration.definition
        new = NewSchedule(
            declaration.id,
            planning.encode(definition),
            await self._first_mark(self._scheduler.shard(declaration.queue), definition.trigger),
            app,
            definition.held_back,
            revision,
        )
        return await self._put(declaration.queue, new)

    async def _put(self, queue: str, new: NewSchedule) -> tuple[str, int]:
        """Put by the present map, firing first what is due. Raises StoreUnavailable if that has not come about after
        `push_timeout` seconds, as the map is being changed, or others are always faster; FormatError."""
        scheduler, backoff = self._scheduler, Backoff(LONGEST_PAUSE)
        shards, until = scheduler.connected_shards, scheduler.clock.monotonic() + scheduler.config.push_timeout
        while True:
            known, shard = shards.map, scheduler.shard(queue)
            try:
                what, found = await shard.put(new)
                if what != "due":
                    return what, found
                goes_on, why = await self._fire(shard, new.id), "others fire or move it"
            except StaleMap as error:
                goes_on, why = await shards.has_changed(known), str(error)
            if goes_on:
                continue
            pause = backoff.pause()
            if scheduler.clock.monotonic() + pause >= until:
                raise StoreUnavailable(f"schedule {new.id!r} is not put: {why}; put it again")
            await asyncio.sleep(pause)

    async def _fire(self, shard: Shard, id: str) -> bool:
        """Fire what is due of one schedule; whether it was. Raises FormatError if a newer duly has defined it."""
        records = [record for record in (await shard.schedules([id], "", 1)).items if record is not None]
        answers = await fire_due(shard, "edit", Due((await shard.sizes()).now, records))
        if records and not answers:
            raise FormatError(f"schedule {id!r} was defined by a newer duly, and is left as it is: upgrade this node")
        return answers == ["fired"]

    async def put_declared(self, declarations: Iterable[Declaration], app: str, logger: logging.Logger) -> None:
        """Put what an app's code declares. What a newer duly has defined is left alone: deploys roll."""
        for declaration in declarations:
            try:
                await self.put_declaration(declaration, app=app)
            except FormatError as error:
                logger.warning("%s", error)

    async def _first_mark(self, shard: Shard, trigger: Trigger) -> int | None:
        """Where a new schedule's mark begins, so that its first moment is not behind it."""
        if isinstance(trigger, At):
            return 0  # also one that is past: `catch_up` says what becomes of it
        now = (await shard.sizes()).now
        first = trigger.first(now)
        return first - 1 if first is not None and first > now - JUST_NOW_MS else None

    async def _record(self, id: str, queue: str) -> ScheduleRecord | None:
        return (await self._scheduler.shard(queue).schedules([id], "", 1)).items[0]  # type: ignore[no-any-return]

    async def get(self, id: str, *, queue: str = DEFAULT_QUEUE) -> ScheduleView | None:
        """The schedule, or None."""
        record = await self._record(id, queue)
        return view(record, queue) if record else None  # raises FormatError if a newer duly defined it

    async def remove(self, id: str, *, queue: str = DEFAULT_QUEUE) -> bool:
        """Remove it, with its job that has not started; False if there is none. The cost does not grow with their number."""
        return await self._scheduler.shard(queue).steer(id, remove=True)

    async def pause(self, id: str, note: str = "", *, queue: str = DEFAULT_QUEUE) -> bool:
        """No ticks until `resume`; the note says why. A tick that is due is fired first."""
        shard, record = self._scheduler.shard(queue), await self._record(id, queue)
        for _ in range(MOST_STEPS):
            if record is None or record.paused is not None:
                break
            mark = record.mark
            await fire_due(shard, "edit", Due((await shard.sizes()).now, [record]))
            record = await self._record(id, queue)
            if record is None or record.mark == mark:
                break
        return await shard.steer(id, paused=note or "paused")

    async def resume(self, id: str, *, queue: str = DEFAULT_QUEUE) -> bool:
        """Ticks again, from now on."""
        return await self._scheduler.shard(queue).steer(id)

    async def move(self, id: str, *, to: str, queue: str = DEFAULT_QUEUE) -> bool:
        """Have it make its jobs in another queue from now on; its mark goes along, so no tick is lost or doubled.

        Three steps, each of which may be repeated: it is paused here, put there, removed here; call it again if it was
        interrupted. False if the other queue has it already. Jobs that are there stay. Raises InvalidOption if no queue
        has it, or if code declares it: then the code says where it runs.
        """
        source = await self._record(id, queue)
        if source is None and await self._record(id, to) is not None:
            return False
        source = await self._known(id, queue)
        if source.app:
            raise InvalidOption(
                f"schedule {id!r} is declared in the code of app {source.app!r}: change its queue= there"
            )
        if to == queue:
            return False
        note, moving = source.paused, f"it moves to queue {to!r}"
        if note is None:
            await self.pause(id, moving, queue=queue)
            source = await self._known(id, queue)  # its last ticks are in the mark now
        definition = definition_of(source)
        definition = msgspec.structs.replace(definition, trigger=pinned(definition.trigger, source.anchor))
        await self._scheduler.make_known(queue_name(to))
        await self._put(to, NewSchedule(id, planning.encode(definition), source.mark, "", definition.held_back))
        if note is not None and note != moving:
            await self._scheduler.shard(to).steer(id, paused=note)
        return await self._scheduler.shard(queue).steer(id, remove=True)

    async def trigger(self, id: str, *, queue: str = DEFAULT_QUEUE) -> str:
        """One run now, beside the ticks. Returns the job's id."""
        record = await self._known(id, queue)
        definition = definition_of(record)
        job = planning.make_job(
            id, definition, (await self._scheduler.shard(queue).sizes()).now, f"{id}!{new_job_id()}"
        )
        await self._enqueue(queue, [job])
        return job.id

    async def backfill(self, id: str, start: datetime | float, end: datetime | float, *, queue: str = DEFAULT_QUEUE,
                       pushed: Callable[[int], None] = lambda _count: None) -> int:  # fmt: skip
        """One run for each moment in [start, end), with ids of their own: a second call for the same moments, made while
        the first are known, adds nothing. Returns how many moments there are; `pushed` is told of each step."""
        record = await self._known(id, queue)
        definition = definition_of(record)
        first, last = (round((make_options({"at": moment}).at or 0) * 1000) for moment in (start, end))
        count, batch = 0, []
        for moment in definition.trigger.moments(first - 1, last - 1, record.anchor):
            count += 1
            job = planning.make_job(id, definition, moment, f"{id}#{moment}")
            batch.append(msgspec.structs.replace(job, named=True))
            if len(batch) == PAGE:
                await self._enqueue(queue, batch)
                pushed(len(batch))
                batch = []
        if batch:
            await self._enqueue(queue, batch)
            pushed(len(batch))
        return count

    async def preview(self, id: str, n: int = 10, *, queue: str = DEFAULT_QUEUE) -> Sequence[datetime]:
        """The next `n` moments from now (store clock), in the trigger's time zone."""
        record = await self._known(id, queue)
        now = (await self._scheduler.shard(queue).sizes()).now
        trigger = definition_of(record).trigger
        return trigger.upcoming(n, datetime.fromtimestamp(now / 1000, UTC), record.anchor)

    async def audit(self, id: str, *, queue: str = DEFAULT_QUEUE, since: datetime | float | None = None) -> Audit:
        """Hold the tick log against the trigger, from `since` on, as far back as the log goes (setting `history`).

        Raises InvalidOption if there is no such schedule.
        """
        record = await self._known(id, queue)
        shard = self._scheduler.shard(queue)
        now = (await shard.sizes()).now
        entries, cursor = [], ""
        while True:
            page = await shard.history("ticks", cursor, PAGE)
            entries += [(int(entry.partition("-")[0]), fields) for entry, fields in page.items]
            if len(page.items) < PAGE:
                break
            cursor = page.cursor
        first = entries[0][0] if entries else now
        asked = 0 if since is None else round((make_options({"at": since}).at or 0) * 1000)
        own = [(at, fields) for at, fields in entries if fields["schedule"] == id]
        return audit(definition_of(record), record.anchor, record.mark, own, max(asked, first), now)

    async def clear(self, *, queue: str = DEFAULT_QUEUE) -> int:
        """Remove all schedules of a queue, one by one; how many there were."""
        count = 0
        async for record in self.records(queue):
            count += await self.remove(record.id, queue=queue)
        return count

    async def _known(self, id: str, queue: str) -> ScheduleRecord:
        record = await self._record(id, queue)
        if record is None:
            raise InvalidOption(f"queue {queue!r} has no schedule {id!r}")
        return record

    async def _enqueue(self, queue: str, jobs: list[NewJob]) -> None:
        await asyncio.gather(*(self._scheduler.pushes.enqueue(queue, job) for job in jobs))

    async def list(self, *, queue: str = DEFAULT_QUEUE, prefix: str = "") -> AsyncIterator[ScheduleView]:
        """All schedules of a queue whose id begins with `prefix`, in no particular order; read in bounded pages.

        Those that a newer duly has defined are left out: this code cannot read them.
        """
        async for record in self.records(queue):
            if record.id.startswith(prefix):
                with contextlib.suppress(FormatError):
                    yield view(record, queue)

    async def records(self, queue: str) -> AsyncIterator[ScheduleRecord]:
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


def _conflict(id: str, found: int, revision: int | None) -> ScheduleConflict:
    where = f"at revision {found}, not {revision}" if found else f"gone, not at revision {revision}"
    return ScheduleConflict(f"schedule {id!r} is {where}: read it again, then edit")
