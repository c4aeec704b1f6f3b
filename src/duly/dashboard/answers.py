"""An error as the asker understands it: problem+json for programs, a page for people."""

from __future__ import annotations

import logging

from starlette.requests import Request
from starlette.responses import Response

from duly.dashboard.problems import Refused, headers_of, problem, refusal

FOR_PROGRAMS = ("/api", "/live", "/metrics", "/health")
logger = logging.getLogger("duly.dashboard")


def is_for_programs(request: Request) -> bool:
    """Whether the path is one that programs ask for."""
    path, root = str(request.scope["path"]), str(request.scope.get("root_path", ""))
    inside = path[len(root) :] if root and path.startswith(root) else path
    return any(inside == one or inside.startswith(f"{one}/") for one in FOR_PROGRAMS)


async def refuse(request: Request, error: Exception) -> Response:
    """The answer to a request that met this error; one that should not have come is logged, and told without its text."""
    refused = refusal(error)
    if refused is None:
        logger.error("%s %s: %s", request.scope.get("method"), request.scope.get("path"), error, exc_info=error)
        refused = Refused(500, "something went wrong here; the log of the dashboard says what")
    if is_for_programs(request):
        return problem(refused)
    from duly.dashboard import pages

    response = pages.error_page(request, refused.status, refused.sentence)
    for name, value in headers_of(refused).items():
        response.headers[name] = value
    return response
