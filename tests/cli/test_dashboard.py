"""`duly dashboard`: where it starts, where it refuses to, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from duly import Scheduler
from duly.cli.dashboard import is_loopback
from tests.cli.conftest import ENVIRONMENT, Duly, using
from tests.servers import HOST

TOKEN = "t" * 20


@pytest.fixture(autouse=True)
def no_secrets_of_the_one_who_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PASSWORD", "TOKEN", "READ_PASSWORD", "READ_TOKEN", "SECRET"):
        monkeypatch.delenv(f"DULY_DASHBOARD_{name}", raising=False)


@pytest.fixture
def filled(url: str) -> str:
    async def push(scheduler: Scheduler) -> None:
        await scheduler.push("t", remote=True)

    using(url, push)
    return url


@contextmanager
def serving(*words: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """(the address, the process) of a dashboard at a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "duly", "dashboard", *words, "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT | environment,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r"(http://\S+?)/  ", line)
        assert found is not None, line + process.communicate(timeout=10)[1]
        yield found[1], process
    finally:
        process.kill()
        process.communicate(timeout=10)


def test_it_serves_the_store_to_this_machine_and_ends_when_told_to_also_while_somebody_listens(filled: str) -> None:
    with serving(filled) as (address, process):
        with urlopen(f"{address}/api/overview", timeout=10) as answer:
            assert json.load(answer)["pending"] == 1
        with pytest.raises(HTTPError) as refused:
            urlopen(Request(f"{address}/api/overview", headers={"Host": "evil.example"}), timeout=10)
        assert refused.value.code == 400
        refused.value.close()
        with urlopen(f"{address}/live", timeout=10) as stream:
            while not stream.readline().startswith(b"event: overview"):
                pass
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=20)
        assert process.returncode == 0
        assert "Traceback" not in said
        assert "ERROR" not in said


def test_at_another_address_it_asks_for_the_token_of_the_environment(filled: str) -> None:
    with serving(filled, "--host", "0.0.0.0", DULY_DASHBOARD_READ_TOKEN=TOKEN) as (address, process):
        here = address.replace("0.0.0.0", HOST)
        with pytest.raises(HTTPError) as refused:
            urlopen(f"{here}/api/overview", timeout=10)
        assert refused.value.code == 401
        refused.value.close()
        with urlopen(
            Request(f"{here}/api/overview", headers={"Authorization": f"Bearer {TOKEN}"}), timeout=10
        ) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 0
        assert TOKEN not in said


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.1", "::", "example.org"])
def test_an_address_that_others_can_reach_wants_a_secret(duly: Duly, filled: str, host: str) -> None:
    said = duly("dashboard", filled, "--host", host)
    assert said.code == 2
    assert f"others can reach {host}: give a password" in said.err


@pytest.mark.parametrize("shown", [("--proxy", "127.0.0.1"), ("--root-path", "/duly")])
def test_a_proxy_shows_it_to_others_wherever_it_listens(duly: Duly, filled: str, shown: tuple[str, str]) -> None:
    answer = duly("dashboard", filled, *shown)
    assert (answer.code, "others can reach it through the proxy" in answer.err) == (2, True)


def test_a_taken_port_is_one_line(duly: Duly, filled: str) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        said = duly("dashboard", filled, "--port", str(port))
    assert (said.code, f"port {port}" in said.err, "give another --port" in said.err) == (1, True, True)


@pytest.mark.parametrize(
    ("words", "content", "complaint"),
    [
        (["--password-file", "secret"], None, "cannot be read"),
        (["--password-file", "secret"], "", "is empty"),
        (["--password-file", "secret"], "short\n", "fewer than 8 characters"),
        (["--token-file", "secret"], "only fifteen ..", "fewer than 16 characters"),
        (["--password-file", "secret", "--open"], "long enough\n", "--open lets everybody in"),
        (["--url", "sqlite:///other.db"], None, "give one of them"),
    ],
)
def test_what_cannot_be_meant_is_refused_without_repeating_a_secret(
    duly: Duly, filled: str, words: list[str], content: str | None, complaint: str
) -> None:
    if content is not None:
        Path("secret").write_text(content)
    said = duly("dashboard", filled, *words)
    assert (said.code, complaint in said.err) == (2, True), said.err
    assert not content or content.strip() not in said.err


def test_a_store_that_is_not_there_is_not_made(duly: Duly, tmp_path: Path) -> None:
    said = duly("dashboard", f"sqlite:///{tmp_path}/none.db")
    assert (said.code, "there is no file" in said.err) == (1, True)
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("localhost.example.org", False)],
)  # fmt: skip
def test_what_counts_as_this_machine_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
