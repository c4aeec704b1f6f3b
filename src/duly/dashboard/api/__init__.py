"""The HTTP API: JSON under /api, described by /api/openapi.json."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from duly.dashboard.api import changes, looks
from duly.dashboard.api.openapi import description
from duly.dashboard.api.table import ENDPOINTS, JSON
from duly.dashboard.api.table import routes as endpoint_routes
from duly.dashboard.site import path_to

__all__ = ["ENDPOINTS", "changes", "looks", "routes"]


async def openapi(request: Request) -> Response:
    """The description."""
    document = description(ENDPOINTS, path_to(request, ""))
    return Response(msgspec.json.encode(document), media_type=JSON)


routes: list[BaseRoute] = [*endpoint_routes(), Route("/api/openapi.json", openapi)]
