"""The cluster under test: a store, nodes, and a door for each node before the store; and all that can be done to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from duly import Scheduler
from tests.acceptance.nodes import ROOT, Ledger, NodeProcess
from tests.chaos import clocks
from tests.chaos.checker import Trouble
from tests.chaos.plan import STORE, Step
from tests.chaos.stores import opened
from tests.servers import HOST

UP = ": namespace "
UP_WITHIN = 60.0  # seconds; a node whose store is away ends, and is started again
LOOK = 0.02
HISTORY = 500_000
APPLICATION = "tests.chaos.application:scheduler"


class Node:
    """One place for a node: its process is a new one after each start, its name stays."""

    def __init__(self, name: str, folder: Path, env: dict[str, str]) -> None:
        self.name, self.folder, self.env = name, folder, dict(env)
        self.process: NodeProcess | None = None
        self.started = 0
        self.faults: list[str] = []

    def start(self, **env: str) -> None:
        self.started += 1
        log = self.folder / f"{self.name}-{self.started:03}.log"
        self.process = NodeProcess(log, "-m", "duly", "worker", APPLICATION, env={**self.env, **env}).start()

    @property
    def running(self) -> NodeProcess:
        assert self.process is not None, "start() it first"
        return self.process

    async def until_up(self, **env: str) -> None:
        """Wait until it serves; start it again, as a supervisor does, if it ended because its store was away."""
        end = time.monotonic() + UP_WITHIN
        while UP not in self.running.output:
            if self.running.code is not None:
                if self.running.code != 1:
                    self.faults.append(f"node {self.name} ended with {self.running.code} at its start")
                self.running.kill()  # its guard, too
                self.start(**env)
            if time.monotonic() > end:
                self.faults.append(f"node {self.name} did not come up within {UP_WITHIN:g} s")
                return
            await asyncio.sleep(LOOK)

    async def stop(self, within: float) -> None:
        """SIGTERM, and its end: with 0, in time."""
        process = self.running
        process.stop_signal()
        try:
            code = await asyncio.to_thread(process.wait, within)
            if code != 0:
                self.faults.append(f"node {self.name} ended with {code} when it was asked to stop")
        except AssertionError:
            self.faults.append(f"node {self.name} did not stop within {within:g} s")
        process.kill()

    def kill(self) -> None:
        """kill -9. That it had ended by itself before is a fault."""
        if self.running.code is not None:
            self.faults.append(f"node {self.name} ended by itself, with {self.running.code}")
        self.running.kill()


class Doors:
    """The proxy: a process of its own, so that a busy test does not slow it."""

    def __init__(self, target: int, count: int, log: Path) -> None:
        command = [sys.executable, "-m", "tests.chaos.proxy", str(target), str(count)]
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                start_new_session=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        self.ports: list[int] = json.loads(self._process.stdout.readline())
        self._turn = threading.Lock()

    def order(self, door: int, what: str, seconds: float = 0.0) -> None:
        """Returns when it is done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
            self._process.stdin.write(f"{door} {what} {seconds}\n")
            self._process.stdin.flush()
            assert self._process.stdout.readline(), "the proxy has ended: see its log"

    def close(self) -> None:
        """It ends with its standard input. Repeatable."""
        self._process.communicate()


class Cluster:
    """Everything that runs, in one folder. `store`: one of tests.chaos.stores.KINDS, or "clock"."""

    def __init__(self, folder: Path, store: str, nodes: int, lease: float, *, schedules: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.lease = folder, lease
        self.ledger = Ledger(folder / "ledger")
        self.troubles: list[Trouble] = []
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.store = opened(store, folder)
        self.doors: Doors | None = None
        self.grace = 2.5 * lease
        env = {
            "LEDGER": str(self.ledger.path), "DULY_LEASE": str(lease), "DULY_GRACE": str(self.grace),
            "DULY_HISTORY": str(HISTORY), "DULY_CONCURRENCY": "50", "DULY_THREADS": "10",
            "CHAOS_SCHEDULES": str(schedules),
            **{f"DULY_{name.upper()}": str(value) for name, value in self.store.settings.items()},
        }  # fmt: skip
        self.nodes = {name: Node(name, folder, env) for name in list("ABCDEFGHIJKLMNOP")[:nodes]}

    def client(self, **settings: Any) -> Scheduler:
        """A scheduler with a way of its own to the store."""
        return Scheduler(self.store.url, history=HISTORY, **self.store.settings, **settings)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Cluster]:
        """All nodes up; at the end everything is gone, whatever happened."""
        try:
            await asyncio.to_thread(self.store.start)
            if self.store.door:
                self.doors = Doors(self.store.door, len(self.nodes), self.folder / "proxy.log")
            for n, node in enumerate(self.nodes.values()):
                node.env["DULY_URL"] = f"redis://{HOST}:{self.doors.ports[n]}/0" if self.doors else self.store.url
                node.start()
            await asyncio.gather(*(node.until_up() for node in self.nodes.values()))
            yield self
        finally:
            for node in self.nodes.values():
                if node.process is not None:
                    node.process.kill()
            if self.doors is not None:
                self.doors.close()
            self.store.stop()

    # --- troubles ----------------------------------------------------------------------------------------------------

    async def do(self, step: Step) -> None:
        """Make the trouble, bear it, undo it; then it is on record. One at a time for each target, however long it takes."""
        async with self._turns[step.target]:
            begin, node = time.monotonic(), self.nodes.get(step.target)
            pid = node.running.pid if node is not None else 0
            await (self.store.do if step.target == STORE else getattr(self, f"_{step.kind}"))(step)
            kind = "restart" if step.kind == "shift" else step.kind
            self.troubles.append(Trouble(kind, step.target, pid, begin, time.monotonic()))

    async def _kill(self, step: Step) -> None:
        node = self.nodes[step.target]
        await asyncio.to_thread(node.kill)
        await asyncio.sleep(step.seconds)
        node.start()
        await node.until_up()

    async def _stop(self, step: Step) -> None:
        process = self.nodes[step.target].running
        process.stop_signal(signal.SIGSTOP)
        await asyncio.sleep(step.seconds)
        process.stop_signal(signal.SIGCONT)

    async def _restart(self, step: Step, **env: str) -> None:
        node = self.nodes[step.target]
        await node.stop(self.patience)
        node.start(**env)
        await node.until_up(**env)

    async def _shift(self, step: Step) -> None:
        await self._restart(step, **clocks.shifted(step.amount))

    @property
    def patience(self) -> float:
        """Seconds that a stop takes at most (see duly.runtime.process), with a handler that blocks the loop meanwhile."""
        return self.grace * 1.25 + 1 + 4 * self.lease + 10

    async def _cut(self, step: Step) -> None:
        await self._order(step, "cut")

    async def _hole(self, step: Step) -> None:
        await self._order(step, "hole")
        await asyncio.sleep(step.seconds)
        await self._order(step, "pass")

    async def _deaf(self, step: Step) -> None:
        await self._order(step, "deaf")
        await asyncio.sleep(step.seconds)  # until the node has given the silent connections up

    async def _slow(self, step: Step) -> None:
        await self._order(step, "slow")
        await asyncio.sleep(step.seconds)
        await self._order(step, "pass")

    async def _order(self, step: Step, what: str) -> None:
        assert self.doors is not None
        door = list(self.nodes).index(step.target)
        await asyncio.to_thread(self.doors.order, door, what, step.amount)

    async def stop(self) -> list[str]:
        """Stop all nodes gracefully; all that went wrong with processes, and what their logs hold that they should not."""
        await asyncio.gather(*(self._stop_node(node) for node in self.nodes.values()))
        faults = [fault for node in self.nodes.values() for fault in node.faults]
        return faults + [found for log in sorted(self.folder.glob("*.log")) for found in faults_in(log)]

    async def _stop_node(self, node: Node) -> None:
        if node.running.code is not None:
            node.faults.append(f"node {node.name} ended by itself, with {node.running.code}")
        else:
            await node.stop(self.patience)


def faults_in(log: Path) -> list[str]:
    """Tracebacks in a log: handlers here raise nothing that nodes do not expect."""
    lines = log.read_text(errors="replace").splitlines()
    return [
        f"log: {log.name}:{n + 1}: {lines[n - 1] if n else line}"
        for n, line in enumerate(lines)
        if line.startswith("Traceback") or "never retrieved" in line or "never awaited" in line
    ]
