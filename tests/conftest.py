"""What every test can ask for: real servers, stores over them, and the watch for leaks.

    redis_server, valkey_server   one process each for the whole run (tests.servers.Server)
    redis_url, valkey_url         its address, all data deleted before the test
    store_url                     the test runs three times: memory, redis, valkey
    etcd_server, etcd_url         one etcd for the whole run; all keys deleted before the test
    start_server(kind, *options)  a server of the test's own, to kill or to limit; stopped after the test
    redis_sentinel, valkey_sentinel, redis_cluster, valkey_cluster, redis_pair, valkey_pair, redis_independent
                                  several servers (tests.topologies), healthy and empty before the test
    pair                          the test runs twice: redis_pair, valkey_pair
    topology_url                  the test runs thrice: a Redis behind Sentinel, a Valkey cluster, three servers

A test that asks for a server is marked `server` (and `redis` or `valkey`) by itself. A server that is missing fails
the test with a sentence; it never skips.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from tests.etcd import EtcdServer
from tests.servers import Server
from tests.topologies import Cluster, Independent, Pair, Replicated

StartServer = Callable[..., Server]
Topology = Replicated | Cluster | Pair | Independent
Runs = TypeVar("Runs", Server, EtcdServer, Replicated, Cluster, Pair, Independent)

TOPOLOGIES: dict[str, Callable[[str, Path], Topology]] = {
    "sentinel": Replicated,
    "cluster": Cluster,
    "pair": Pair,
    "independent": Independent,
}
MARKERS = {
    "redis_server": ("server", "redis"),
    "valkey_server": ("server", "valkey"),
    "redis_url": ("server", "redis"),
    "valkey_url": ("server", "valkey"),
    "start_server": ("server",),
    "etcd_server": ("server",),
    **{
        f"{kind}_{topology}": ("server", kind)
        for kind in ("redis", "valkey")
        for topology in ("sentinel", "cluster", "pair")
    },
}
THREADS_END_WITHIN = 1.0  # seconds; a thread may still be on its way out when its work is done

# Under nohup, or in the background of a shell, a process begins with these ignored, and so would all that it starts.
for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (getattr(signal, "SIGHUP", None), signal.SIG_DFL)):
    if _number is not None and signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

# No deadline: on a machine with two cores the time of one example says nothing about the code.
settings.register_profile("local", deadline=None)
settings.register_profile(
    "ci", deadline=None, database=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            for marker in MARKERS.get(fixture, ()):
                item.add_marker(marker)
    # Else two of a minute each may come last, and one worker waits for the other. The order is stable within both kinds.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


# --- servers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _running(Server("redis", tmp_path_factory.mktemp("redis")))


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _running(Server("valkey", tmp_path_factory.mktemp("valkey")))


@pytest.fixture
def redis_url(redis_server: Server) -> str:
    redis_server.flush()
    return redis_server.url


@pytest.fixture
def valkey_url(valkey_server: Server) -> str:
    valkey_server.flush()
    return valkey_server.url


@pytest.fixture(scope="session")
def etcd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    yield from _running(EtcdServer(tmp_path_factory.mktemp("etcd")))


@pytest.fixture
def etcd_url(etcd_server: EtcdServer) -> str:
    etcd_server.flush()
    return etcd_server.url


@pytest.fixture(
    params=[
        "memory",
        "sqlite",
        pytest.param("redis", marks=[pytest.mark.server, pytest.mark.redis]),
        pytest.param("valkey", marks=[pytest.mark.server, pytest.mark.valkey]),
    ]
)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return "memory://"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/duly.db"
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    started: list[Server] = []

    def start(kind: str, *options: str) -> Server:
        server = Server(kind, tmp_path / f"{kind}-{len(started)}", *options)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


def _running(server: Runs) -> Iterator[Runs]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def topologies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], Topology]]:
    """One of each kind for the whole run, started when it is first asked for."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def topology(kind: str, name: str) -> Topology:
            servers: Topology = TOPOLOGIES[name](kind, tmp_path_factory.mktemp(f"{kind}-{name}"))
            stack.callback(servers.stop)
            servers.start()
            return servers

        yield topology


def _healthy(kind: str, name: str) -> Any:
    def fixture(topologies: Callable[[str, str], Topology]) -> Topology:
        servers = topologies(kind, name)
        if servers.touched:
            servers.heal()
        servers.flush()
        return servers

    return pytest.fixture(fixture, name=f"{kind}_{name}")


redis_sentinel, valkey_sentinel = _healthy("redis", "sentinel"), _healthy("valkey", "sentinel")
redis_cluster, valkey_cluster = _healthy("redis", "cluster"), _healthy("valkey", "cluster")
redis_pair, valkey_pair = _healthy("redis", "pair"), _healthy("valkey", "pair")
redis_independent = _healthy("redis", "independent")


@pytest.fixture(
    params=[
        pytest.param("redis_pair", marks=[pytest.mark.server, pytest.mark.redis]),
        pytest.param("valkey_pair", marks=[pytest.mark.server, pytest.mark.valkey]),
    ]
)
def pair(request: pytest.FixtureRequest) -> Pair:
    servers: Pair = request.getfixturevalue(request.param)
    return servers


@pytest.fixture(
    params=[
        pytest.param("redis_sentinel", marks=[pytest.mark.server, pytest.mark.redis]),
        pytest.param("valkey_cluster", marks=[pytest.mark.server, pytest.mark.valkey]),
        pytest.param("redis_independent", marks=[pytest.mark.server, pytest.mark.redis]),
    ]
)
def topology_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param).url
    return url


# --- leaks -----------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    """After the test and its event loop: every non-daemon thread it started has ended."""
    before = set(threading.enumerate())
    yield
    leaked = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    for thread in leaked:
        thread.join(THREADS_END_WITHIN / len(leaked))
    names = [repr(thread.name) for thread in leaked if thread.is_alive()]
    if names:
        pytest.fail(
            f"the test left {len(names)} thread(s) running: {', '.join(names)}. Stop what started them before it ends.",
            pytrace=False,
        )


@pytest.fixture(autouse=True)
def _watch_tasks(request: pytest.FixtureRequest, no_leaked_threads: None) -> None:
    """Look for leaked tasks where there is a loop; a synchronous test shall not get one for it."""
    if request.node.get_closest_marker("asyncio") is not None:
        request.getfixturevalue("no_leaked_tasks")


@pytest.fixture
async def no_leaked_tasks() -> AsyncIterator[None]:
    """After the test and its other fixtures, before its loop closes: no task of it is left."""
    yield
    for _ in range(3):  # tasks that are ending (a cancelled one, a callback that follows) may do so
        await asyncio.sleep(0)
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    if tasks:
        lines = "\n".join(f"  {_described(task)}" for task in tasks)
        pytest.fail(
            f"the test left {len(tasks)} asyncio task(s) running; cancel and await them, or stop their owner:\n{lines}",
            pytrace=False,
        )


def _described(task: asyncio.Task[object]) -> str:
    frames = task.get_stack(limit=1)
    where = f" at {frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else ""
    return f"{task.get_name()}: {getattr(task.get_coro(), '__qualname__', task.get_coro())}{where}"
