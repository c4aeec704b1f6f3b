"""A dashboard in the test's own event loop, and a client that asks it as a browser or a program would."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from starlette.applications import Starlette

from duly import Scheduler
from duly.dashboard import Access, dashboard

PASSWORD, READ_PASSWORD = "long enough", "also long enough"
TOKEN, READ_TOKEN = "t" * 20, "r" * 20
WRITES, READS = {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": f"Bearer {READ_TOKEN}"}
HOST = "http://duly.test"


def access(**more: Any) -> Access:
    """Every way in by a secret."""
    return Access(password=PASSWORD, read_password=READ_PASSWORD, token=TOKEN, read_token=READ_TOKEN, **more)


def client(app: Any, address: str = "10.0.0.1", base_url: str = HOST, **more: Any) -> httpx2.AsyncClient:
    """Somebody who asks from an address; follows nothing."""
    transport = httpx2.ASGITransport(app=app, client=(address, 1234))
    return httpx2.AsyncClient(transport=transport, base_url=base_url, **more)


@asynccontextmanager
async def running_app(app: Starlette) -> AsyncIterator[Starlette]:
    """Started and stopped as a server does it."""
    async with app.router.lifespan_context(app):
        yield app


@asynccontextmanager
async def asking(scheduler: Scheduler, given: Access | None = None, **more: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a dashboard that runs; with the token that may write, unless headers are given."""
    app = dashboard(scheduler, access=given or access())
    async with running_app(app), client(app, **({"headers": WRITES} | more)) as asks:
        yield asks


async def form_token(browser: httpx2.AsyncClient) -> str:
    """The token that the forms of this browser's pages carry; loads the log-in page, or, logged in, the first one."""
    page = await browser.get("/login")
    if page.status_code == 303:
        page = await browser.get("/")
    found = re.search(r'name="csrf"[^>]*value="([^"]+)"', page.text) or re.search(
        r'csrf[^>]*content="([^"]+)"', page.text
    )
    assert found is not None, page.text[:500]
    return found[1]


async def log_in(browser: httpx2.AsyncClient, password: str = PASSWORD, next: str = "/") -> httpx2.Response:
    """What the log-in form answers."""
    form = {"csrf": await form_token(browser), "password": password, "next": next}
    return await browser.post("/login", data=form)
