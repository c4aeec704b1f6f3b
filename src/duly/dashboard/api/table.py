"""The table of the API's endpoints: each a function, from which the route, the checks and the description are made."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple, get_type_hints

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from duly.dashboard.problems import Refused, require_queue
from duly.dashboard.site import site_of, viewer_of

JSON = "application/json"


class Endpoint(NamedTuple):
    """One of them. takes: the struct of its parameters (GET) or its body (POST); None for nothing. gives: of its answer."""

    method: Literal["GET", "POST"]
    path: str
    summary: str
    takes: type[msgspec.Struct] | None
    gives: Any
    work: Callable[..., Awaitable[Any]]

    async def __call__(self, request: Request) -> Response:
        site = site_of(request)
        given: list[Any] = [site] if self.method == "GET" else [site, viewer_of(request)]
        if self.takes is not None:
            asked = self._read_parameters(request) if self.method == "GET" else self._read_body(await request.body())
            if queue := getattr(asked, "queue", ""):
                await require_queue(site.scheduler, queue)
            given.append(asked)
        found = await self.work(*given)
        return Response(msgspec.json.encode(found, enc_hook=str), media_type=JSON)

    def _read_parameters(self, request: Request) -> msgspec.Struct:
        given = request.query_params
        doubled = [name for name in given if len(given.getlist(name)) > 1]
        if doubled:
            raise Refused(422, f"{doubled[0][:100]!r} is given twice: give it once")
        assert self.takes is not None
        return msgspec.convert(dict(given), type=self.takes, strict=False)

    def _read_body(self, body: bytes) -> msgspec.Struct:
        try:
            found: msgspec.Struct = msgspec.json.decode(body, type=self.takes)
        except UnicodeDecodeError as error:
            raise Refused(400, f"the body is no UTF-8: {error.reason} at byte {error.start}") from None
        return found


ENDPOINTS: list[Endpoint] = []
Work = Callable[..., Awaitable[Any]]


def get(path: str) -> Callable[[Work], Work]:
    """Registers a function that looks: (site[, what was asked]) → the answer. Its docstring is the summary."""
    return _register("GET", path)


def post(path: str) -> Callable[[Work], Work]:
    """Registers a function that changes something: (site, viewer, what was asked) → the answer."""
    return _register("POST", path)


def _register(method: Literal["GET", "POST"], path: str) -> Callable[[Work], Work]:
    def register(work: Work) -> Work:
        hints = get_type_hints(work, include_extras=True)
        summary = " ".join((inspect.getdoc(work) or "").split())
        ENDPOINTS.append(Endpoint(method, f"/api/{path}", summary, hints.get("asked"), hints["return"], work))
        return work

    return register


def routes() -> list[Route]:
    """In the order of registration; a path with the wrong method is answered 405."""
    return [Route(one.path, one.__call__, methods=[one.method], name=f"{one.method} {one.path}") for one in ENDPOINTS]
