"""Cron on one of five machines, which are killed, stopped, cut off and restarted: `python -m tests.chaos.cron --driver etcd`.

Each of the names ticks every second. At the end every tick has to have run once; see docs/chaos.md.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.acceptance.nodes import Ledger, NodeProcess
from tests.chaos.cluster import Doors
from tests.chaos.run import Verdict, conclude, say
from tests.etcd import EtcdServer
from tests.servers import HOST, Server

KINDS = ("redis", "redis-zset", "etcd")
TROUBLES = {"kill": 4, "stop": 3, "hole": 3, "cut": 2, "restart": 2}
WELL = 2
"""Nodes that are left alone at any time."""
SETTLED = 10.0  # seconds at the end, in which everything is made up for
TAKEN_OVER = 0.5  # seconds: what is later than this was taken over
PROMISED = 5.0


@dataclass(frozen=True)
class Settings:
    """What a run is asked for."""

    driver: str = "redis"
    seconds: float = 180.0
    seed: int = 0
    nodes: int = 5
    names: int = 200


class Machines:
    """The nodes, each with a door of its own before the place where they meet."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        is_etcd = settings.driver == "etcd"
        self.server: Server = EtcdServer(folder / "etcd") if is_etcd else Server("redis", folder / "redis")
        self.ledger = Ledger(folder / "ledger")
        self.nodes: list[NodeProcess] = []
        self.busy: set[int] = set()
        self.troubles: Counter[str] = Counter()
        self.kills: list[tuple[int, float]] = []  # (pid, when, by the wall clock)
        self._starts = 0

    def start(self) -> None:
        self.server.start()
        self.doors = Doors(self.server.port, self.settings.nodes, self.folder / "proxy.log")
        self.nodes = [self._start(n) for n in range(self.settings.nodes)]
        for node in self.nodes:
            node.says("is up", 30)

    def _start(self, n: int) -> NodeProcess:
        self._starts += 1
        scheme = "http" if self.settings.driver == "etcd" else "redis"
        url = f"{scheme}://{HOST}:{self.doors.ports[n]}"
        log = self.folder / f"{n}-{self._starts:03}.log"
        arguments = (self.settings.driver, url, str(self.ledger.path), str(self.settings.names))
        return NodeProcess(log, "-m", "tests.chaos.cron_node", *arguments).start()

    async def trouble(self, n: int, kind: str, seconds: float) -> None:
        """Make it, bear it, undo it."""
        self.busy.add(n)
        self.troubles[kind] += 1
        node = self.nodes[n]
        if kind == "stop":
            node.stop_signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            node.stop_signal(signal.SIGCONT)
        elif kind == "hole":
            await asyncio.to_thread(self.doors.order, n, "hole")
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self.doors.order, n, "pass")
        elif kind == "cut":
            await asyncio.to_thread(self.doors.order, n, "cut")
        else:
            if kind == "kill":
                self.kills.append((node.pid, time.time()))
            else:
                node.stop_signal()
                await asyncio.to_thread(node.wait)
            await asyncio.to_thread(node.kill)
            await asyncio.sleep(seconds / 2)
            self.nodes[n] = self._start(n)
            await asyncio.to_thread(self.nodes[n].says, "is up", 30)
        self.busy.discard(n)

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()
        if hasattr(self, "doors"):
            self.doors.close()
        self.server.kill()


async def chaos(settings: Settings, folder: Path) -> Verdict:
    machines, chance = Machines(settings, folder), random.Random(settings.seed)
    try:
        await asyncio.to_thread(machines.start)
        await asyncio.sleep(2)
        first, until = int(time.time()) + 1, time.monotonic() + settings.seconds
        async with asyncio.TaskGroup() as troubles:
            while time.monotonic() < until:
                await asyncio.sleep(chance.uniform(0.5, 3))
                free = [n for n in range(settings.nodes) if n not in machines.busy]
                if len(free) > WELL:
                    kind = chance.choices(list(TROUBLES), list(TROUBLES.values()))[0]
                    troubles.create_task(machines.trouble(chance.choice(free), kind, chance.uniform(0.3, 8)))
        await asyncio.sleep(SETTLED)
    finally:
        await asyncio.to_thread(machines.stop)
    return judge(machines, first, int(time.time()) - int(SETTLED))


def judge(machines: Machines, first: int, last: int) -> Verdict:
    """Every second of every name once, and taken over in time."""
    entries = machines.ledger.read("tick")
    ran = Counter((entry.job, entry.facts["second"]) for entry in entries)
    wanted = {(f"name {n}", second) for n in range(machines.settings.names) for second in range(first, last + 1)}
    lost = sorted(wanted - ran.keys(), key=lambda tick: tick[1])
    before_a_kill = [tick for tick in lost if any(0 <= at - tick[1] < PROMISED for _, at in machines.kills)]
    doubled = sorted(tick for tick, count in ran.items() if count > 1)
    late = sorted(entry.facts["late"] for entry in entries if (entry.job, entry.facts["second"]) in wanted)
    over = [seconds for seconds in late if seconds > TAKEN_OVER]
    percentile = statistics.quantiles(over, n=100)[98] if len(over) > 1 else max(over, default=0.0)
    verdict = Verdict()
    figures: dict[str, Any] = {
        "ticks": len(wanted),
        "troubles": ", ".join(f"{count} {kind}" for kind, count in machines.troubles.most_common()),
        "doubled": len(doubled),
        "lost": len(lost),
        f"  due within {PROMISED:g} s before a kill": len(before_a_kill),
        "taken over": f"{len(over)}, p99 {percentile:.2f} s, max {max(over, default=0.0):.2f} s",
        "late, all": f"median {statistics.median(late) * 1000:.1f} ms",
    }
    verdict.figures = figures
    verdict.violations += [f"doubled: {tick}" for tick in doubled[:10]] + [f"lost: {tick}" for tick in lost[:10]]
    if percentile > PROMISED:
        verdict.violations.append(f"taken over after {percentile:.2f} s, not within {PROMISED:g} s")
    if not machines.troubles or not entries:
        verdict.violations.append("nothing was put to the test")
    return verdict


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driver", choices=KINDS, default="redis")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--names", type=int, default=200)
    args = parser.parse_args()
    seed = random.randrange(1_000_000) if args.seed is None else args.seed
    settings = Settings(args.driver, args.seconds, seed, args.nodes, args.names)
    folder = Path(tempfile.mkdtemp(prefix="duly-cron-"))
    say(f"{args.driver}, {args.seconds:g} s, {args.nodes} nodes, {args.names} names, seed {seed}, evidence in {folder}")
    return conclude(asyncio.run(chaos(settings, folder)), folder)


if __name__ == "__main__":
    sys.exit(main())
