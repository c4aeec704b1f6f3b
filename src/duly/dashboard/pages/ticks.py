"""The schedules of a queue beside each other: what each did, and what comes."""

from __future__ import annotations

from datetime import UTC

from starlette.requests import Request
from starlette.responses import Response

from duly.config import DEFAULT_QUEUE
from duly.dashboard.pages.drawing import LEFT, WIDTH, WORST, lane, lane_lines
from duly.dashboard.pages.rendering import page
from duly.dashboard.pages.seam import check_queue, monitor_of
from duly.dashboard.problems import Refused

HOURS = {"0.25": "15 m", "1": "1 h", "6": "6 h", "24": "24 h"}
PAGE = 30
AHEAD = 0.12
"""The part of the drawing that is yet to come."""
COMING = 200


async def show(request: Request) -> Response:
    """Lanes, one for each schedule."""
    given, monitor = request.query_params, monitor_of(request)
    names = sorted(await monitor.scheduler.queues.list())
    queue = given.get("queue", "") or (DEFAULT_QUEUE if DEFAULT_QUEUE in names or not names else names[0])
    hours = given.get("hours", "1")
    if hours not in HOURS:
        raise Refused(422, f"hours={hours[:20]!r}: give one of {', '.join(HOURS)}")
    if names:
        await check_queue(request, queue)
    found = await monitor.lanes(
        queue, hours=float(hours), coming=COMING, limit=PAGE, cursor=given.get("cursor", "")
    )  # fmt: skip
    span = float(hours) * 3600 / (1 - AHEAD)
    begin = found.now - float(hours) * 3600
    lanes = [(one.schedule, lane(one.ticks, begin, span, UTC)) for one in found.lanes]
    return page(
        request, "ticks.html", nav="ticks", queue=queue, queues=names, hours=hours, spans=HOURS, lanes=lanes, page=found,
        cursor=given.get("cursor", ""), now=found.now, lines=lane_lines(begin, span, UTC), width=WIDTH, left=LEFT,
        present=round(LEFT + (1 - AHEAD) * (WIDTH - LEFT - 8), 1), states=WORST,
    )  # fmt: skip
