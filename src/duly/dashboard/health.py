"""Whether the dashboard is alive, whether it can do its work, and the cluster's measures for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from duly.dashboard.problems import Refused
from duly.dashboard.site import site_of
from duly.errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    from starlette.requests import Request


async def live(_request: Request) -> Response:
    """The process answers."""
    return PlainTextResponse("ok\n")


async def ready(request: Request) -> Response:
    """200 if the store answers, else 503; without the reason, which may name hosts."""
    site = site_of(request)
    try:
        await site.connect()
        await site.monitor.now()
    except (StoreError, Refused):
        return PlainTextResponse("the store does not answer\n", 503)
    return PlainTextResponse("ok\n")


async def metrics(request: Request) -> Response:
    """The whole cluster's numbers."""
    try:
        from duly.contrib.prometheus import CONTENT_TYPE, cluster_metrics
    except ConfigurationError as error:
        raise Refused(503, str(error)) from error
    return Response(await cluster_metrics(site_of(request).scheduler), media_type=CONTENT_TYPE)


routes = [Route("/health/live", live), Route("/health/ready", ready), Route("/metrics", metrics)]
