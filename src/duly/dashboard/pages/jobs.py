"""Jobs by state, found by queue, task, id or text; changed one by one or many at once."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from duly.dashboard.pages.forms import Form, ask_first, read_form
from duly.dashboard.pages.rendering import link, page
from duly.dashboard.pages.seam import SEE_OTHER, actions_of, back, check_queue, monitor_of, viewer_of
from duly.dashboard.problems import Refused
from duly.monitor import STATES, State
from duly.views.listings import Overview
from duly.views.words import counted

PAGE = 50
ASKS = {"cancel": "Cancel", "delete": "Delete"}


class Wanted(msgspec.Struct, frozen=True):
    """What the address asks for."""

    queue: str = ""
    task: str = ""
    text: str = ""
    id: str = ""
    cursor: str = ""


def wanted_of(request: Request) -> Wanted:
    """Spaces around a name are not meant."""
    given = request.query_params
    found = {name: given.get(name, "") for name in Wanted.__struct_fields__}
    return Wanted(**{name: text if name == "cursor" else text.strip() for name, text in found.items()})


async def show(request: Request) -> Response:
    """A page of one state; the job itself, where its exact id was given."""
    wanted, monitor = wanted_of(request), monitor_of(request)
    await check_queue(request, wanted.queue)
    if wanted.id:
        found = await monitor.find_job(wanted.id, wanted.queue or None)
        if len(found) == 1:
            return RedirectResponse(link(request, "job", queue=found[0].queue, id=found[0].id), SEE_OTHER)
        return page(request, "found.html", nav="jobs", wanted=wanted, jobs=found, now=await monitor.now())
    state = _state(request.query_params.get("state", ""))
    overview = await monitor.overview()
    jobs = await monitor.jobs(
        state, queue=wanted.queue or None, task=wanted.task, text=wanted.text, limit=PAGE, cursor=wanted.cursor
    )
    return page(
        request, "jobs.html", nav="jobs", state=state, wanted=wanted, overview=overview, page=jobs, now=overview.now,
        total=_total(overview, state, wanted.queue),
    )  # fmt: skip


def _state(given: str) -> State:
    state = {"running": "leased"}.get(given, given) or "pending"
    if state not in STATES:
        raise Refused(422, f"state={given!r}: give one of {', '.join(STATES)}")
    return state


def _total(overview: Overview, state: State, queue: str) -> int:
    return sum(getattr(one, state) for one in overview.queues if queue in ("", one.queue))


async def change(request: Request) -> Response:
    """Retry, cancel, run now or delete the chosen ones."""
    form = await read_form(request)
    action = form.text("action")
    chosen = form.jobs()
    if action in ASKS and not form.is_confirmed:
        count = counted(sum(len(ids) for _, ids in chosen), "job")
        return ask_first(request, form, f"{ASKS[action]} {count}?", f"{ASKS[action]} {count}")
    said, kind = await _do(request, action, form)
    return back(request, form.back, said, kind)


async def _do(request: Request, action: str, form: Form) -> tuple[str, str]:
    actions, who = actions_of(request), viewer_of(request)
    verbs = {
        "retry": (actions.retry_jobs, "to run again"),
        "cancel": (actions.cancel_jobs, "cancelled, or asked to stop"),
        "run": (actions.run_jobs_now, "due now"),
        "delete": (actions.delete_jobs, "deleted"),
    }
    if action not in verbs:
        raise Refused(422, f"action={action!r}: give one of {', '.join(verbs)}")
    verb, words = verbs[action]
    asked = done = 0
    for queue, ids in form.jobs():
        done += (await verb(who, queue, ids)).changed
        asked += len(ids)
    if done == asked:
        return f"{counted(done, 'job')}: {words}", "good"
    rest = counted(asked - done, "job")
    return f"{counted(done, 'job')}: {words}; {rest} not: no longer in that state", "warn" if done else "bad"
