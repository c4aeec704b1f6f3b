"""Four worker processes on one SQLite file, killed at random: nothing is lost, nothing settled twice, each tick fired once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from duly import JobHandle, Scheduler, every
from duly.testing.conformance.kit import walk
from tests.acceptance.nodes import Ledger, NodeProcess
from tests.stores.test_sqlite import check_soundness
from tests.waiting import eventually

NODES = 4
KILLS = 8
BETWEEN_KILLS = 0.4  # seconds of traffic
EVERY_MS = 200
SETTLED_WITHIN = 30.0


class Ordeal:
    """One file, four nodes, and a client that pushes while they are killed."""

    def __init__(self, folder: Path) -> None:
        self.path, self.ledger = folder / "duly.db", Ledger(folder / "ledger")
        self.url = f"sqlite:///{self.path}"
        env = {"DULY_URL": self.url, "DULY_LEASE": "1", "LEDGER": str(self.ledger.path), "DULY_GRACE": "5"}
        target = "tests.acceptance.killing:scheduler"
        self.nodes = [
            NodeProcess(folder / f"{name}.log", "-m", "duly", "worker", target, env=env) for name in "ABCD"[:NODES]
        ]
        self.said: dict[NodeProcess, int] = {}
        self.often: list[JobHandle[None]] = []
        self.once: list[JobHandle[None]] = []

    def start(self, node: NodeProcess) -> None:
        self.said[node] = len(node.output)
        node.start()

    async def push_for_ever(self, client: Scheduler) -> None:
        while True:
            pushes = (client.push(task, remote=True) for task in ["often"] * 12 + ["once"] * 8)
            handles = await asyncio.gather(*pushes)
            self.often += handles[:12]
            self.once += handles[12:]
            await asyncio.sleep(0.02)

    async def run(self, kills: int) -> None:
        """Start, push, kill and start anew; then let everything end, and stop the nodes."""
        for node in self.nodes:
            self.start(node)
        async with Scheduler(self.url, push_timeout=20) as client:
            await client.schedules.put("tick", every(milliseconds=EVERY_MS), "often", remote=True, catch_up="all")
            await eventually(lambda: len(self.ledger.read("settled")) > NODES)
            pushing = asyncio.create_task(self.push_for_ever(client))
            for _ in range(kills):
                await asyncio.wait([pushing], timeout=BETWEEN_KILLS * (0.5 + random.random()))
                assert not pushing.done(), pushing.exception()
                victim = random.choice(self.nodes)
                await asyncio.to_thread(victim.kill)
                self.start(victim)
            pushing.cancel()
            await asyncio.wait([pushing])
            await client.schedules.pause("tick")
            await eventually(lambda: self.is_quiet(client), SETTLED_WITHIN)
            await self.check(client)
        for node in self.nodes:
            await eventually(partial(self.is_up, node))
            node.stop_signal()
        assert [await asyncio.to_thread(node.wait) for node in self.nodes] == [0] * NODES

    def is_up(self, node: NodeProcess) -> bool:
        """Whether it has come up since it was last started."""
        return ": namespace " in node.output[self.said[node] :]

    async def is_quiet(self, client: Scheduler) -> bool:
        sizes = await client.queues.sizes()
        return sizes.pending == 0 and sizes.leased == 0

    async def check(self, client: Scheduler) -> None:
        begun, ended, settled = (
            Counter(entry.job for entry in self.ledger.read(what)) for what in ("begin", "end", "settled")
        )
        lost = {record.id for record in await walk(client.shard("default"), "dead")}
        often, once = ({handle.id for handle in handles} for handles in (self.often, self.once))
        assert not often - ended.keys(), "accepted, and never run to its end"
        assert not lost - once, "dead, and yet it may run again"
        assert all(begun[id] <= 1 for id in once), "run twice, and asked to be at most once"
        assert not once - ended.keys() - lost, "neither run to its end nor visibly lost"
        assert not lost & settled.keys(), "settled, and lost all the same"
        self.check_that_ends_are_ends(settled)
        await self.check_ticks(client, ended)

    def check_that_ends_are_ends(self, settled: Counter[str]) -> None:
        """No end is written twice, and nothing runs after it."""
        assert all(count == 1 for count in settled.values()), "settled twice"
        fences: dict[str, list[int]] = {}
        for entry in self.ledger.read("begin"):
            fences.setdefault(entry.job, []).append(entry.facts["fence"])
        assert all(len(set(found)) == len(found) for found in fences.values()), "two runs under one fence"
        over: set[str] = set()
        for entry in self.ledger.read():
            if entry.what == "settled":
                over.add(entry.job)
            elif entry.what == "begin":
                assert entry.job not in over, f"{entry} runs after its end"

    async def check_ticks(self, client: Scheduler, ended: Counter[str]) -> None:
        page = await client.shard("default").history("ticks", "", 10_000)
        nominals = [int(fields["nominal"]) for _, fields in page.items if fields["state"] == "fired"]
        assert len(nominals) >= 10
        assert not [fields for _, fields in page.items if fields["state"] == "skipped"]
        assert nominals == list(range(nominals[0], nominals[-1] + 1, EVERY_MS)), "one is missing, or there twice"
        assert {f"tick@{nominal}" for nominal in nominals} == {id for id in ended if id.startswith("tick@")}


@pytest.fixture
def ordeal(tmp_path: Path) -> Iterator[Ordeal]:
    ordeal = Ordeal(tmp_path)
    yield ordeal
    for node in ordeal.nodes:
        node.kill()
        print(f"--- {node}\n{node.output}")  # noqa: T201  shown when the test fails


@pytest.mark.slow
async def test_nothing_is_lost_or_settled_twice_when_processes_are_killed(ordeal: Ordeal) -> None:
    await ordeal.run(KILLS)
    check_soundness(ordeal.path)
