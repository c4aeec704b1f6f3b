"""The servers that tests start: they answer, they are what they say, and they are gone after stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from tests.conftest import StartServer
from tests.servers import Server, ServerError, exists

ROOT = Path(__file__).parent.parent
KINDS = pytest.mark.parametrize("kind", ["redis", "valkey"])


def test_redis_is_seven_or_newer_and_answers(redis_server: Server) -> None:
    with redis_server.client() as client:
        assert client.ping()
    assert redis_server.version() >= (7,)


def test_valkey_is_nine_and_answers(valkey_server: Server) -> None:
    with valkey_server.client() as client:
        assert client.ping()
    assert valkey_server.version()[0] == 9


@KINDS
def test_a_stopped_server_is_gone(start_server: StartServer, kind: str) -> None:
    server = start_server(kind)
    pid = server.pid
    assert exists(pid)
    server.stop()
    assert not exists(pid)
    with pytest.raises(redis.ConnectionError), server.client() as client:
        client.ping()
    with pytest.raises(ServerError, match="does not run"):
        _ = server.pid
    server.stop()  # repeatable


def test_a_paused_server_is_stopped_too(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.servers.STOP_WITHIN", 0.1)
    server = start_server("redis")
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    server.stop()
    assert not exists(pid)


def test_a_killed_server_starts_again_on_its_port(start_server: StartServer) -> None:
    server = start_server("redis")
    port, pid = server.port, server.pid
    server.kill()
    assert not exists(pid)
    server.start()
    assert (server.port, server.pid != pid) == (port, True)


@KINDS
def test_a_restart_keeps_what_the_append_only_file_keeps(start_server: StartServer, kind: str) -> None:
    server = start_server(kind, "--appendonly", "yes", "--appendfsync", "always")
    with server.client() as client:
        client.set("key", "value")
    server.restart()
    with server.client() as client:
        assert client.get("key") == b"value"


@KINDS
def test_options_reach_the_server(start_server: StartServer, kind: str) -> None:
    with start_server(kind, "--maxmemory", "10mb").client() as client:
        assert client.config_get("maxmemory") == {"maxmemory": str(10 * 1024 * 1024)}


@KINDS
def test_a_server_that_does_not_start_says_why(start_server: StartServer, kind: str) -> None:
    with pytest.raises(ServerError, match=r"ended with code 1(.|\n)*no-such-option"):
        start_server(kind, "--no-such-option", "1")


def test_a_missing_redis_is_an_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerError, match="run `tools/ensure-program redis-server`"):
        Server("redis", tmp_path).start()


def test_an_unknown_kind_is_an_error_that_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="'redis' or 'valkey'"):
        Server("memcached", tmp_path).start()


def test_a_port_taken_by_another_is_an_error_when_it_must_be_kept(start_server: StartServer, tmp_path: Path) -> None:
    first = start_server("redis")
    second = Server("redis", tmp_path / "second")
    second.port = first.port
    with pytest.raises(ServerError, match="already in use"):
        second.start()


def test_another_free_port_is_tried_when_the_first_was_taken(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start_server("redis")
    free = start_server("redis")
    free.stop()
    ports = iter([first.port, free.port])
    monkeypatch.setattr("tests.servers.free_port", lambda: next(ports))
    second = Server("redis", tmp_path / "second")
    second.start()
    try:
        assert second.port == free.port
    finally:
        second.stop()


@pytest.mark.server
def test_a_test_run_that_dies_leaves_no_server(tmp_path: Path) -> None:
    program = (
        "import os, sys, pathlib; from tests.servers import Server, exists\n"
        "server = Server('redis', pathlib.Path(sys.argv[1])); server.start()\n"
        "print(server.port, flush=True); os._exit(1)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False, timeout=30)
    address = ("127.0.0.1", int(run.stdout))
    for _ in range(250):
        try:
            socket.create_connection(address).close()
        except ConnectionError:
            return
        time.sleep(0.02)
    pytest.fail(f"the server at {address} outlived the process that started it")


@pytest.mark.parametrize("attempt", [1, 2])
def test_every_test_gets_an_empty_database(store_url: str, attempt: int) -> None:
    if store_url == "memory://":
        return
    if store_url.startswith("sqlite:///"):
        file = Path(store_url.removeprefix("sqlite:///"))
        assert not file.exists()
        file.touch()
        return
    with redis.Redis.from_url(store_url) as client:
        assert client.dbsize() == 0
        client.set("left", attempt)


def test_a_test_that_asks_for_a_server_is_marked(request: pytest.FixtureRequest, redis_url: str) -> None:
    assert {marker.name for marker in request.node.iter_markers()} >= {"server", "redis"}
