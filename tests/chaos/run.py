"""One run of chaos: `python -m tests.chaos.run --store redis --minutes 30 --seed 7`; see docs/chaos.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from duly import Scheduler
from tests.chaos import checker, clocks
from tests.chaos.application import periods_of
from tests.chaos.checker import Evidence, Pushed
from tests.chaos.cluster import Cluster
from tests.chaos.load import Load
from tests.chaos.plan import Step, make_plan
from tests.chaos.stores import KINDS
from tests.stores.test_sqlite import check_soundness
from tests.waiting import eventually

PUSH_TIMEOUT = 3.0  # seconds: some pushes shall end in doubt
PAGE = 500
CAUGHT_UP = 1.0  # seconds that a schedule may be behind while nothing is wrong
SCHEDULES = 3
PERIODS_MS = periods_of(SCHEDULES)


@dataclass(frozen=True)
class Settings:
    """What a run is asked for. recovery: seconds, None for what is promised (one and a half leases)."""

    store: str = "redis"
    seconds: float = 60.0
    seed: int = 0
    nodes: int = 4
    lease: float = 2.0
    rate: float = 20.0
    recovery: float | None = None

    def plan(self, kinds: Mapping[str, int]) -> list[Step]:
        kinds = {kind: weight for kind, weight in kinds.items() if kind != "shift" or clocks.library() is not None}
        return make_plan(self.seed, self.seconds, list("ABCDEFGHIJKLMNOP")[: self.nodes], self.lease, kinds)


@dataclass
class Verdict:
    """violations: a sentence for each broken promise. figures: name -> what was counted or measured."""

    violations: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{name:<28} {value}" for name, value in self.figures.items()]
        return "\n".join([*lines, *(f"VIOLATION {sentence}" for sentence in self.violations)])


async def chaos(settings: Settings, folder: Path) -> Verdict:
    """Set up, push, make trouble by the plan, heal, wait until all is done, judge. The evidence stays in the folder."""
    cluster = Cluster(folder, settings.store, settings.nodes, settings.lease, schedules=SCHEDULES)
    plan = settings.plan(cluster.store.kinds)
    keep(folder / "settings.json", asdict(settings))
    keep(folder / "plan.json", [asdict(step) for step in plan])
    show(plan)
    async with cluster.running(), cluster.client(push_timeout=PUSH_TIMEOUT) as client:
        load = Load(client, settings.seed, settings.rate, settings.lease)
        pushing = asyncio.create_task(load.push_for_ever())
        await follow(plan, cluster, settings.seconds)
        pushing.cancel()
        await asyncio.wait([pushing])
        if not pushing.cancelled():
            pushing.result()
        verdict = await judge(settings, cluster, client, load)
    if settings.store == "sqlite":
        check_soundness(folder / "duly.db")
    keep(folder / "verdict.json", asdict(verdict))
    return verdict


async def follow(plan: Sequence[Step], cluster: Cluster, seconds: float) -> None:
    """Each step at its time, whatever the others are doing; returns when all are undone."""
    begin = time.monotonic()
    async with asyncio.TaskGroup() as steps:
        for step in plan:
            await asyncio.sleep(max(0.0, begin + step.at - time.monotonic()))
            steps.create_task(cluster.do(step))
        await asyncio.sleep(max(0.0, begin + seconds - time.monotonic()))


async def judge(settings: Settings, cluster: Cluster, client: Scheduler, load: Load) -> Verdict:
    """Let everything end, stop the nodes, and hold the evidence against the promises."""
    verdict = Verdict()
    paused = await pause(client, PERIODS_MS)
    began = time.monotonic()
    within = 60 + 12 * settings.lease
    try:
        await eventually(partial(is_quiet, client), within)
    except AssertionError:
        verdict.violations.append(f"it was not quiet within {within:g} s after the last trouble")
    drained = time.monotonic() - began
    fired, audits = await tick_log(client, PERIODS_MS, paused)
    evidence = await collect(settings.lease, cluster, client, load.pushed)
    verdict.violations += await cluster.stop()
    verdict.violations += [*audits, *checker.violations(evidence), *checker.ticks(evidence, fired, PERIODS_MS)]
    bound = 1.5 * settings.lease if settings.recovery is None else settings.recovery
    verdict.violations += checker.slow_recoveries(evidence, bound)
    if not (cluster.troubles and evidence.ended):
        verdict.violations.append("nothing was put to the test: no trouble was made, or no job ended")
    verdict.figures = figures(evidence, fired) | {"drained within": f"{drained:.1f} s"}
    keep(cluster.folder / "troubles.json", [asdict(trouble) for trouble in cluster.troubles])
    keep(cluster.folder / "pushed.json", [asdict(push) for push in load.pushed])
    return verdict


async def is_quiet(client: Scheduler) -> bool:
    sizes = await client.queues.sizes()
    return sizes.pending == 0 and sizes.leased == 0


async def pause(client: Scheduler, names: Iterable[str]) -> float:
    """Wait until all are caught up, and pause them; the store's time of that in epoch seconds."""

    async def are_caught_up() -> bool:
        now = (await client.queues.sizes()).now / 1000
        found = [await client.schedules.get(name) for name in names]
        return all(view is not None and view.next is not None and view.next > now - CAUGHT_UP for view in found)

    await eventually(are_caught_up, 60)
    now: float = (await client.queues.sizes()).now / 1000
    for name in names:
        await client.schedules.pause(name)
    return now


async def tick_log(
    client: Scheduler, periods: Mapping[str, int], paused: float
) -> tuple[dict[str, list[int]], list[str]]:
    """Schedule -> the moments that the store says were fired, in its order; and what `audit` has found.

    A moment that came just before the pause may not have been fired by it.
    """
    fired: dict[str, list[int]] = {name: [] for name in periods}
    found: list[str] = []
    cursor = ""
    while True:
        page = await client.shard("default").history("ticks", cursor, PAGE)
        for _, fields in page.items:
            if fields["state"] == "fired":
                fired.setdefault(fields["schedule"], []).append(int(fields["nominal"]))
            elif fields["state"] == "skipped":
                found.append(f"tick: {fields['schedule']} skipped {fields['count']}: {fields['why']}")
        if len(page.items) < PAGE:
            break
        cursor = page.cursor
    for name in periods:
        audit = await client.schedules.audit(name)
        if not audit.is_clean or any(moment < paused - CAUGHT_UP for moment in audit.overdue):
            found.append(f"tick: the audit of {name}: {audit}")
    return fired, found


async def collect(lease: float, cluster: Cluster, client: Scheduler, pushed: Sequence[Pushed]) -> Evidence:
    """What the store has at the end, beside the ledger."""
    places: dict[str, dict[str, str]] = {"dead": {}, "pending": {}, "leased": {}}
    for state, jobs in places.items():
        cursor = ""
        while True:
            views, cursor = await client.jobs.list(state, limit=PAGE, cursor=cursor)  # type: ignore[arg-type]
            jobs |= {view.id: view.reason if state == "dead" else state for view in views}
            if not cursor:
                break
    left = places["pending"] | places["leased"]
    return Evidence(lease, pushed, cluster.ledger.read(), cluster.troubles, places["dead"], left)


def figures(e: Evidence, fired: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """The table at the end."""
    answers = Counter(push.answer for push in e.pushed)
    reasons = Counter(each.why or "none" for each in checker.doubled(e))
    deaths = Counter(reason.partition(":")[0] for reason in e.dead.values())
    found = checker.recoveries(e)
    return {
        "pushed": ", ".join(f"{count} {answer}" for answer, count in answers.most_common()),
        "runs": sum(map(len, e.runs.values())),
        "ticks": sum(map(len, fired.values())),
        "troubles": ", ".join(f"{n} {kind}" for kind, n in Counter(t.kind for t in e.troubles).most_common()),
        "lost": sum(1 for _ in checker.lost(e)),
        "at most once, doubled": sum(1 for _ in checker.doubled_once(e)),
        "at least once, doubled": f"{reasons.total()} ({', '.join(f'{n} {why}' for why, n in reasons.most_common())})",
        "visibly dead": ", ".join(f"{n} {why}" for why, n in deaths.most_common()) or "none",
        "recovered after kill -9": lasted([each.seconds for each in found]),
        "  with nothing else wrong": lasted([each.seconds for each in found if not each.disturbed]),
    }


def lasted(seconds: Sequence[float]) -> str:
    if not seconds:
        return "0"
    return f"{len(seconds)}, median {statistics.median(seconds):.2f} s, max {max(seconds):.2f} s"


def keep(path: Path, what: Any) -> None:
    path.write_text(json.dumps(what, indent=1))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Real processes on a real store, and everything that can happen to them."
    )
    parser.add_argument("--store", choices=[*KINDS, "clock"], default="redis", help="clock: one whose clock jumps")
    parser.add_argument("--minutes", type=Fraction, default=Fraction(5), help="also as 30/6")
    parser.add_argument("--seed", type=int, default=None, help="plays a plan again (default: a new one)")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--lease", type=float, default=2.0, help="seconds")
    parser.add_argument("--rate", type=float, default=20.0, help="pushes a second")
    parser.add_argument("--recovery", type=float, help="seconds that a recovery may take (default: 1.5 leases)")
    parser.add_argument(
        "--folder", type=Path, help="where the evidence goes (default: a new one, removed if all is well)"
    )
    return parser.parse_args()


def main() -> int:
    args = arguments()
    seed = random.randrange(1_000_000) if args.seed is None else args.seed
    seconds = float(args.minutes * 60)
    settings = Settings(args.store, seconds, seed, args.nodes, args.lease, args.rate, args.recovery)
    folder = args.folder or Path(tempfile.mkdtemp(prefix="duly-chaos-"))
    say(f"{args.store}, {float(args.minutes):g} min, seed {seed}, evidence in {folder}")
    if clocks.library() is None:
        say("libfaketime is not installed: the clocks of the nodes stay right")
    return conclude(asyncio.run(chaos(settings, folder)), folder, keeps=args.folder is not None)


def conclude(verdict: Verdict, folder: Path, *, keeps: bool = False) -> int:
    """Say it; the evidence stays if a promise was broken, or if it was asked for. The exit code."""
    say(str(verdict))
    if not verdict.violations and not keeps:
        shutil.rmtree(folder)
    return bool(verdict.violations)


def show(plan: Sequence[Step]) -> None:
    for step in plan:
        say(f"  {step.at:8.2f} s  {step.kind:<8} {step.target:<6} {step.seconds:6.2f} s {step.amount:+.2f}")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
