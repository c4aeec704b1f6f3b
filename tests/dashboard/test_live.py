"""Live numbers: one poller while somebody listens, an end for each stream, nobody waits for a slow one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from duly import Scheduler
from duly.dashboard import Access, dashboard, live
from duly.dashboard.live import MOST_LISTENERS, MOST_WAITING, Live
from duly.dashboard.sessions import Session
from duly.dashboard.site import Site
from duly.errors import StoreUnavailable
from tests.dashboard.asking import access, client, running_app
from tests.schedulers import shared
from tests.waiting import eventually


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(live, "EVERY", 0.01)
    scheduler = Scheduler(shared("memory://"))
    site = Site(scheduler, Access(open=True))
    await site.connect()
    await scheduler.push("t", queue="mail", remote=True)
    yield site
    await site.close()


class Listener:
    """Reads a stream, as fast as it is told to."""

    def __init__(self, live: Live, session: Session | None = None) -> None:
        self.stop = anyio.Event()
        self._stream = live.listen(session, self.stop)

    async def next(self) -> tuple[str, Any]:
        event = await asyncio.wait_for(anext(self._stream), 10)
        return str(event.event), json.loads(str(event.data)) if event.data is not None else None

    async def until(self, name: str) -> Any:
        while True:
            found, data = await self.next()
            if found == name:
                return data

    async def over(self) -> bool:
        async for _ in self._stream:
            pass
        return True

    async def close(self) -> None:
        await self._stream.aclose()  # type: ignore[attr-defined]


async def test_who_listens_is_told_numbers_queues_and_measures(site: Site) -> None:
    listener = Listener(site.live)
    assert (await listener.until("overview"))["pending"] == 1
    assert (await listener.until("queues"))[0]["queue"] == "mail"
    assert len(await listener.until("measures")) == 3
    await site.scheduler.push("t", queue="mail", remote=True)
    while (await listener.until("overview"))["pending"] != 2:
        pass
    await listener.close()


async def test_the_store_is_asked_once_for_all_and_not_at_all_without_a_listener(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, look = 0, site.live.look

    async def counted(*, with_measures: bool) -> dict[str, bytes]:
        nonlocal looks
        looks += 1
        return await look(with_measures=with_measures)

    monkeypatch.setattr(site.live, "look", counted)
    listeners = [Listener(site.live) for _ in range(20)]
    for listener in listeners:
        await listener.next()
    assert site.live.listeners == 20
    await asyncio.gather(*(listener.until("queues") for listener in listeners))
    assert looks <= 3
    for listener in listeners:
        await listener.close()
    assert (site.live.listeners, site.live._poller) == (0, None)


async def test_a_slow_listener_is_dropped_and_the_others_are_not(site: Site) -> None:
    slow, fast = Listener(site.live), Listener(site.live)
    await slow.next()
    await fast.next()
    for _ in range(MOST_WAITING + 2):
        await fast.until("overview")
    assert site.live.listeners == 1
    assert await asyncio.wait_for(slow.over(), 10)
    await fast.close()


async def test_streams_end_with_the_app_the_server_and_the_session(site: Site) -> None:
    session = site.sessions.begin("read")
    with_app, with_server, with_session = Listener(site.live), Listener(site.live), Listener(site.live, session)
    for listener in (with_app, with_server, with_session):
        await listener.until("overview")
    site.sessions.end(session)
    assert await asyncio.wait_for(with_session.over(), 10)
    with_server.stop.set()
    assert await asyncio.wait_for(with_server.over(), 10)
    await site.live.close()
    assert await asyncio.wait_for(with_app.over(), 10)


async def test_a_stream_ends_after_a_while_so_that_who_listens_is_asked_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LASTS", 0)
    assert await asyncio.wait_for(Listener(site.live).over(), 10)


async def test_what_was_wrong_is_not_told_to_those_who_come_later(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    overview = site.monitor.overview

    async def away() -> Any:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(site.monitor, "overview", away)
    first = Listener(site.live)
    await first.until("problem")
    monkeypatch.setattr(site.monitor, "overview", overview)
    await first.until("overview")
    later = Listener(site.live)
    await later.next()  # how soon to come again
    assert (await later.next())[0] != "problem"
    await first.close()
    await later.close()


async def test_a_store_that_is_away_is_told_and_looked_for_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    overview = site.monitor.overview

    async def away() -> Any:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(site.monitor, "overview", away)
    listener = Listener(site.live)
    assert await listener.until("problem") == {"detail": "gone"}
    monkeypatch.setattr(site.monitor, "overview", overview)
    assert (await listener.until("overview"))["pending"] == 1
    await listener.close()


async def test_the_stream_is_for_those_who_may_read_and_not_for_too_many() -> None:
    app = dashboard(Scheduler(shared("memory://")), access=access())
    async with running_app(app), client(app) as stranger:
        assert (await stranger.get("/live")).status_code == 401
        app.state.site.live._queues = {asyncio.Queue() for _ in range(MOST_LISTENERS)}
        header = {"Authorization": "Bearer " + "r" * 20}
        response = await stranger.get("/live", headers=header)
        assert (response.status_code, response.headers["retry-after"]) == (503, "30")


async def end_watcher() -> None:
    """The library's own task, which looks for the server's stop for as long as the loop runs."""
    watchers = [task for task in asyncio.all_tasks() if "_shutdown_watcher" in repr(task.get_coro())]
    for task in watchers:
        task.cancel()
    await asyncio.gather(*watchers, return_exceptions=True)


async def test_over_http_it_is_a_stream_of_events_that_ends_when_the_browser_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "EVERY", 0.01)
    app = dashboard(Scheduler(shared("memory://")), access=Access(open=True))
    sent: list[Any] = []
    left = asyncio.Event()

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await left.wait()
        return {"type": "http.disconnect"}

    scope = {
        "type": "http", "method": "GET", "path": "/live", "raw_path": b"/live", "query_string": b"", "headers": [],
        "scheme": "http", "server": ("x", 80), "client": ("10.0.0.1", 1), "root_path": "", "http_version": "1.1",
        "asgi": {"version": "3.0"},
    }  # fmt: skip
    async with running_app(app):
        stream = asyncio.create_task(app(scope, receive, send))
        await eventually(lambda: any(b"event: overview" in message.get("body", b"") for message in sent))
        left.set()
        await asyncio.wait_for(stream, 10)
        headers = dict(sent[0]["headers"])
        assert headers[b"content-type"].startswith(b"text/event-stream")
        assert headers[b"cache-control"] == b"no-store"
        assert app.state.site.live.listeners == 0
    await end_watcher()
