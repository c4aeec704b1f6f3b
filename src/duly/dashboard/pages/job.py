"""One job: where it is and why, its life, what it was given, what it left."""

from __future__ import annotations

from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from duly.dashboard.pages.rendering import page
from duly.dashboard.pages.seam import check_queue, monitor_of
from duly.dashboard.problems import Refused
from duly.views.listings import JobDetail
from duly.views.words import counted

VERBS = {"enqueue": "pushed", "claim": "taken", "settle": "its run was settled", "fire": "made by its schedule"}


class Event(NamedTuple):
    """One point in the life of a job. kind: good, warn, bad or ahead, or "" for none of them."""

    at: float
    what: str
    more: str = ""
    kind: str = ""
    node: str = ""


def life(detail: JobDetail) -> list[Event]:
    """What is known of it, oldest first; what is to come stands last."""
    job, found = detail.job, []
    if job.enqueued_at:
        found.append(Event(job.enqueued_at, "pushed"))
    for one in detail.happenings:
        if one.verb in ("enqueue", "fire") and one.at - job.enqueued_at < 1:
            continue
        node = one.who if one.verb in ("claim", "settle", "fire") else ""
        found.append(
            Event(
                one.at,
                VERBS.get(one.verb, one.verb),
                f"with {counted(one.count - 1, 'other')}" if one.count > 1 else "",
                "",
                node,
            )
        )
    if job.state == "pending":
        found.append(Event(job.at, "due", _tried(detail), "warn" if job.attempts else "ahead"))
    elif job.state == "leased":
        found.append(Event(job.at, "its lease ends", "it is renewed while it runs", "ahead", job.node))
    elif job.state == "dead":
        found.append(Event(job.at, "died", job.reason or job.error, "bad"))
    elif job.state == "ended":
        found.append(Event(job.at, "its id is forgotten", "it has ended, and is remembered until then", "ahead"))
    return sorted(found, key=lambda event: event.at)


def _tried(detail: JobDetail) -> str:
    job = detail.job
    if not job.attempts:
        return ""
    return f"again, after failure {job.attempts}: {job.reason or job.error}"


async def show(request: Request) -> Response:
    """The detail page."""
    queue, id = request.query_params.get("queue", ""), request.query_params.get("id", "")
    if not queue or not id:
        raise Refused(404, "say which job: its queue and id")
    await check_queue(request, queue)
    detail = await monitor_of(request).job(id, queue)
    if detail is None:
        raise Refused(
            404, f"queue {queue!r} knows no job {id!r}: it ended (only ids given by users are remembered), or never was"
        )
    return page(
        request, "job.html", nav="jobs", detail=detail, job=detail.job, now=detail.now, life=life(detail),
        schedule=next((reason.schedule for reason in detail.reasons if reason.schedule), ""),
    )  # fmt: skip
