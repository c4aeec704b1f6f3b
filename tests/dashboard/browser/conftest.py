"""A node, a dashboard and Chromium: one of each for all tests of a store, as real processes."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from duly import Scheduler
from tests.acceptance.nodes import NodeProcess, until
from tests.servers import Server

T = TypeVar("T")
TARGET = "tests.dashboard.browser.application:scheduler"
WATCH = "addEventListener('securitypolicyviolation', (e) => console.error('CSP', e.violatedDirective, e.blockedURI))"
PATIENCE = 15_000
"""Milliseconds that a page is waited for, on a slow machine."""
expect.set_options(timeout=PATIENCE)


def chromium() -> str:
    """The path of the system's; fails with what to do where it is missing."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.fail("Chromium is not on the PATH and these tests need it: run `tools/ensure-program chromium`.")
    return found


@dataclass
class World:
    """The dashboard's address, and the store behind it."""

    at: str
    url: str
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def ask(self, work: Callable[[Scheduler], Awaitable[T]]) -> T:
        """Look into the store, or write there, beside the browser; in a thread, as this one has Playwright's event loop."""

        async def asked() -> T:
            async with Scheduler(self.url) as scheduler:
                scheduler.bind("*", lambda *args, **kwargs: None)
                return await work(scheduler)

        return self.pool.submit(asyncio.run, asked()).result(30)

    def eventually(self, work: Callable[[Scheduler], Awaitable[Any]], what: str) -> None:
        """Until it is true in the store."""
        until(lambda: self.ask(work), 15, what)

    def clear(self) -> None:
        """Nothing is left of the test before."""

        async def cleared(scheduler: Scheduler) -> None:
            for queue in await scheduler.queues.list():
                await scheduler.queues.resume(queue)
                await scheduler.queues.limit(queue, None)
                running, _ = await scheduler.jobs.list("leased", queue=queue)
                await scheduler.jobs.cancel(*(job.id for job in running), queue=queue)
            await scheduler.clear()

        self.ask(cleared)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each module says over which stores its tests run."""
    if "served" in metafunc.fixturenames:
        marks = {"redis": [pytest.mark.server, pytest.mark.redis]}
        stores = [pytest.param(store, marks=marks.get(store, [])) for store in metafunc.module.STORES]
        metafunc.parametrize("served", stores, indirect=True, scope="module")


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("screens")
    url = f"sqlite:///{folder}/duly.db"
    if request.param == "redis":
        server: Server = request.getfixturevalue("redis_server")
        server.flush()
        url = server.url
    env = {"DULY_URL": url}
    node = NodeProcess(folder / "node.log", "-m", "duly", "worker", TARGET, env=env).start()
    site = NodeProcess(folder / "site.log", "-m", "duly", "dashboard", url, "--port", "0", env=env)
    node.is_up()
    site.start().says("http://")
    found = re.search(r"http://127\.0\.0\.1:\d+", site.output)
    assert found is not None, site.output
    world = World(found[0], url)
    world.clear()  # also starts the thread that asks, before tests look for threads that they leave
    yield world
    world.pool.shutdown()
    for process in (site, node):
        process.kill()
        print(f"--- {process}\n{process.output}")  # noqa: T201  shown when a test fails


@pytest.fixture
def world(served: World) -> World:
    served.clear()
    return served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For one module: while Playwright runs, its event loop is the thread's, and tests of other modules want their own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


class Watched:
    """A context in which nothing may go wrong unseen."""

    def __init__(self, browser: Browser, world: World, **options: Any) -> None:
        self.context: BrowserContext = browser.new_context(base_url=world.at, **options)
        self.context.set_default_timeout(PATIENCE)
        self.context.add_init_script(WATCH)
        self.wrong: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.on(
            "console", lambda said: self.wrong.append(said.text) if said.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))

    def end(self) -> None:
        self.context.close()
        assert not self.wrong, self.wrong


@pytest.fixture
def page(browser: Browser, world: World) -> Iterator[Page]:
    watched = Watched(browser, world)
    yield watched.page
    watched.end()
