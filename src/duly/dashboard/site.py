"""What the handlers of one dashboard share, and how they get at it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, cast

from duly.dashboard.actions import Actions
from duly.dashboard.problems import Refused
from duly.dashboard.sessions import Session, Sessions
from duly.dashboard.throttle import Throttle
from duly.errors import ConfigurationError
from duly.monitor import Monitor

if TYPE_CHECKING:
    from starlette.requests import Request

    from duly.dashboard.access import Access, Viewer
    from duly.dashboard.live import Live
    from duly.scheduler import Scheduler

SITE, VIEWER, SESSION = "duly.site", "duly.viewer", "duly.session"
"""Under which they stand in the scope of a request."""


class Site:
    """One dashboard over one scheduler."""

    def __init__(self, scheduler: Scheduler, access: Access) -> None:
        from duly.dashboard.live import Live

        self.scheduler, self.access = scheduler, access
        self.monitor, self.actions = Monitor(scheduler), Actions(scheduler)
        self.sessions, self.throttle = Sessions(access.key(), scheduler.clock), Throttle(scheduler.clock)
        self.live: Live = Live(self)
        name = f"{scheduler.store.url}\n{scheduler.config.namespace}"
        self.cookie = "duly_" + hashlib.sha256(name.encode()).hexdigest()[:8]
        """Of its own for each store: two dashboards on one host do not end each other's sessions."""
        self._keeper: tuple[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] | None = None
        self._connecting: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None

    async def connect(self) -> None:
        """Connect the scheduler for this event loop, once; `close`, or the end of the loop, gives it back. Raises
        StoreError, and Refused if the scheduler is connected in another loop."""
        loop = asyncio.get_running_loop()
        if self._keeper is not None and self._keeper[0] is loop:
            return
        if self._connecting is None or self._connecting[0] is not loop or self._connecting[1].done():
            self._connecting = loop, loop.create_task(self._connect(loop))
        await asyncio.shield(self._connecting[1])  # who asks meanwhile shares the attempt, and its failure

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> None:
        keeper = _kept(self.scheduler)
        await anext(keeper)
        self._keeper = loop, keeper

    async def close(self) -> None:
        """End the streams and the work in the background, close the scheduler."""
        await self.live.close()
        await self.actions.close()
        if self._connecting is not None and self._connecting[0] is asyncio.get_running_loop():
            self._connecting[1].cancel()
            await asyncio.wait([self._connecting[1]])
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper[1].aclose()


async def _kept(scheduler: Scheduler) -> AsyncGenerator[None, None]:
    """A connection for as long as it stands at its yield. An event loop that ends closes its generators: a mounted
    application hears of no shutdown but this. Raises StoreError, Refused."""
    try:
        await scheduler.connect()
    except ConfigurationError as error:  # it is connected in another loop
        raise Refused(503, f"the dashboard cannot use its scheduler: {error}") from error
    try:
        yield
    finally:
        with contextlib.suppress(Exception):
            await scheduler.close()


def site_of(request: Request) -> Site:
    """The dashboard that the request is for."""
    return cast("Site", request.scope[SITE])


def viewer_of(request: Request) -> Viewer:
    """Who asks."""
    return cast("Viewer", request.scope[VIEWER])


def session_of(request: Request) -> Session | None:
    """The session of the browser, if it has one."""
    return cast("Session | None", request.scope.get(SESSION))


def path_to(request: Request, path: str) -> str:
    """A link to a place of this dashboard, wherever it is mounted. path: begins with a slash."""
    return str(request.scope.get("root_path", "")).rstrip("/") + path
