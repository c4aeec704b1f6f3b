"""Schedules: when each comes next, what it did last; pausing them and running them once."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from duly.dashboard.pages.forms import Form, ask_first, read_form
from duly.dashboard.pages.jobs import PAGE, wanted_of
from duly.dashboard.pages.rendering import link, page
from duly.dashboard.pages.seam import actions_of, back, check_queue, monitor_of, scheduler_of, viewer_of
from duly.dashboard.pages.triggers import read_moment, read_trigger
from duly.dashboard.problems import Refused
from duly.views.words import counted


async def show(request: Request) -> Response:
    """A page of them."""
    wanted, monitor = wanted_of(request), monitor_of(request)
    await check_queue(request, wanted.queue)
    overview = await monitor.overview()
    found = await monitor.schedules(
        queue=wanted.queue or None, task=wanted.task, text=wanted.text, limit=PAGE, cursor=wanted.cursor
    )
    return page(
        request, "schedules.html", nav="schedules", wanted=wanted, overview=overview, page=found, now=overview.now,
    )  # fmt: skip


async def change(request: Request) -> Response:
    """Pause, resume, trigger, backfill, edit or remove one."""
    form = await read_form(request)
    queue, id, action = form.text("queue"), form.text("id"), form.text("action")
    if action == "remove" and not form.is_confirmed:
        return ask_first(request, form, f"Remove schedule {id!r}, with its job that has not started?", "Remove it")
    said = await _do(request, form, action, queue, id)
    to = link(request, "schedules") if action == "remove" else form.back
    return back(request, to, said)


async def _do(request: Request, form: Form, action: str, queue: str, id: str) -> str:
    actions, viewer = actions_of(request), viewer_of(request)
    if action == "pause":
        await actions.pause_schedule(viewer, queue, id, form.text("note", "").strip())
        return f"schedule {id!r} is paused"
    if action == "resume":
        await actions.resume_schedule(viewer, queue, id)
        return f"schedule {id!r} goes on from now"
    if action == "trigger":
        job = await actions.trigger_schedule(viewer, queue, id)
        return f"schedule {id!r} runs once now, beside its ticks: job {job}"
    if action == "remove":
        await actions.remove_schedule(viewer, queue, id)
        return f"schedule {id!r} is gone"
    if action == "backfill":
        start, end = (read_moment(name, form.text(name), form.text("zone", "UTC")) for name in ("start", "end"))
        count = await actions.backfill(viewer, queue, id, start, end)
        return f"{counted(count, 'run')} of schedule {id!r} pushed, one for each moment from {start} to {end}"
    if action == "edit":
        old = await scheduler_of(request).schedules.get(id, queue=queue)
        trigger = read_trigger(
            form.text("kind"), form.text("rule"), form.text("zone", ""), old.trigger if old else None
        )
        revision = form.whole("revision") or 0
        await actions.edit_schedule(viewer, queue, id, trigger, revision)
        return f"schedule {id!r} is now: {trigger.describe()}"
    raise Refused(422, f"action={action!r}: give pause, resume, trigger, backfill, edit or remove")
