"""Live numbers as server-sent events: one look at the store a second, while anybody listens, for all who do."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from duly.dashboard.problems import Refused, refusal
from duly.dashboard.site import session_of, site_of

if TYPE_CHECKING:
    from duly.dashboard.sessions import Session
    from duly.dashboard.site import Site

EVERY = 1.0
"""Seconds between two looks."""
MEASURES_EVERY, MEASURED_HOURS = 10, 0.05
"""Looks between two that bring measures, of the last minutes: nodes write theirs down each quarter of a minute."""
REST = 10
"""Where a look takes long (thousands of queues), so many times as long passes until the next."""
MOST_LISTENERS = 200
MOST_WAITING = 10
"""Events that a listener may be behind; one that is slower is dropped, and may come again."""
SEND_SECONDS = 10
PING_SECONDS = 15
STOP_SECONDS = 1
RECONNECT_MS = 3_000
LASTS = 600
PROBLEM = "problem"

Event = tuple[str, bytes]
logger = logging.getLogger("duly.dashboard")


class Live:
    """The listeners of one dashboard, and the poller that tells them."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._queues: set[asyncio.Queue[Event | None]] = set()
        self._poller: asyncio.Task[None] | None = None
        self._last: dict[str, bytes] = {}

    @property
    def listeners(self) -> int:
        """How many there are."""
        return len(self._queues)

    async def close(self) -> None:
        """End every stream."""
        self._drop_all()
        poller, self._poller = self._poller, None
        if poller is not None:
            poller.cancel()
            await asyncio.gather(poller, return_exceptions=True)

    async def listen(self, session: Session | None, stop: anyio.Event) -> AsyncIterator[ServerSentEvent]:
        """Events, the last ones first. Ends with the session, with `stop`, with the app, when it is not read for long, and
        after LASTS seconds: the browser comes again, and is asked again who it is."""
        clock = self._site.scheduler.clock
        until = clock.monotonic() + LASTS
        queue: asyncio.Queue[Event | None] = asyncio.Queue(MOST_WAITING)
        for last in self._last.items() if self._poller is not None else ():
            queue.put_nowait(last)
        self._queues.add(queue)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.get_running_loop().create_task(self._poll())
        stopper = asyncio.get_running_loop().create_task(self._drop_at(stop, queue))
        try:
            yield ServerSentEvent(retry=RECONNECT_MS, comment="numbers of duly, once a second")
            while (event := await queue.get()) is not None:
                if clock.monotonic() >= until or (session is not None and self._site.sessions.is_over(session)):
                    return
                yield ServerSentEvent(event=event[0], data=event[1].decode())
        finally:
            stopper.cancel()
            self._queues.discard(queue)
            if not self._queues and self._poller is not None:
                self._poller.cancel()
                self._poller = None

    async def _poll(self) -> None:
        for turn in itertools.count():
            began = self._site.scheduler.clock.monotonic()
            found = await self.look(with_measures=turn % MEASURES_EVERY == 0)
            self._last = found if PROBLEM in found or PROBLEM in self._last else self._last | found
            for event in found.items():
                self._tell(event)
            took = self._site.scheduler.clock.monotonic() - began
            await asyncio.sleep(max(EVERY, REST * took))

    async def look(self, *, with_measures: bool) -> dict[str, bytes]:
        """What is told, by the name of the event: `overview`, `queues`, and at times `measures` (the last minutes); or
        `problem`, if the store does not answer."""
        try:
            overview = await self._site.monitor.overview()
            measured = await self._site.monitor.measures(MEASURED_HOURS) if with_measures else None
        except Exception as error:
            refused = refusal(error)
            if refused is None:
                logger.exception("live numbers")
            sentence = refused.sentence if refused else "something went wrong here; the log of the dashboard says what"
            return {PROBLEM: msgspec.json.encode({"detail": sentence})}
        numbers: dict[str, Any] = {
            name: getattr(overview, name) for name in overview.__struct_fields__ if name not in ("queues", "url")
        }
        found = {"overview": msgspec.json.encode(numbers), "queues": msgspec.json.encode(overview.queues)}
        return found if measured is None else found | {"measures": msgspec.json.encode(measured.points)}

    def _tell(self, event: Event) -> None:
        for queue in list(self._queues):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                self._drop(queue)

    def _drop(self, queue: asyncio.Queue[Event | None]) -> None:
        """Its stream ends with what it has not read yet left out."""
        self._queues.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)

    async def _drop_at(self, stop: anyio.Event, queue: asyncio.Queue[Event | None]) -> None:
        await stop.wait()
        self._drop(queue)

    def _drop_all(self) -> None:
        for queue in list(self._queues):
            self._drop(queue)


async def live(request: Request) -> Response:
    """The stream."""
    site, session = site_of(request), session_of(request)
    if site.live.listeners >= MOST_LISTENERS:
        raise Refused(
            503, f"{MOST_LISTENERS} browsers are listening: close some, or reload the page instead", retry_after=30
        )
    stop = anyio.Event()
    return EventSourceResponse(
        site.live.listen(session if session and session.role else None, stop), ping=PING_SECONDS, send_timeout=SEND_SECONDS,
        shutdown_event=stop, shutdown_grace_period=STOP_SECONDS,
    )  # fmt: skip
