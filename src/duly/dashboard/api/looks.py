"""The endpoints that look."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from duly.dashboard.actions import Work, no_schedule
from duly.dashboard.api.table import get
from duly.dashboard.api.types import (
    FindAsked,
    HistoryAsked,
    JobsAsked,
    LaneAnswer,
    LanesAnswer,
    LocksAsked,
    MeasuresAsked,
    OneAsked,
    OneQueueAsked,
    PreviewAnswer,
    PreviewAsked,
    RingAnswer,
    ScheduleAsked,
    ScheduleDetailAnswer,
    SchedulesAnswer,
    SchedulesAsked,
    TicksAsked,
    detail_answer,
    schedule_answer,
    tick_answers,
)
from duly.dashboard.problems import Refused
from duly.dashboard.site import Site
from duly.stores.capabilities import Finding
from duly.views.dead import DeadGroups
from duly.views.happenings import Happening
from duly.views.jobs import JobView
from duly.views.listings import JobDetail, JobPage, Overview
from duly.views.locks import LockPage
from duly.views.measures import Measures
from duly.views.nodes import NodeView
from duly.views.queues import QueueView
from duly.views.why import Reason


class Why(msgspec.Struct, frozen=True):
    """why: in one sentence; reasons: one by one, the most decisive first."""

    why: str
    reasons: Sequence[Reason]


@get("overview")
async def overview(site: Site) -> Overview:
    """The whole cluster in numbers."""
    return await site.monitor.overview()


@get("queues")
async def queues(site: Site) -> list[QueueView]:
    """Every queue that was ever pushed to or served."""
    return await site.monitor.queues()


@get("queues/works")
async def works(site: Site) -> list[Work]:
    """Work on whole queues that this dashboard has under way, and the last that is over."""
    return list(site.actions.works.values())


@get("jobs")
async def jobs(site: Site, asked: JobsAsked) -> JobPage:
    """A page of the jobs of one state; filtered, it may be short or empty and have a cursor that goes on."""
    return await site.monitor.jobs(
        asked.state, queue=asked.queue or None, task=asked.task, text=asked.text, limit=asked.limit, cursor=asked.cursor
    )


@get("jobs/find")
async def find(site: Site, asked: FindAsked) -> list[JobView]:
    """The job of this id, of each queue that knows one."""
    return await site.monitor.find_job(asked.id, asked.queue or None)


@get("jobs/one")
async def job(site: Site, asked: OneAsked) -> JobDetail:
    """Everything about one job."""
    found = await site.monitor.job(asked.id, asked.queue)
    if found is None:
        why = await site.scheduler.jobs.why(asked.id, queue=asked.queue)
        raise Refused(404, why)
    return found


@get("jobs/why")
async def why(site: Site, asked: OneAsked) -> Why:
    """Why a job is where it is, also one that is not there any more."""
    return Why(
        await site.scheduler.jobs.why(asked.id, queue=asked.queue),
        await site.scheduler.jobs.reasons(asked.id, queue=asked.queue),
    )


@get("dead")
async def dead(site: Site, asked: OneQueueAsked) -> DeadGroups:
    """Dead jobs by what they died of; 1,000 of them are looked at."""
    return await site.monitor.dead_groups(asked.queue or None)


@get("schedules")
async def schedules(site: Site, asked: SchedulesAsked) -> SchedulesAnswer:
    """A page of schedules, in no particular order."""
    page = await site.monitor.schedules(
        queue=asked.queue or None, task=asked.task, text=asked.text, limit=asked.limit, cursor=asked.cursor
    )
    return SchedulesAnswer([schedule_answer(view) for view in page.schedules], page.cursor, page.looked)


@get("schedules/one")
async def schedule(site: Site, asked: ScheduleAsked) -> ScheduleDetailAnswer:
    """Everything about one schedule, with what became of its moments."""
    found = await site.monitor.schedule(asked.id, asked.queue, hours=asked.hours, coming=asked.coming)
    if found is None:
        raise no_schedule(asked.queue, asked.id)
    return detail_answer(found)


@get("schedules/ticks")
async def ticks(site: Site, asked: TicksAsked) -> LanesAnswer:
    """What became of the moments of a queue's schedules, page by page."""
    found = await site.monitor.lanes(
        asked.queue, hours=asked.hours, coming=asked.coming, limit=asked.limit, cursor=asked.cursor
    )
    lanes = [LaneAnswer(schedule_answer(lane.schedule), tick_answers(lane.ticks)) for lane in found.lanes]
    return LanesAnswer(lanes, found.cursor, found.since, found.now)


@get("schedules/preview")
async def preview(site: Site, asked: PreviewAsked) -> PreviewAnswer:
    """The next moments of a trigger: give one of cron, every and at."""
    trigger = asked.trigger()
    return PreviewAnswer(trigger.describe(), await site.monitor.preview(trigger, asked.n))


@get("nodes")
async def nodes(site: Site) -> list[NodeView]:
    """Every live node."""
    return await site.monitor.nodes()


@get("ring")
async def ring(site: Site) -> RingAnswer:
    """Which part of each queue's ring each node has."""
    found: dict[str, dict[str, float]] = {}
    for view in await site.monitor.nodes():
        for queue, share in view.share.items():
            found.setdefault(queue, {})[view.node.id] = share
    return RingAnswer(found)


@get("locks")
async def locks(site: Site, asked: LocksAsked) -> LockPage:
    """A page of the locks that are held."""
    return await site.monitor.locks(asked.limit, asked.cursor)


@get("findings")
async def findings(site: Site) -> list[Finding]:
    """What `duly doctor` says."""
    return await site.monitor.findings()


@get("measures")
async def measures(site: Site, asked: MeasuresAsked) -> Measures:
    """What was counted of runs: over time, and of each task."""
    return await site.monitor.measures(asked.hours, queue=asked.queue, task=asked.task)


@get("history")
async def history(site: Site, asked: HistoryAsked) -> list[Happening]:
    """What happened in a queue, oldest first; at most 1,000 entries."""
    since = await site.monitor.now() - asked.minutes * 60
    return await site.monitor.history(asked.queue, since=since)
