"""`/metrics`, `/live` and `/ready`: what they say while a node starts, runs, hangs, loses its store and stops."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import click
import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from duly import Scheduler
from duly.cli import supervisor as supervising
from duly.cli.endpoints import Endpoints
from duly.cli.supervisor import Supervisor
from duly.cli.worker import as_flag, command, supervise
from duly.errors import ConfigurationError
from duly.runtime.ready import ASKED_WITHIN, why_not_ready
from duly.testing import ManualClock
from tests.conftest import StartServer
from tests.schedulers import running
from tests.waiting import eventually

HOST = "127.0.0.1"


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> prometheus_client.CollectorRegistry:
    """Instead of the one of the process: each test begins with an empty one."""
    fresh = prometheus_client.CollectorRegistry()
    monkeypatch.setattr(prometheus_client, "REGISTRY", fresh)
    return fresh


@contextmanager
def served(scheduler: Scheduler) -> Iterator[int]:
    """The port at which its endpoints are."""
    endpoints = Endpoints(scheduler, HOST, 0)
    endpoints.start()
    try:
        yield endpoints.port
    finally:
        endpoints.close()


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
    """(status, content type, body)."""
    request = urllib.request.Request(f"http://{HOST}:{port}{path}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


async def asked(port: int, path: str) -> tuple[int, str]:
    status, _, body = await asyncio.to_thread(ask, port, path)
    return status, body


async def test_a_node_is_ready_from_its_start_to_its_stop_and_lives_before_and_after() -> None:
    scheduler = Scheduler("memory://")
    with served(scheduler) as port:
        assert await asked(port, "/ready") == (503, "it is not started, or is stopping\n")
        assert await asked(port, "/live") == (200, "live\n")
        async with running(scheduler):
            assert await asked(port, "/ready") == (200, "ready\n")
            scheduler.stop_executing()
            status, reason = await asked(port, "/ready")
            assert status == 503
            assert "stop_executing()" in reason
            scheduler.start_executing()
            assert (await asked(port, "/ready"))[0] == 200
        assert (await asked(port, "/ready"))[0] == 503
        assert (await asked(port, "/live"))[0] == 200


async def test_a_node_whose_loop_is_blocked_still_answers() -> None:
    scheduler, blocked, go = Scheduler("memory://"), threading.Event(), threading.Event()

    @scheduler.task
    async def block() -> None:
        blocked.set()
        go.wait(20)  # in the event loop

    def look(port: int) -> None:
        blocked.wait(10)
        answers.extend([ask(port, "/live")[0], ask(port, "/metrics")[0]])
        go.set()

    answers: list[int] = []
    with served(scheduler) as port:
        async with running(scheduler):
            looker = threading.Thread(target=look, args=(port,))
            looker.start()
            await block.push()
            await eventually(go.is_set)
            await asyncio.to_thread(looker.join)
    assert answers == [200, 200]


async def test_a_node_that_has_not_asked_for_jobs_for_long_is_not_ready() -> None:
    clock = ManualClock()
    scheduler = Scheduler("memory://", clock=clock, lease=2, poll=60)
    async with running(scheduler):
        assert why_not_ready(scheduler._node) == ""
        assert scheduler._node is not None
        for line in scheduler._node.worker.lines:
            line.asked_at = clock.monotonic() - 2 * 60 - ASKED_WITHIN
        assert why_not_ready(scheduler._node) == ""
        for line in scheduler._node.worker.lines:
            line.asked_at -= 1
        assert "it has not asked for jobs for 126 s" in why_not_ready(scheduler._node)


@pytest.mark.redis
@pytest.mark.server
async def test_a_node_without_its_store_is_not_ready_until_it_is_back(start_server: StartServer) -> None:
    server = start_server("redis")
    scheduler = Scheduler(server.url, poll=0.05, lease=2)
    with served(scheduler) as port:
        async with running(scheduler, grace=0):
            assert (await asked(port, "/ready"))[0] == 200
            server.kill()
            await eventually(lambda: why_not_ready(scheduler._node))
            assert await asked(port, "/ready") == (503, "the store does not answer\n")
            assert (await asked(port, "/live"))[0] == 200
            server.start()
            await eventually(lambda: not why_not_ready(scheduler._node))
            assert (await asked(port, "/ready"))[0] == 200


async def test_metrics_are_those_of_the_node_and_of_the_application(
    registry: prometheus_client.CollectorRegistry,
) -> None:
    prometheus_client.Counter("mine", "Of the application.", registry=registry).inc(3)
    scheduler = Scheduler("memory://")
    with served(scheduler) as port:
        async with running(scheduler):
            status, kind, body = await asyncio.to_thread(ask, port, "/metrics")
            _, other_kind, other = await asyncio.to_thread(
                lambda: ask(port, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
            )
    assert status == 200
    assert kind.startswith("text/plain; version=")
    found = {family.name: family for family in text_string_to_metric_families(body)}
    assert found["mine"].samples[0].value == 3
    assert found["duly_slots"].samples[0].value == 100
    assert other_kind.startswith("application/openmetrics-text")
    assert other.endswith("# EOF\n")


async def test_without_the_library_life_and_readiness_are_served(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, "duly.contrib.prometheus", raising=False)
    with served(Scheduler("memory://")) as port:
        assert (await asked(port, "/live"))[0] == 200
        assert (await asked(port, "/ready"))[0] == 503
        status, reason = await asked(port, "/metrics")
    assert status == 501
    assert "pip install 'duly[prometheus]'" in reason
    assert "pip install 'duly[prometheus]'" in caplog.text


def test_what_is_not_there_or_would_change_something_is_refused() -> None:
    with served(Scheduler("memory://")) as port:
        assert ask(port, "/")[0] == ask(port, "/../etc/passwd")[0] == ask(port, "/live/")[0] == 404
        assert ask(port, "/live", "POST")[0] == ask(port, "/metrics", "DELETE")[0] == 405
        assert ask(port, "/live", "HEAD") == (200, "text/plain; charset=utf-8", "")


@pytest.mark.parametrize("host", [HOST, "no.such.host.invalid", "a" * 300])
def test_a_place_that_cannot_be_had_is_named(host: str) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError) as refused:
            Endpoints(Scheduler("memory://"), host, port)
    assert f"{host}:{port}" in str(refused.value)
    assert "give another --metrics-port or --metrics-host" in str(refused.value)


def test_an_address_of_ipv6_will_do() -> None:
    endpoints = Endpoints(Scheduler("memory://"), "::1", 0)
    endpoints.start()
    with urllib.request.urlopen(f"http://[::1]:{endpoints.port}/live", timeout=10) as answer:
        assert answer.status == 200
    endpoints.close()


# --- the command line ------------------------------------------------------------------------------------------------


async def test_each_worker_of_a_supervisor_has_a_port_of_its_own() -> None:
    assert [Supervisor("a:b", 3, ["a:b"], None, 9100)._arguments_at(place)[-1] for place in range(3)] == [
        "--metrics-port=9100",
        "--metrics-port=9101",
        "--metrics-port=9102",
    ]
    assert Supervisor("a:b", 3, ["a:b"], None, 0)._arguments_at(2) == ["a:b", "--metrics-port=0"]
    assert Supervisor("a:b", 3, ["a:b"])._arguments_at(2) == ["a:b"]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no supervisors")
def test_ports_that_there_are_not_are_refused() -> None:
    with pytest.raises(click.UsageError, match="--metrics-port=65530: 10 ports from there go beyond 65535"):
        supervise("a:b", 10, False, {}, 65_530)


def test_workers_get_the_flags_of_their_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Supervisor] = []

    async def run(self: Supervisor) -> int:
        made.append(self)
        return 0

    monkeypatch.setattr(supervising.Supervisor, "run", run)
    monkeypatch.setenv("DULY_METRICS_PORT", "9100")
    arguments = ["a:b", "--processes=2", "--no-measures", "--queues=x,y", "--metrics-host=0.0.0.0"]
    assert command.main(arguments, standalone_mode=False) == 0
    (supervisor,) = made
    assert {"--no-measures", "--queues=x,y", "--metrics-host=0.0.0.0"} <= set(supervisor.arguments)
    assert supervisor.metrics_port == 9100


def test_a_switch_is_a_flag_of_its_own() -> None:
    assert [as_flag("measures", on) for on in (True, False)] == ["--measures", "--no-measures"]
    assert as_flag("push_timeout", 3.5) == "--push-timeout=3.5"


def test_the_application_that_runs_is_the_one_that_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    module, seen = ModuleType("served_application"), []
    module.scheduler = scheduler = Scheduler("memory://")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "served_application", module)
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]

    def run(**_: object) -> None:
        seen.append(ask(port, "/ready")[0])

    served: list[Endpoints] = []
    start = Endpoints.start

    def noted(endpoints: Endpoints) -> None:
        served.append(endpoints)
        start(endpoints)

    monkeypatch.setattr(scheduler, "run", run)
    monkeypatch.setattr(Endpoints, "start", noted)
    try:
        assert command.main(["served_application:scheduler", f"--metrics-port={port}"], standalone_mode=False) == 0
        assert seen == [503]
        with pytest.raises(click.UsageError, match="Address already in use"):
            command.main(["served_application:scheduler", f"--metrics-port={port}"], standalone_mode=False)
    finally:
        for (
            endpoints
        ) in served:  # they would be served until this process ends, and its other tests look for our threads
            endpoints.close()
