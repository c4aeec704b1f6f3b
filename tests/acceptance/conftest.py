"""Nodes for a test: started on its Redis with its ledger, killed after it, their output shown when it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.nodes import Ledger, NodeProcess

StartNode = Callable[..., NodeProcess]


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
