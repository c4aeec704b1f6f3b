"""Every change that the dashboard makes, once, for the API and the pages; each is logged: who, what, with what result."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from duly.core.trigger import Trigger
from duly.dashboard.problems import Refused, require_queue
from duly.errors import DulyError
from duly.handle import clear
from duly.stores.base import MAX_BATCH, Sizes
from duly.views.schedules import ScheduleView

if TYPE_CHECKING:
    from duly.dashboard.access import Viewer
    from duly.scheduler import Scheduler

logger = logging.getLogger("duly.dashboard")
PATIENCE = 2.0
"""Seconds after which work on a whole queue goes on in the background, and its progress is the answer."""
MOST_WORKS = 100
STEP = 500
MOST_BACKFILLED = 100_000
"""Moments of one backfill."""
LONGEST_NOTE = 500


class Done(msgspec.Struct, frozen=True):
    """What a change of several jobs did. answers: per id, what became of it."""

    asked: int
    changed: int
    answers: dict[str, str]


class Work(msgspec.Struct):
    """Work on a whole queue, in bounded steps. total: how many there were when it began. error: why it failed."""

    what: Literal["clear", "delete dead", "retry dead"]
    queue: str
    total: int
    done: int = 0
    state: Literal["running", "done", "failed"] = "running"
    error: str = ""


class Actions:
    """The changes of one dashboard. All raise StoreError; Refused for a queue, job or schedule that is not there."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.works: dict[tuple[str, str], Work] = {}
        """By what and queue: those under way, and the last ones."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End the work in the background; what is done, is done."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # queues

    async def pause_queue(self, viewer: Viewer, queue: str) -> None:
        """No node claims from it until it is resumed."""
        await self._known(queue)
        await self.scheduler.queues.pause(queue)
        _note(viewer, "queue %r paused", queue)

    async def resume_queue(self, viewer: Viewer, queue: str) -> None:
        """Its jobs are claimed again."""
        await self._known(queue)
        await self.scheduler.queues.resume(queue)
        _note(viewer, "queue %r resumed", queue)

    async def limit_queue(self, viewer: Viewer, queue: str, limit: int | None) -> None:
        """At most `limit` of its jobs run in the cluster; None for no limit. Raises InvalidOption."""
        await self._known(queue)
        await self.scheduler.queues.limit(queue, limit)
        _note(viewer, "queue %r: limit %s", queue, limit)

    async def clear_queue(self, viewer: Viewer, queue: str) -> Work:
        """Remove what is pending or dead now; what runs is left alone."""
        sizes = await self._known(queue)

        async def work(progress: Callable[[int], None]) -> None:
            await clear(self.scheduler.shard(queue), until=sizes.now, removed=progress)

        return await self._begin(viewer, Work("clear", queue, sizes.pending + sizes.dead), work)

    async def delete_dead(self, viewer: Viewer, queue: str) -> Work:
        """Remove all that is dead now."""
        sizes = await self._known(queue)

        async def work(progress: Callable[[int], None]) -> None:
            await clear(self.scheduler.shard(queue), dead_only=True, until=sizes.now, removed=progress)

        return await self._begin(viewer, Work("delete dead", queue, sizes.dead), work)

    async def retry_dead(self, viewer: Viewer, queue: str) -> Work:
        """Run all again that are dead now."""
        sizes = await self._known(queue)

        async def work(progress: Callable[[int], None]) -> None:
            cursor, left = "", sizes.dead
            while left > 0:
                found, cursor = await self.scheduler.jobs.list(
                    "dead", queue=queue, limit=min(left, STEP), cursor=cursor
                )
                ids = [job.id for job in found if job.at * 1000 <= sizes.now]
                retried = sum(await self.scheduler.jobs.retry(*ids, queue=queue)) if ids else 0
                progress(retried)
                left -= len(found)
                if retried:
                    cursor = ""  # a cursor may count places, and those behind have moved up
                elif not cursor:
                    break

        return await self._begin(viewer, Work("retry dead", queue, sizes.dead), work)

    async def _begin(self, viewer: Viewer, work: Work, do: Callable[[Callable[[int], None]], Awaitable[None]]) -> Work:
        """Do it, for at most PATIENCE seconds in sight. Of each kind one is under way in a queue."""
        key = (work.what, work.queue)
        if (old := self.works.get(key)) is not None and old.state == "running":
            return old
        self.works.pop(key, None)
        self.works[key] = work
        for stale in [key for key, one in self.works.items() if one.state != "running"][: len(self.works) - MOST_WORKS]:
            del self.works[stale]
        task = asyncio.get_running_loop().create_task(self._do(viewer, work, do))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait([task], timeout=PATIENCE)
        return work

    async def _do(self, viewer: Viewer, work: Work, do: Callable[[Callable[[int], None]], Awaitable[None]]) -> None:
        def progress(count: int) -> None:
            work.done += count

        try:
            await do(progress)
            work.state = "done"
        except asyncio.CancelledError:
            work.state, work.error = "failed", "the dashboard was stopped; do it again to go on"
            raise
        except DulyError as error:
            work.state, work.error = "failed", f"{error}; do it again to go on"
        finally:
            _note(viewer, "queue %r: %s: %s of %s jobs, %s", work.queue, work.what, work.done, work.total, work.state)

    # jobs

    async def retry_jobs(self, viewer: Viewer, queue: str, ids: Sequence[str]) -> Done:
        """Dead jobs run again, from their first attempt."""
        await self._known(queue, ids)
        answers = await self.scheduler.jobs.retry(*ids, queue=queue)
        return _done(viewer, "retried", queue, ids, ["retried" if yes else "not dead" for yes in answers], {"retried"})

    async def cancel_jobs(self, viewer: Viewer, queue: str, ids: Sequence[str]) -> Done:
        """Pending ones are gone, running ones are asked to end."""
        await self._known(queue, ids)
        answers = await self.scheduler.jobs.cancel(*ids, queue=queue)
        return _done(viewer, "cancelled", queue, ids, answers, {"cancelled", "asked"})

    async def run_jobs_now(self, viewer: Viewer, queue: str, ids: Sequence[str]) -> Done:
        """Pending jobs that wait for their time, or for a retry, are due now; dead ones run again."""
        await self._known(queue, ids)
        answers = await self.scheduler.jobs.run_now(*ids, queue=queue)
        return _done(viewer, "run now", queue, ids, ["due" if yes else "not waiting" for yes in answers], {"due"})

    async def delete_jobs(self, viewer: Viewer, queue: str, ids: Sequence[str]) -> Done:
        """Dead jobs are gone; others are left alone."""
        await self._known(queue, ids)
        count = await self.scheduler.jobs.delete(*ids, queue=queue)
        _note(viewer, "queue %r: %s of %s jobs deleted", queue, count, len(ids))
        return Done(len(ids), count, {})

    # schedules

    async def pause_schedule(self, viewer: Viewer, queue: str, id: str, note: str = "") -> None:
        """No ticks until it is resumed; the note says why."""
        if len(note) > LONGEST_NOTE:
            raise Refused(422, f"a note of {len(note):,} characters: at most {LONGEST_NOTE}")
        _require(await self.scheduler.schedules.pause(id, note, queue=queue), queue, id)
        _note(viewer, "schedule %r of queue %r paused: %r", id, queue, note)

    async def resume_schedule(self, viewer: Viewer, queue: str, id: str) -> None:
        """Ticks again, from now on."""
        _require(await self.scheduler.schedules.resume(id, queue=queue), queue, id)
        _note(viewer, "schedule %r of queue %r resumed", id, queue)

    async def trigger_schedule(self, viewer: Viewer, queue: str, id: str) -> str:
        """One run now, beside the ticks; the job's id."""
        await self._schedule(queue, id)
        job = await self.scheduler.schedules.trigger(id, queue=queue)
        _note(viewer, "schedule %r of queue %r triggered: job %r", id, queue, job)
        return job

    async def backfill(self, viewer: Viewer, queue: str, id: str, start: datetime, end: datetime) -> int:
        """One run for each moment in [start, end); how many there are. Raises Refused for too many."""
        view = await self._schedule(queue, id)
        first, last = round(start.timestamp() * 1000), round(end.timestamp() * 1000)
        if last <= first:
            raise Refused(
                422, f"from {start.isoformat()} to {end.isoformat()} there is no time: give the earlier one first"
            )
        count = view.trigger.count(first - 1, last - 1, limit=MOST_BACKFILLED + 1)
        if count > MOST_BACKFILLED:
            raise Refused(422, f"that are more than {MOST_BACKFILLED:,} moments: give a shorter time")
        count = await self.scheduler.schedules.backfill(id, start, end, queue=queue)
        _note(viewer, "schedule %r of queue %r backfilled: %s moments from %s to %s", id, queue, count, start, end)
        return count

    async def edit_schedule(self, viewer: Viewer, queue: str, id: str, trigger: Trigger, revision: int) -> int:
        """Another trigger, if it still is at this revision; the new revision. Raises ScheduleConflict."""
        await self._schedule(queue, id)
        await self.scheduler.schedules.edit(id, trigger, queue=queue, revision=revision)
        view = await self._schedule(queue, id)
        _note(viewer, "schedule %r of queue %r: now %s", id, queue, view.trigger.describe())
        return view.revision

    async def remove_schedule(self, viewer: Viewer, queue: str, id: str) -> None:
        """It is gone, with its job that has not started."""
        _require(await self.scheduler.schedules.remove(id, queue=queue), queue, id)
        _note(viewer, "schedule %r of queue %r removed", id, queue)

    async def _known(self, queue: str, ids: Sequence[str] | None = None) -> Sizes:
        if ids is not None and not 1 <= len(ids) <= MAX_BATCH:
            raise Refused(422, f"{len(ids):,} ids: give from 1 to {MAX_BATCH:,} at a time")
        await require_queue(self.scheduler, queue)
        return await self.scheduler.queues.sizes(queue)

    async def _schedule(self, queue: str, id: str) -> ScheduleView:
        view = await self.scheduler.schedules.get(id, queue=queue)
        if view is None:
            raise no_schedule(queue, id)
        return view


def no_schedule(queue: str, id: str) -> Refused:
    """Of a schedule that is not there."""
    return Refused(404, f"queue {queue!r} has no schedule {id!r}: it was removed, or it is in another queue")


def _require(there: bool, queue: str, id: str) -> None:
    if not there:
        raise no_schedule(queue, id)


def _done(
    viewer: Viewer, what: str, queue: str, ids: Sequence[str], answers: Sequence[str], changed: Container[str]
) -> Done:
    count = sum(answer in changed for answer in answers)
    _note(viewer, "queue %r: %s of %s jobs %s", queue, count, len(ids), what)
    return Done(len(ids), count, dict(zip(ids, answers, strict=True)))


def _note(viewer: Viewer, sentence: str, *values: object) -> None:
    """Values are shown by %r where they come from elsewhere: a line break in them does not begin a line of the log."""
    logger.info(f"%s: {sentence}", viewer.who, *values)  # noqa: G004 (the sentence is ours, the values are arguments)
