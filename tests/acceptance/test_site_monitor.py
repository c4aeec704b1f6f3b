"""The example as its users run it: two nodes on a real Redis watch sites over real sockets, and one node is killed."""

from __future__ import annotations

import asyncio
import runpy
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from types import SimpleNamespace

import msgspec
import pytest

from duly import Scheduler
from duly.views.schedules import ScheduleView
from tests.acceptance.conftest import StartNode
from tests.acceptance.nodes import ROOT, until
from tests.waiting import eventually

FAILURES = {"/steady": 0, "/slow": 0, "/flaky": 3, "/late": 6, "/broken": 10**9}
"""How many requests each site refuses before it answers well."""
SLOW = 0.3  # seconds
AFTER_THE_KILL = 5.0  # seconds: more than a lease and its gap


class Sites(ThreadingHTTPServer):
    """The sites that are watched, all at one address, and how often each was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.asked: Counter[str] = Counter()
        self.lock = Lock()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Page(BaseHTTPRequestHandler):
    server: Sites

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.asked[self.path] += 1
            fails = self.server.asked[self.path] <= FAILURES[self.path]
        if self.path == "/slow":
            time.sleep(SLOW)
        self.send_response(503 if fails else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def sites() -> Iterator[Sites]:
    with Sites() as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Results:
    """The table of the example."""

    def __init__(self, path: Path, sites: Sites) -> None:
        self.path, self.sites = path, sites

    def execute(self, statement: str, *values: object) -> list[tuple[float, int, int, int]]:
        with closing(sqlite3.connect(self.path, timeout=10)) as db, db:
            return db.execute(statement, values).fetchall()

    def of(self, path: str) -> list[tuple[float, int, int, int]]:
        """(tick, attempt, up, pid) of a site, by tick."""
        statement = "SELECT tick, attempt, up, pid FROM checks WHERE site = ? ORDER BY tick"
        return self.execute(statement, self.sites.url(path))


async def holder(scheduler: Scheduler, path: str) -> int | None:
    """The process that has a check of this site under way."""
    nodes = (await scheduler.store.registry()).nodes
    leased, _ = await scheduler.jobs.list("leased")
    pids = [msgspec.msgpack.decode(nodes[job.node])["pid"] for job in leased if path in job.id and job.node in nodes]
    return pids[0] if pids else None


async def who_holds(url: str, path: str) -> int:
    """Whichever it is: nothing says that work is shared evenly, and on SQLite the same node may be the first each time."""
    async with Scheduler(url) as scheduler:
        pid = await eventually(lambda: holder(scheduler, path), 15)
        assert pid is not None
        return pid


async def schedules(url: str) -> dict[str, ScheduleView]:
    async with Scheduler(url) as scheduler:
        return {schedule.id: schedule async for schedule in scheduler.schedules.list()}


def settings(sites: Sites, tmp_path: Path) -> dict[str, str]:
    return {
        "MONITOR_SITES": " ".join(sites.url(path) for path in FAILURES),
        "MONITOR_INTERVAL": "1",
        "MONITOR_RESULTS": str(tmp_path / "results.db"),
        "MONITOR_PRUNE": "*/2 * * * * *",
        "NO_PROXY": "*",
    }


def test_a_late_check_does_not_overwrite_a_newer_one(
    monkeypatch: pytest.MonkeyPatch, sites: Sites, tmp_path: Path
) -> None:
    monkeypatch.setenv("DULY_URL", "memory://")
    monkeypatch.setenv("MONITOR_RESULTS", str(tmp_path / "results.db"))
    example = runpy.run_path(str(ROOT / "examples" / "site_monitor.py"), run_name="site_monitor")

    async def keep(fence: int, up: bool) -> None:
        context = SimpleNamespace(job=SimpleNamespace(nominal=1000.0), fence=fence, attempt=1)
        async with example["scheduler"], example["results"]():
            example["keep"](context, sites.url("/steady"), up, "", 0.1)

    rows = []
    for fence, up in [(7, False), (9, True), (8, False), (9, False), (10, False)]:
        asyncio.run(keep(fence, up))
        rows.append(Results(tmp_path / "results.db", sites).of("/steady"))
    assert [[up for _, _, up, _ in found] for found in rows] == [[0], [1], [1], [1], [0]]


@pytest.mark.parametrize("store", ["memory", "sqlite", "redis"])
def test_the_site_monitor_runs_unchanged_on_every_store(
    start_node: StartNode, redis_url: str, sites: Sites, tmp_path: Path, store: str
) -> None:
    env = {**settings(sites, tmp_path), "DULY_URL": url_of(store, redis_url, tmp_path)}
    program = start_node(target="examples/site_monitor.py", **env).is_up()
    results = Results(tmp_path / "results.db", sites)
    until(lambda: results.of("/steady"), 15, "a check of the steady site")
    program.stop_signal()
    assert program.wait() == 0
    tick, attempt, up, pid = results.of("/steady")[0]
    assert (attempt, up, pid) == (1, 1, program.pid)
    assert abs(tick - time.time()) < 30


def url_of(store: str, redis_url: str, tmp_path: Path) -> str:
    return {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/duly.db", "redis": redis_url}[store]


@pytest.mark.slow
@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_the_site_monitor_watches_on_when_a_node_is_killed(
    start_node: StartNode, redis_url: str, sites: Sites, tmp_path: Path, store: str
) -> None:
    url = url_of(store, redis_url, tmp_path)
    env = {**settings(sites, tmp_path), "DULY_URL": url}
    nodes = [start_node(target="examples.site_monitor:scheduler", **env) for _ in range(2)]
    for node in nodes:
        node.is_up()
    results = Results(tmp_path / "results.db", sites)
    results.execute("INSERT INTO checks (site, tick) VALUES ('ancient', 0)")

    # Two nodes at work: re-checks that help, re-checks that do not, one alarm, and old rows go.
    until(
        lambda: any(up and attempt > 1 for _, attempt, up, _ in results.of("/flaky")), 15, "the flaky site's recovery"
    )
    until(
        lambda: [row[1:3] for row in results.of("/late")[:1]] == [(4, 0)],
        15,
        "a site that is down after three more looks",
    )
    until(lambda: any(up for _, _, up, _ in results.of("/late")), 15, "its recovery")
    until(lambda: any("/broken is down" in node.output for node in nodes), 15, "the alarm")
    until(lambda: not results.execute("SELECT * FROM checks WHERE site = 'ancient'"), 15, "the pruning")

    # One is killed with a check under way; the other goes on alone.
    pid = asyncio.run(who_holds(url, "/slow"))
    doomed, other = sorted(nodes, key=lambda node: node.pid != pid)
    doomed.kill()
    killed = time.time()
    for path in FAILURES:
        until(
            lambda path=path: results.of(path)[-1][0] > killed + AFTER_THE_KILL, 20, f"checks of {path} after the kill"
        )
    other.stop_signal()
    assert other.wait() == 0

    planned = asyncio.run(schedules(url))
    for path in FAILURES:
        rows = [row for row in results.of(path) if row[0] <= killed + AFTER_THE_KILL - 1]
        ticks = [round(tick * 1000) for tick, *_ in rows]
        skipped = sum(planned[sites.url(path)].skipped.values())  # none, unless this machine stood still for a second
        assert all((tick - ticks[0]) % 1000 == 0 for tick in ticks)
        assert len(ticks) <= (ticks[-1] - ticks[0]) // 1000 + 1 <= len(ticks) + skipped, f"{path} misses ticks: {ticks}"
        runs = sum(attempt for _, attempt, *_ in results.of(path))
        assert sites.asked[path] <= runs + 2, f"{path} was asked more often than its ticks say"  # 2: cut by the kill
        assert {pid for tick, *_, pid in rows if tick > killed} == {other.pid}
    assert all(up for _, _, up, _ in results.of("/steady") + results.of("/slow"))
    assert {attempt for _, attempt, up, _ in results.of("/broken") if not up} >= {4}
    assert (doomed.output + other.output).count("/broken is down") == 1
