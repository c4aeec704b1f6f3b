"""Logging in with a password, and out."""

from __future__ import annotations

import logging
import re

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from duly.dashboard import pages
from duly.dashboard.guard import LOG_IN, cookie_line
from duly.dashboard.site import path_to, session_of, site_of, viewer_of

logger = logging.getLogger("duly.dashboard")
_PLACE = re.compile(r"/(?![/\\])[^\x00-\x20\\\x7f-\xa0]*")


def safe_next(wanted: str) -> str:
    """A place of this dashboard; "/" for what could lead elsewhere."""
    return wanted if _PLACE.fullmatch(wanted) else "/"


async def show(request: Request) -> Response:
    """The form."""
    wanted = safe_next(request.query_params.get("next", "/"))
    if viewer_of(request).role:
        return RedirectResponse(path_to(request, wanted), 303)
    return pages.login_page(request, wanted)


async def log_in(request: Request) -> Response:
    """Takes the password; a few tries a minute."""
    site, address = site_of(request), viewer_of(request).address
    form = await request.form()
    wanted = safe_next(str(form.get("next", "/")))
    if wait := site.throttle.wait(address):
        logger.warning("log-in from %s: too many tries", address)
        response = pages.login_page(request, wanted, f"too many tries: wait {wait} s, then try again", 429)
        response.headers["Retry-After"] = str(wait)
        return response
    role = site.access.role_of_password(str(form.get("password", "")))
    if not role:
        site.throttle.failed(address)
        logger.warning("log-in from %s: wrong password", address)
        return pages.login_page(request, wanted, "this password is not known here", 401)
    site.throttle.succeeded(address)
    logger.info("log-in from %s: may %s", address, role)
    response = RedirectResponse(path_to(request, wanted), 303)
    response.headers["Set-Cookie"] = cookie_line(request, site, site.sessions.begin(role))
    return response


async def log_out(request: Request) -> Response:
    """The session is worth nothing any more, in this process."""
    site, session = site_of(request), session_of(request)
    if session is not None:
        site.sessions.end(session)
        logger.info("log-out from %s", viewer_of(request).address)
    response = RedirectResponse(path_to(request, LOG_IN), 303)
    response.headers["Set-Cookie"] = cookie_line(request, site, None)
    return response


routes = [
    Route(LOG_IN, show, methods=["GET"]),
    Route(LOG_IN, log_in, methods=["POST"]),
    Route("/logout", log_out, methods=["POST"]),
]
