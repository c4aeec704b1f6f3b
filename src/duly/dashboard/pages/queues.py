"""The queues, and their switches."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from duly.dashboard.actions import Work
from duly.dashboard.pages.forms import ask_first, read_form
from duly.dashboard.pages.rendering import page
from duly.dashboard.pages.seam import actions_of, back, monitor_of, viewer_of
from duly.dashboard.problems import Refused
from duly.views.words import counted

DID = {"clear": "removed", "delete dead": "deleted", "retry dead": "retried"}


def under_way(request: Request) -> list[Work]:
    """Work on whole queues that goes on in the background."""
    return [work for work in actions_of(request).works.values() if work.state == "running"]


def told(work: Work) -> tuple[str, str]:
    """(what became of work on a whole queue, as far as it is; good, warn or bad)."""
    done = f"{DID[work.what]} {counted(work.done, 'job')} of queue {work.queue!r}"
    if work.state == "failed":
        return f"{done}, then: {work.error}", "bad"
    if work.state == "running":
        return f"{done} so far, of {work.total:,}; it goes on in the background", "warn"
    return done, "good"


async def show(request: Request) -> Response:
    """Every queue."""
    queues = await monitor_of(request).queues()
    return page(request, "queues.html", nav="queues", queues=queues, works=under_way(request))


async def change(request: Request) -> Response:
    """Pause, resume, limit or clear one."""
    form = await read_form(request)
    queue, action, actions = form.text("queue"), form.text("action"), actions_of(request)
    who = viewer_of(request)
    if action == "pause":
        await actions.pause_queue(who, queue)
        said = f"queue {queue!r} is paused: no node takes its jobs until it is resumed"
    elif action == "resume":
        await actions.resume_queue(who, queue)
        said = f"queue {queue!r} goes on"
    elif action == "limit":
        limit = form.whole("limit")
        await actions.limit_queue(who, queue, limit)
        said = f"queue {queue!r} runs " + (
            "without a limit" if limit is None else f"at most {counted(limit, 'job')} at once"
        )
    elif action == "clear":
        if not form.is_confirmed:
            return ask_first(
                request, form, f"Remove everything that waits or is dead in queue {queue!r}?", "Clear the queue"
            )
        return back(request, form.back, *told(await actions.clear_queue(who, queue)))
    else:
        raise Refused(422, f"action={action!r}: give pause, resume, limit or clear")
    return back(request, form.back, said)
