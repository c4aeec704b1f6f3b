"""The application of the dashboard: its routes, in the order in which they are asked, behind the guard."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from duly.dashboard import api, health, login, pages
from duly.dashboard.answers import refuse
from duly.dashboard.guard import Guard
from duly.dashboard.live import live
from duly.dashboard.site import Site
from duly.errors import StoreError

if TYPE_CHECKING:
    from duly.dashboard.access import Access
    from duly.scheduler import Scheduler

STATIC = Path(__file__).parent / "static"
logger = logging.getLogger("duly.dashboard")


def application(scheduler: Scheduler, access: Access) -> Starlette:
    """See `duly.dashboard.dashboard`."""
    site = Site(scheduler, access)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        try:
            await site.connect()
        except StoreError as error:  # pages say so, too, and each request tries again
            logger.warning("%s", error)
        try:
            yield
        finally:
            await site.close()

    app = Starlette(
        routes=[
            *api.routes,
            *health.routes,
            *login.routes,
            Route("/live", live),
            Mount("/static", StaticFiles(directory=STATIC, check_dir=False)),
            *pages.routes,
        ],
        middleware=[Middleware(Guard, site=site)],
        exception_handlers={HTTPException: refuse},  # all others are the guard's
        lifespan=lifespan,
    )
    app.state.site = site
    return app
