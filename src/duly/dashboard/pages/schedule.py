"""One schedule: its ticks as they should have been and as they were, its rule, and what would come by another one."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from duly.core.audit import Tick
from duly.core.trigger import Trigger
from duly.dashboard.pages.drawing import LEFT, SPANS, WIDTH, WORST, timeline
from duly.dashboard.pages.rendering import environment, page
from duly.dashboard.pages.seam import check_queue, monitor_of
from duly.dashboard.pages.triggers import KINDS, as_typed, read_trigger
from duly.dashboard.problems import Refused
from duly.errors import InvalidTrigger
from duly.views.listings import ScheduleDetail

COMING = 8
LISTED = 60
"""Ticks in the table below the drawing."""
DENSE = ((30.0, 1), (300.0, 6), (6 * 3600.0, 24))
"""Seconds between two ticks -> hours that are shown at first; more seldom ones get a week."""


def usual_hours(detail: ScheduleDetail) -> int:
    """So many that there are some ticks to see, and not too many."""
    coming = [tick.moment for tick in detail.ticks if tick.state == "coming"]
    apart = coming[1] - coming[0] if len(coming) > 1 else 0.0
    return next((hours for most, hours in DENSE if 0 < apart < most), 168)


async def show(request: Request) -> Response:
    """The detail page."""
    given = request.query_params
    queue, id = given.get("queue", ""), given.get("id", "")
    if not queue or not id:
        raise Refused(404, "say which schedule: its queue and id")
    hours = _hours(given.get("hours", ""))
    await check_queue(request, queue)
    detail = await monitor_of(request).schedule(id, queue, hours=hours or max(SPANS), coming=COMING)
    if detail is None:
        raise Refused(404, f"queue {queue!r} has no schedule {id!r}")
    hours = hours or usual_hours(detail)
    trigger = detail.schedule.trigger
    begin = detail.now - hours * 3600
    ticks = [tick for tick in detail.ticks if tick.moment >= begin]
    kind, rule, zone = as_typed(trigger)
    trial = await _trial(request) if "preview" in given else None
    return page(
        request, "schedule.html", nav="schedules", detail=detail, one=detail.schedule, now=detail.now, hours=hours,
        spans=SPANS, drawing=timeline(ticks, max(begin, detail.since), detail.now, hours, trigger.zone), left=LEFT,
        width=WIDTH, counts=Counter(tick.state for tick in ticks), states=WORST, listed=_listed(detail, begin),
        zone_name=str(trigger.zone), kinds=KINDS, kind=given.get("kind", kind), rule=given.get("rule", rule),
        zone=given.get("zone", zone), trial=trial, local=local,
    )  # fmt: skip


def _hours(text: str) -> int:
    if not text:
        return 0
    if text not in {str(hours) for hours in SPANS}:
        raise Refused(422, f"hours={text[:20]!r}: give one of {', '.join(map(str, SPANS))}")
    return int(text)


def _listed(detail: ScheduleDetail, begin: float) -> list[Tick]:
    """The latest, what comes next on top."""
    return list(reversed([tick for tick in detail.ticks if tick.moment >= begin]))[:LISTED]


def local(at: float, trigger: Trigger) -> str:
    """In the schedule's zone."""
    try:
        return datetime.fromtimestamp(at, UTC).astimezone(trigger.zone).strftime("%a %Y-%m-%d %H:%M:%S %Z")
    except (OverflowError, ValueError, OSError):
        return f"epoch {at:.0f}"


async def _trial(request: Request) -> dict[str, object]:
    """The next moments of the rule in the form, or what is wrong with it."""
    given, monitor = request.query_params, monitor_of(request)
    now = await monitor.now()
    try:
        trigger = read_trigger(given.get("kind", ""), given.get("rule", ""), given.get("zone", ""))
    except (InvalidTrigger, Refused) as error:
        return {"error": str(error), "now": now}
    return {
        "words": trigger.describe(),
        "trigger": trigger,
        "moments": await monitor.preview(trigger, COMING),
        "now": now,
    }


async def preview(request: Request) -> Response:
    """The part of the page below the form, for the script."""
    trial = await _trial(request)
    return HTMLResponse(environment().get_template("preview.html").render(trial=trial, local=local))
