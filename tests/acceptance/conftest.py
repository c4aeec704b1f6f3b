"""Nodes for a test: started on its Redis with its ledger, killed after it, their output shown when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from duly import Scheduler
from tests.acceptance.nodes import ROOT, Ledger, NodeProcess
from tests.acceptance.supervising import Supervised, are_gone, write_application

StartNode = Callable[..., NodeProcess]
Supervise = Callable[..., Supervised]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def start_node(redis_url: str, ledger: Ledger, tmp_path: Path) -> Iterator[StartNode]:
    """`start_node(*flags, target=…, **env)`: a node with a lease of two seconds; target may be a program's file."""
    started: list[NodeProcess] = []

    def start(*flags: str, target: str = "tests.acceptance.application:scheduler", **env: str) -> NodeProcess:
        name = chr(ord("A") + len(started))
        env = {"DULY_URL": redis_url, "DULY_LEASE": "2", "LEDGER": str(ledger.path), **env}
        arguments = [target] if target.endswith(".py") else ["-m", "duly", "worker", target, *flags]
        node = NodeProcess(tmp_path / f"{name}.log", *arguments, env=env)
        started.append(node)
        return node.start()

    yield start
    for node in started:
        node.kill()
        print(f"--- {node}: {' '.join(node.command[1:])}\n{node.output}")  # noqa: T201  shown when the test fails
    print("--- ledger", *ledger.read(), sep="\n")  # noqa: T201  likewise


@pytest.fixture
def push(redis_url: str) -> Any:
    """`push(task, *args)`: the id of a job just pushed."""

    def push(task: str, *args: Any) -> str:
        async def pushed() -> str:
            async with Scheduler(redis_url) as scheduler:
                return (await scheduler.push(task, args=args, remote=True)).id

        return asyncio.run(pushed())

    return push


# --- supervisors -----------------------------------------------------------------------------------------------------


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLite, or Redis where a test is parametrized with it (tests.acceptance.supervising.STORES)."""
    if getattr(request, "param", "sqlite") == "redis":
        found: str = request.getfixturevalue("redis_url")
        return found
    return f"sqlite:///{tmp_path}/duly.db"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where app.py is, and where supervisors are started."""
    folder = tmp_path / "application"
    folder.mkdir()
    write_application(folder, "one")
    return folder


@pytest.fixture
def supervise(url: str, ledger: Ledger, folder: Path, tmp_path: Path) -> Iterator[Supervise]:
    """`supervise(*flags, target=…, **env)`: a supervisor with nodes whose lease is two seconds."""
    started: list[Supervised] = []

    def start(*flags: str, target: str = "app:scheduler", **env: str) -> Supervised:
        env = {
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
            "DULY_URL": url,
            "DULY_LEASE": "2",
            "DULY_GRACE": "5",
            "LEDGER": str(ledger.path),
            **env,
        }
        log = tmp_path / f"supervisor-{len(started)}.log"
        process = Supervised(log, "-m", "duly", "worker", target, *flags, env=env, cwd=folder)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.kill()
        print(f"--- {process}: {' '.join(process.command[1:])}\n{process.output}")  # noqa: T201  shown when the test fails
        are_gone(process.online)
    print("--- ledger", *ledger.read(), sep="\n")  # noqa: T201  likewise
