"""What the pages take from the application around them, and what they say after a form was sent."""

from __future__ import annotations

import base64
import binascii
from typing import cast

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from duly.dashboard.access import Viewer
from duly.dashboard.actions import Actions
from duly.dashboard.problems import require_queue
from duly.dashboard.site import SITE, VIEWER, Site, path_to, site_of
from duly.monitor import Monitor
from duly.scheduler import Scheduler

LONGEST_NOTE = 600
KINDS = {"g": "good", "w": "warn", "b": "bad"}
SEE_OTHER = 303


def scheduler_of(request: Request) -> Scheduler:
    """The scheduler that is looked at."""
    return site_of(request).scheduler


def monitor_of(request: Request) -> Monitor:
    """The read model."""
    return site_of(request).monitor


def actions_of(request: Request) -> Actions:
    """What can be changed."""
    return site_of(request).actions


def viewer_of(request: Request) -> Viewer:
    """Who asks; nobody, where an error came before that was known."""
    found = request.scope.get(VIEWER)
    return cast(Viewer, found) if found is not None else Viewer("", "", "", "open")


def csrf_of(request: Request) -> str:
    """What a form carries to show that it is ours."""
    return viewer_of(request).csrf


def may_write(request: Request) -> bool:
    """Whether there is anything to press."""
    return viewer_of(request).may_write


def is_guarded(request: Request) -> bool:
    """Whether there is a log-in to leave."""
    return viewer_of(request).by == "session"


def site_known(request: Request) -> Site | None:
    """The dashboard, where an error may have come before it was known."""
    return cast("Site | None", request.scope.get(SITE))


async def check_queue(request: Request, queue: str) -> None:
    """See `require_queue`; an empty name stands for all queues."""
    if queue:
        await require_queue(scheduler_of(request), queue)


def _cookie(request: Request) -> str:
    return f"{site_of(request).cookie}_note"


def take_note(request: Request) -> tuple[str, str] | None:
    """(good, warn or bad; a sentence) of what the last form has done."""
    packed = request.cookies.get(_cookie(request), "")
    try:
        text = base64.urlsafe_b64decode(packed).decode()
    except (binascii.Error, ValueError):
        return None
    return (KINDS[text[0]], text[1:]) if text and text[0] in KINDS else None


def forget_note(request: Request, response: Response) -> None:
    """It was shown."""
    response.delete_cookie(_cookie(request), path=path_to(request, "/"))


def back(request: Request, to: str, note: str, kind: str = "good") -> Response:
    """To the screen where the form stood, which says what was done. to: a path of this dashboard, as `link` makes it."""
    home = path_to(request, "/")
    response = RedirectResponse(to if is_ours(to, home) else home, SEE_OTHER)
    text = (kind[0] + note[:LONGEST_NOTE]).encode("utf-8", "replace")
    response.set_cookie(
        _cookie(request),
        base64.urlsafe_b64encode(text).decode(),
        max_age=60,
        path=home,
        httponly=True,
        samesite="strict",
    )
    return response


def is_ours(to: str, home: str) -> bool:
    """Whether it is a path below the dashboard's: not another host (`//host`, `/\\host`), nor an address of its own."""
    return to.startswith(home) and not to.startswith(("//", "/\\")) and not any(c < " " or c == "\\" for c in to)
