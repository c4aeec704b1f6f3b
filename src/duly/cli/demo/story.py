"""The demo's course: two node processes on one store, jobs of every kind, a SIGKILL in the middle, the counting at the end."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from duly.cli.demo.facts import Facts
from duly.cli.demo.ledger import Ledger, Run, now
from duly.config import masked
from duly.errors import DulyError, StoreError
from duly.scheduler import Scheduler

NODES = 2
LIMIT = 28.0
"""Seconds after which the demo ends, whatever is missing."""
KILL_AFTER, PUSH_UNTIL = 3.0, 10.0
LOOK = 0.1


class Story:
    """Runs once; `facts`, `nodes` and `events` may be looked at meanwhile."""

    def __init__(self, scheduler: Scheduler, folder: Path, *, clears: bool) -> None:
        """clears: the store is not the demo's own, so what it wrote there is removed at the end."""
        self.scheduler, self.url, self.folder, self._clears = scheduler, masked(scheduler.store.url), folder, clears
        self.ledger = Ledger(folder / "ledger.db")
        self.ledger.create()
        self.facts = Facts()
        self.nodes: dict[int, subprocess.Popen[bytes]] = {}
        self.events: list[tuple[float, str]] = []
        self.began = now()
        self.seconds = 0.0
        self._pushing = True

    def tell(self, what: str) -> None:
        self.events.append((now() - self.began, what))

    async def run(self) -> None:
        """From the first node to the last check's facts; every process it started has ended when it returns."""
        try:
            async with asyncio.timeout(LIMIT), self.scheduler:
                await self._play()
        except TimeoutError:
            self.facts.faults.append(f"it was not over after {LIMIT:g} s")
        except DulyError as error:
            self.facts.faults.append(f"{type(error).__name__}: {error}")
        finally:
            await self._stop_nodes()
            self.facts.runs = self.ledger.read()
            self.seconds = now() - self.began

    async def _play(self) -> None:
        for number in range(1, NODES + 1):
            self._start_node(number)
        await self._until(self._all_are_online, "the nodes to come up")
        self.facts.online = now()
        self.tell(f"nodes {' and '.join(map(str, self.nodes))} are online, and alike: no leader, no scheduler process")
        await self._push_some()
        stream = asyncio.create_task(self._push_on())
        try:
            await self._kill_who_runs_the_report()
            await self._until(self._report_is_done, "the killed node's job to be done")
            self.tell("the report is done")
            await self._until(self._pushed_for_long_enough, "the last push")
        finally:
            self._pushing = False
            await stream
        for id in ("tick", "poll"):
            await self.scheduler.schedules.pause(id, "the demo ends")
        self.facts.paused = now()
        self.tell("schedules paused; waiting for what is under way")
        await self._until(self._is_drained, "the queue to be empty")
        if self._clears:
            await self.scheduler.clear()

    # nodes

    def _start_node(self, number: int) -> None:
        command = [
            sys.executable,
            "-m",
            "duly",
            "worker",
            "duly.cli.demo.application:scheduler",
            "--log-level",
            "WARNING",
        ]
        with (self.folder / f"node-{number}.log").open("wb") as log:
            node = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops them
            )  # fmt: skip
        self.nodes[node.pid] = node

    async def _all_are_online(self) -> bool:
        for number, node in enumerate(self.nodes.values(), 1):
            if node.poll() is not None:
                said = (self.folder / f"node-{number}.log").read_text(errors="replace").strip()
                raise StoreError(f"node {node.pid} ended at its start with code {node.returncode}: {said[-500:]}")
        return len((await self.scheduler.store.registry()).nodes) >= len(self.nodes)

    async def _stop_nodes(self) -> None:
        alive = [node for node in self.nodes.values() if node.poll() is None]
        for node in alive:
            node.terminate()
        for node in alive:
            try:
                code = await asyncio.to_thread(node.wait, 8)
            except subprocess.TimeoutExpired:
                node.kill()
                await asyncio.to_thread(node.wait)
                self.facts.faults.append(f"node {node.pid} did not stop when it was told to")
            else:
                if code:
                    self.facts.faults.append(f"node {node.pid} ended with code {code}")

    # jobs

    async def _push_some(self) -> None:
        for number in range(12):
            await self._push("receipt", number)
        for number in range(6):
            await self._push("reminder", number, delay=2.0 + number / 2)
        for number in range(3):
            await self._push("webhook", number)
        await self._push("report")
        self.tell("pushed: 12 receipts for now, 6 reminders for later, 3 webhooks that fail twice, a long report")

    async def _push_on(self) -> None:
        number = 100
        while self._pushing:
            await self._push("receipt", number)
            number += 1
            await asyncio.sleep(0.25)

    async def _push(self, task: str, *args: object, delay: float | None = None) -> None:
        asked = now()
        job = await self.scheduler.push(task, args=args, delay=delay)
        self.facts.pushed[job.id] = task
        if delay is not None:
            self.facts.due[job.id] = asked + delay

    # the kill

    def report_runs(self) -> list[Run]:
        """The runs of the one long job, so far."""
        return [run for run in self.ledger.read() if run.task == "report"]

    async def _kill_who_runs_the_report(self) -> None:
        async def is_running() -> bool:
            return bool(self.report_runs()) and now() > self.facts.online + KILL_AFTER

        await self._until(is_running, "the report to begin")
        victim = self.report_runs()[0].pid
        self.nodes[victim].kill()
        self.facts.victim, self.facts.killed = victim, now()
        await asyncio.to_thread(self.nodes[victim].wait)
        name = "SIGKILL" if hasattr(signal, "SIGKILL") else "TerminateProcess"
        self.tell(f"node {victim} killed with {name}, in the middle of the report")

        async def is_taken_over() -> bool:
            return len(self.report_runs()) > 1

        await self._until(is_taken_over, "the killed node's job to be taken over")
        again = self.report_runs()[-1]
        self.tell(f"node {again.pid} took the report over, {again.began - self.facts.killed:.1f} s after the kill")

    async def _report_is_done(self) -> bool:
        return self.report_runs()[-1].ok

    async def _pushed_for_long_enough(self) -> bool:
        return now() > self.facts.online + PUSH_UNTIL

    async def _is_drained(self) -> bool:
        sizes = await self.scheduler.queues.sizes()
        self.facts.left = sizes.pending + sizes.leased
        return not self.facts.left

    async def _until(self, fact: Callable[[], Awaitable[bool]], what: str) -> None:
        try:
            while not await fact():  # noqa: ASYNC110  the facts lie in other processes
                await asyncio.sleep(LOOK)
        except asyncio.CancelledError:
            self.facts.faults.append(f"it waited for {what}")
            raise
