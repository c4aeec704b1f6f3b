"""Stands before every handler: who asks, may they, is a change meant by them; and the headers of every answer.

A handler cannot forget any of it: all that is not GET needs the role `write` and, where a browser sends its cookie along
by itself, the token that only a page of ours has.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from duly.dashboard.access import Role, Viewer
from duly.dashboard.answers import is_for_programs, refuse
from duly.dashboard.problems import Refused
from duly.dashboard.sessions import LASTS, Session
from duly.dashboard.site import SESSION, SITE, VIEWER, Site, path_to

LARGEST_BODY = 1 << 20
LARGEST_LOG_IN = 8 << 10
"""Of those who have not logged in."""
BODY_SECONDS = 30
MOST_FIELDS = 2_500
SAFE = {"GET", "HEAD", "OPTIONS"}
PUBLIC = ("/static/", "/health/")
"""What everybody may read: it says nothing of the store."""
STARTED, FRESH = "duly.started", "duly.fresh"
"""In the scope of a request: that it is being answered; the session that is begun with it."""
LOG_IN = "/login"
WITHOUT_SESSION = ("/api/", "/live", "/metrics", *PUBLIC)
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """ASGI middleware around all of a dashboard."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self.app, self.site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
            return
        scope[SITE] = self.site
        request = Request(scope)
        send = _with_headers(send, request)
        try:
            await self._identify(request)
            answer = None if self.is_allowed(request) else self._to_log_in(request)
            if answer is None and scope["method"] not in SAFE:
                receive = await self._check_change(request, receive)
            if answer is None and not _path(request).startswith((*PUBLIC, LOG_IN)):
                await self.site.connect()
            if answer is None:
                await self.app(scope, receive, send)
                return
        except Exception as error:
            if scope.get(STARTED):
                raise
            answer = await refuse(request, error)
        await answer(scope, receive, send)

    # who asks

    async def _identify(self, request: Request) -> None:
        """Notes who asks, and, for a browser without a session, the one that it is to be given."""
        access, scope = self.site.access, request.scope
        address = request.client.host if request.client else ""
        scope[VIEWER] = Viewer("", "", address, "session")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and not (access.open or access.authorize):
            scope[VIEWER] = Viewer(access.role_of_token(token.strip()), "", address, "token")
            return
        session = self.site.sessions.read(request.cookies.get(self.site.cookie, ""))
        if session is None and request.method in SAFE and not _path(request).startswith(WITHOUT_SESSION):
            session = scope[FRESH] = self.site.sessions.begin("")
        role, by = await self._role(request, session)
        csrf = self.site.sessions.token(session) if session else ""
        scope[VIEWER], scope[SESSION] = Viewer(role, csrf, address, by), session

    async def _role(self, request: Request, session: Session | None) -> tuple[Role, Any]:
        access = self.site.access
        if access.open:
            return "write", "open"
        if access.authorize is not None:
            said = access.authorize(request)
            role = await said if inspect.isawaitable(said) else said
            return (role if role in ("read", "write") else ""), "outer"
        return (session.role if session else ""), "session"

    # may they

    def is_allowed(self, request: Request) -> bool:
        """Whether it goes on. Raises Refused."""
        self._check_host(request)
        viewer: Viewer = request.scope[VIEWER]
        path = _path(request)
        if viewer.role or path == LOG_IN or path.startswith(PUBLIC):
            return True
        if viewer.by == "outer":
            raise Refused(403, "the application around this dashboard does not let you in")
        if viewer.by == "token" or is_for_programs(request) or not self.site.access.has_password:
            wrong = "this token is not known here" if viewer.by == "token" else "say who you are"
            raise Refused(401, f"{wrong}: log in, or send the header Authorization: Bearer TOKEN")
        return False

    def _check_host(self, request: Request) -> None:
        """A page of another site may have its own name point to the loopback."""
        hosts = self.site.access.hosts
        given = request.headers.get("host", "")
        if hosts is not None and _name(given) not in hosts:
            raise Refused(
                400, f"this dashboard does not answer to the host {given[:100]!r}: see duly dashboard --allow-host"
            )

    def _to_log_in(self, request: Request) -> Response:
        """Where a browser without a session goes; a GET comes back afterwards."""
        wanted = _path(request) + (f"?{request.url.query}" if request.url.query else "")
        back = f"?next={quote(wanted, safe='/')}" if request.scope["method"] in SAFE and wanted != "/" else ""
        return RedirectResponse(path_to(request, LOG_IN) + back, 303)

    # is a change meant

    async def _check_change(self, request: Request, receive: Receive) -> Receive:
        """Reads the body, which is small; a `receive` that gives it again. Raises Refused."""
        viewer: Viewer = request.scope[VIEWER]
        if not viewer.may_write and _path(request) not in (LOG_IN, "/logout"):
            raise Refused(403, "you may look, not change: log in with the password or token of those who may")
        _check_origin(request)
        body = await _read_body(request, receive, LARGEST_BODY if viewer.role else LARGEST_LOG_IN)
        if viewer.by != "token":
            self._check_token(request, body)
        return _again(body, receive)

    def _check_token(self, request: Request, body: bytes) -> None:
        session: Session | None = request.scope.get(SESSION)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if session is None and self.site.access.open and kind == "application/json":
            return  # a program; a page of another site cannot send this type without being allowed to first
        given = request.headers.get("x-csrf-token", "")
        if not given and kind == "application/x-www-form-urlencoded":
            given = _field(body, "csrf")
        if session is None or not self.site.sessions.is_token(session, given):
            raise Refused(403, "this form is out of date: load the page anew, then do it again")


def cookie_line(request: Request, site: Site, session: Session | None) -> str:
    """The header that gives the browser a session, or takes it away."""
    value, age = (site.sessions.write(session), LASTS) if session else ("", 0)
    path = str(request.scope.get("root_path", "")).rstrip("/") or "/"
    secure = "; Secure" if request.url.scheme == "https" else ""
    return f"{site.cookie}={value}; Path={quote(path)}; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"


def _path(request: Request) -> str:
    """The path inside this dashboard."""
    path, root = str(request.scope["path"]), str(request.scope.get("root_path", ""))
    inside = path[len(root) :] if root and path.startswith(root) else path
    return inside or "/"


def _name(host: str) -> str:
    """A Host header without its port."""
    return host.lower().rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host.lower()


def _check_origin(request: Request) -> None:
    """What comes from a page of another site is refused, whatever it carries."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if site not in (None, "same-origin", "none"):
        raise Refused(403, "this request came from a page of another site")
    # what the browser says of the site counts: a proxy may have changed the host
    if (
        site is None
        and origin is not None
        and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower()
    ):
        raise Refused(403, "this request came from a page of another site")


async def _read_body(request: Request, receive: Receive, most: int) -> bytes:
    """Raises Refused for one that is too large, or takes too long."""
    declared = request.headers.get("content-length", "0")
    size, chunks = int(declared) if declared.isdecimal() else 0, []
    too_large = Refused(413, f"a request has at most {most:,} bytes: send fewer ids at a time")
    if size > most:
        raise too_large
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > most:
                    raise too_large
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        raise Refused(408, f"the request did not arrive within {BODY_SECONDS} s") from None


def _again(body: bytes, receive: Receive) -> Receive:
    read = False

    async def again() -> Message:
        nonlocal read
        if read:
            return await receive()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _field(body: bytes, name: str) -> str:
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=MOST_FIELDS)
    except ValueError:
        raise Refused(413, f"a form has at most {MOST_FIELDS:,} fields: choose fewer at a time") from None
    return fields.get(name, [""])[0]


def _with_headers(send: Send, request: Request) -> Send:
    """Answers carry the headers, and the session that was begun with this request."""
    is_static = _path(request).startswith("/static/")

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            request.scope[STARTED] = True
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "public, max-age=3600" if is_static else "no-store")
            site, session = request.scope[SITE], request.scope.get(FRESH)
            if session is not None and not any(
                line.startswith(f"{site.cookie}=") for line in headers.getlist("set-cookie")
            ):
                headers.append("Set-Cookie", cookie_line(request, site, session))
        await send(message)

    return with_headers
