"""The endpoints that change something; each needs the role `write`."""

from __future__ import annotations

from duly.dashboard.access import Viewer
from duly.dashboard.actions import Done, Work
from duly.dashboard.api.table import post
from duly.dashboard.api.types import (
    BackfillAnswer,
    BackfillAsked,
    EditAnswer,
    EditAsked,
    LimitAsked,
    Ok,
    OneAsked,
    PauseAsked,
    QueueAsked,
    QueueState,
    SomeAsked,
    TriggerAnswer,
    read_datetime,
)
from duly.dashboard.site import Site


async def _state(site: Site, queue: str) -> QueueState:
    sizes = await site.scheduler.queues.sizes(queue)
    return QueueState(queue, sizes.paused, sizes.limit)


@post("queues/pause")
async def pause_queue(site: Site, viewer: Viewer, asked: QueueAsked) -> QueueState:
    """No node takes jobs of a queue until it is resumed; what runs goes on."""
    await site.actions.pause_queue(viewer, asked.queue)
    return await _state(site, asked.queue)


@post("queues/resume")
async def resume_queue(site: Site, viewer: Viewer, asked: QueueAsked) -> QueueState:
    """Jobs of a queue are taken again."""
    await site.actions.resume_queue(viewer, asked.queue)
    return await _state(site, asked.queue)


@post("queues/limit")
async def limit_queue(site: Site, viewer: Viewer, asked: LimitAsked) -> QueueState:
    """At most so many jobs of a queue run at once in the whole cluster; null for no limit."""
    await site.actions.limit_queue(viewer, asked.queue, asked.limit)
    return await _state(site, asked.queue)


@post("queues/clear")
async def clear_queue(site: Site, viewer: Viewer, asked: QueueAsked) -> Work:
    """Remove the jobs of a queue that wait or are dead now. After 2 s it goes on in the background: see queues/works."""
    return await site.actions.clear_queue(viewer, asked.queue)


@post("dead/retry")
async def retry_dead(site: Site, viewer: Viewer, asked: QueueAsked) -> Work:
    """Run all jobs of a queue again that are dead now; as queues/clear."""
    return await site.actions.retry_dead(viewer, asked.queue)


@post("dead/delete")
async def delete_dead(site: Site, viewer: Viewer, asked: QueueAsked) -> Work:
    """Remove all jobs of a queue that are dead now; as queues/clear."""
    return await site.actions.delete_dead(viewer, asked.queue)


@post("jobs/retry")
async def retry_jobs(site: Site, viewer: Viewer, asked: SomeAsked) -> Done:
    """Dead jobs run again, from their first attempt."""
    return await site.actions.retry_jobs(viewer, asked.queue, asked.ids)


@post("jobs/cancel")
async def cancel_jobs(site: Site, viewer: Viewer, asked: SomeAsked) -> Done:
    """Jobs that wait are gone, those that run are asked to end."""
    return await site.actions.cancel_jobs(viewer, asked.queue, asked.ids)


@post("jobs/run-now")
async def run_jobs_now(site: Site, viewer: Viewer, asked: SomeAsked) -> Done:
    """Jobs that wait for their time, or for a retry, are due now; dead ones run again."""
    return await site.actions.run_jobs_now(viewer, asked.queue, asked.ids)


@post("jobs/delete")
async def delete_jobs(site: Site, viewer: Viewer, asked: SomeAsked) -> Done:
    """Dead jobs are gone; others are left alone."""
    return await site.actions.delete_jobs(viewer, asked.queue, asked.ids)


@post("schedules/pause")
async def pause_schedule(site: Site, viewer: Viewer, asked: PauseAsked) -> Ok:
    """No ticks until it is resumed."""
    await site.actions.pause_schedule(viewer, asked.queue, asked.id, asked.note)
    return Ok()


@post("schedules/resume")
async def resume_schedule(site: Site, viewer: Viewer, asked: OneAsked) -> Ok:
    """Ticks again, from now on."""
    await site.actions.resume_schedule(viewer, asked.queue, asked.id)
    return Ok()


@post("schedules/trigger")
async def trigger_schedule(site: Site, viewer: Viewer, asked: OneAsked) -> TriggerAnswer:
    """One run now, beside the ticks."""
    return TriggerAnswer(await site.actions.trigger_schedule(viewer, asked.queue, asked.id))


@post("schedules/backfill")
async def backfill(site: Site, viewer: Viewer, asked: BackfillAsked) -> BackfillAnswer:
    """One run for each moment from start on, before end; at most 100,000 moments. A repeat adds nothing."""
    start, end = read_datetime("start", asked.start), read_datetime("end", asked.end)
    return BackfillAnswer(await site.actions.backfill(viewer, asked.queue, asked.id, start, end))


@post("schedules/edit")
async def edit_schedule(site: Site, viewer: Viewer, asked: EditAsked) -> EditAnswer:
    """Another trigger, if the schedule still is at the revision that was read (else 409)."""
    trigger = asked.trigger.trigger()
    return EditAnswer(await site.actions.edit_schedule(viewer, asked.queue, asked.id, trigger, asked.revision))


@post("schedules/remove")
async def remove_schedule(site: Site, viewer: Viewer, asked: OneAsked) -> Ok:
    """Remove it, with its job that has not started. What an app's code declares comes back with its next node."""
    await site.actions.remove_schedule(viewer, asked.queue, asked.id)
    return Ok()
