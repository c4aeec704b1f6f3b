"""The first screen: the whole cluster in numbers, what ran lately, what failed."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from duly.dashboard.pages.rendering import page
from duly.dashboard.pages.seam import monitor_of
from duly.dashboard.problems import Refused
from duly.views.measures import Measures, TaskMeasures

HOURS = (1, 6, 12)
MOST_TASKS = 12
MOST_QUEUES = 100


async def show(request: Request) -> Response:
    """Numbers now, and over the last hours."""
    given = request.query_params.get("hours", "1")
    if given not in {str(hours) for hours in HOURS}:
        raise Refused(422, f"hours={given[:20]!r}: give one of {', '.join(map(str, HOURS))}")
    monitor = monitor_of(request)
    overview, measures = await monitor.overview(), await monitor.measures(int(given))
    queues = sorted(overview.queues, key=lambda one: (-(one.pending + one.leased + one.dead), one.queue))
    return page(
        request, "overview.html", nav="overview", overview=overview, now=overview.now, measures=measures,
        hours=int(given), spans=HOURS, failures=failures(measures), tasks=measures.tasks[:MOST_TASKS],
        queues=queues[:MOST_QUEUES], most=max([1, *(one.pending + one.leased + one.dead for one in queues)]),
    )  # fmt: skip


def failures(measures: Measures) -> list[TaskMeasures]:
    """The tasks that failed, died or lost their leases, the worst first."""
    found = [one for one in measures.tasks if one.sum.failed or one.sum.dead or one.sum.taken]
    return sorted(found, key=lambda one: (-one.sum.dead, -one.sum.failed, one.queue, one.task))[:MOST_TASKS]
