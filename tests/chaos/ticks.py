"""Each tick once, under kills: `python -m tests.chaos.ticks --store redis`; see docs/chaos.md.

Ten nodes carry fifty schedules at one-second cron for two minutes; every three seconds a node is killed, or restarted.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tests.chaos import checker
from tests.chaos.application import periods_of
from tests.chaos.checker import Evidence
from tests.chaos.cluster import Cluster
from tests.chaos.plan import Step
from tests.chaos.run import Verdict, collect, conclude, follow, is_quiet, keep, lasted, pause, say, tick_log
from tests.waiting import eventually

QUIET_WITHIN = 60.0


@dataclass(frozen=True)
class Settings:
    """What a run is asked for. every: seconds between two troubles."""

    store: str = "redis"
    seconds: float = 120.0
    seed: int = 0
    nodes: int = 10
    schedules: int = 50
    lease: float = 2.0
    every: float = 3.0

    def plan(self) -> list[Step]:
        """A kill or a restart each time, of the node that has been left alone for longest."""
        chance = random.Random(self.seed)
        names = list("ABCDEFGHIJKLMNOP")[: self.nodes]
        times = [self.every * n for n in range(1, int(self.seconds / self.every) + 1)]
        return [
            Step(at, chance.choice(["kill", "restart"]), names[n % len(names)], seconds=0.0)
            for n, at in enumerate(times)
        ]


async def ticks(settings: Settings, folder: Path) -> Verdict:
    """Run the schedules under kills, then hold the tick log and the ledger against the moments of the clock."""
    cluster = Cluster(folder, settings.store, settings.nodes, settings.lease, schedules=settings.schedules)
    periods = periods_of(settings.schedules)
    verdict = Verdict()
    async with cluster.running(), cluster.client() as client:
        await follow(settings.plan(), cluster, settings.seconds)
        paused = await pause(client, periods)
        try:
            await eventually(partial(is_quiet, client), QUIET_WITHIN)
        except AssertionError:
            verdict.violations.append(f"it was not quiet within {QUIET_WITHIN:g} s")
        fired, audits = await tick_log(client, periods, paused)
        evidence = await collect(settings.lease, cluster, client, [])
        verdict.violations += await cluster.stop()
    verdict.violations += [*audits, *checker.violations(evidence), *checker.ticks(evidence, fired, periods)]
    if not cluster.troubles:
        verdict.violations.append("nothing was put to the test: no trouble was made")
    verdict.figures = figures(evidence, fired)
    keep(folder / "verdict.json", asdict(verdict))
    return verdict


def figures(e: Evidence, fired: dict[str, list[int]]) -> dict[str, object]:
    """The table at the end."""
    doubled = Counter(each.why or "none" for each in checker.doubled(e))
    moments = {(entry.facts["schedule"], entry.facts["nominal"]) for entry in e.entries if "nominal" in entry.facts}
    return {
        "schedules": len(fired),
        "fired": sum(map(len, fired.values())),
        "moments in the ledger": len(moments),
        "troubles": ", ".join(f"{n} {kind}" for kind, n in Counter(t.kind for t in e.troubles).most_common()),
        "run again after a good end": f"{doubled.total()} ({', '.join(f'{n} {why}' for why, n in doubled.items())})",
        "recovered after kill -9": lasted([each.seconds for each in checker.recoveries(e)]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Each tick once in the whole cluster, while its nodes are killed.")
    parser.add_argument("--store", choices=["redis", "sqlite"], default="redis")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=None, help="plays a plan again (default: a new one)")
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--schedules", type=int, default=50)
    args = parser.parse_args()
    seed = random.randrange(1_000_000) if args.seed is None else args.seed
    settings = Settings(args.store, args.seconds, seed, args.nodes, args.schedules)
    folder = Path(tempfile.mkdtemp(prefix="duly-ticks-"))
    say(
        f"{args.store}, {args.seconds:g} s, {args.nodes} nodes, {args.schedules} schedules, seed {seed}, evidence in {folder}"
    )
    return conclude(asyncio.run(ticks(settings, folder)), folder)


if __name__ == "__main__":
    sys.exit(main())
