"""Screens that only list: locks, dead jobs by what they died of, the doctor's findings; the log-in and the errors."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, Response

from duly.dashboard.pages import seam
from duly.dashboard.pages.forms import ask_first, read_form
from duly.dashboard.pages.jobs import wanted_of
from duly.dashboard.pages.queues import told, under_way
from duly.dashboard.pages.rendering import environment, link, page, theme
from duly.dashboard.pages.seam import actions_of, back, check_queue, monitor_of, viewer_of
from duly.dashboard.problems import Refused

LOCKS = 50


async def locks(request: Request) -> Response:
    """The locks that are held."""
    wanted = wanted_of(request)
    found = await monitor_of(request).locks(LOCKS, wanted.cursor)
    return page(request, "locks.html", nav="locks", page=found, wanted=wanted, now=found.now)


async def dead(request: Request) -> Response:
    """What jobs died of."""
    wanted, monitor = wanted_of(request), monitor_of(request)
    queues = await monitor.queues()
    await check_queue(request, wanted.queue)
    found = await monitor.dead_groups(wanted.queue or None)
    return page(
        request, "dead.html", nav="dead", wanted=wanted, queues=queues, found=found, now=await monitor.now(),
        works=under_way(request),
    )  # fmt: skip


async def change_dead(request: Request) -> Response:
    """Retry or delete all that is dead in a queue."""
    form = await read_form(request)
    queue, action, actions = form.text("queue"), form.text("action"), actions_of(request)
    if action == "retry_dead":
        work = await actions.retry_dead(viewer_of(request), queue)
    elif action == "delete_dead":
        if not form.is_confirmed:
            return ask_first(request, form, f"Delete every dead job of queue {queue!r}?", "Delete them")
        work = await actions.delete_dead(viewer_of(request), queue)
    else:
        raise Refused(422, f"action={action!r}: give retry_dead or delete_dead")
    return back(request, form.back, *told(work))


async def doctor(request: Request) -> Response:
    """What `duly doctor` says."""
    findings = await monitor_of(request).findings()
    return page(request, "doctor.html", nav="doctor", findings=findings)


async def doctor_summary(request: Request) -> Response:
    """The part of the overview, which is asked for after it: an examination takes longer than the page."""
    findings = sorted(
        (one for one in await monitor_of(request).findings() if one.level != "ok"), key=lambda one: one.level
    )
    template = environment().get_template("summary.html")
    return HTMLResponse(template.render(findings=findings, doctor=link(request, "doctor")))


def login_page(request: Request, wanted: str, error: str = "", status: int = 200) -> Response:
    """The log-in. wanted: where to go afterwards."""
    return _alone(request, "login.html", status, wanted=wanted, error=error, csrf=seam.csrf_of(request))


def error_page(request: HTTPConnection, status: int, sentence: str) -> Response:
    """An error as a page of its own; where the store does not answer, it tries again by itself."""
    title = {404: "There is no such thing", 403: "This is not allowed", 503: "The store does not answer"}.get(status)
    again = status == HTTPStatus.SERVICE_UNAVAILABLE and request.scope.get("method") in ("GET", "HEAD")
    return _alone(
        request, "error.html", status, code=status, sentence=sentence, again=again,
        title=title or HTTPStatus(status).phrase,
    )  # fmt: skip


def _alone(request: HTTPConnection, template: str, status: int, **context: object) -> Response:
    """A page that needs nothing but itself: nobody may be logged in, and the store may not answer."""

    def href(path: str) -> str:
        return link(request, path)

    html = environment().get_template(template).render(href=href, theme=theme(request), **context)
    return HTMLResponse(html, status)
