"""Cron on one of five machines, which are killed, stopped, cut off and restarted: `python -m tests.chaos.cron --driver etcd`.

Each of the names ticks every second. At the end every tick has to have run once. Of one that did not, the store is asked who
had claimed it, as long as it knows; see docs/chaos.md.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from duly.cluster.members import CLAIM_KEPT_MS
from duly.stores.redis.keys import PoolKeys
from tests.acceptance.nodes import Entry, Ledger, NodeProcess
from tests.chaos.cluster import Doors, faults_in
from tests.chaos.run import Verdict, conclude, keep, say
from tests.etcd import EtcdServer
from tests.servers import HOST, Server

KINDS = ("redis", "redis-zset", "etcd")
TROUBLES = {"kill": 4, "stop": 3, "hole": 3, "cut": 2, "restart": 2}
WELL = 2
"""Nodes that are left alone at any time."""
TAKEN_OVER = 0.5  # seconds: what is later than this was taken over
PROMISED = 5.0
INQUIRIES = 40.0  # seconds from one to the next: the store knows of a claim for two minutes
MISSING = 12.0  # seconds after which it is asked who has a tick
CLAIMED_WITHIN = 60  # seconds, at most, after a tick, of the claim with which it was granted
IN_A_CLAIM = 1.0
"""Seconds: a process that was killed so soon may have been killed between its claim and the first step."""
WITH_ITS_NODE = "lost with its node"
"""How the sentences begin about ticks that no node can save: nobody knows whether the killed one had begun."""

Missed = tuple[str, int]
"""A name, and the second that was its tick."""


@dataclass(frozen=True)
class Settings:
    """What a run is asked for. timeout: of the pool; pauses: between troubles, lasting: of one, from and to; settled: at the
    end, for everything to be made up for. All in seconds."""

    driver: str = "redis"
    seconds: float = 180.0
    seed: int = 0
    nodes: int = 5
    names: int = 200
    timeout: float = 3.0
    pauses: tuple[float, float] = (0.5, 3.0)
    lasting: tuple[float, float] = (0.3, 8.0)
    settled: float = 10.0
    has_journals: bool = True


class Grant(NamedTuple):
    """Which member has a tick, by what the store keeps of it, and when it was claimed (by the wall clock, about)."""

    holder: str
    at: float


class Machines:
    """The nodes, each with a door of its own before the place where they meet."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.settings, self.folder = settings, folder
        is_etcd = settings.driver == "etcd"
        self.server: Server = EtcdServer(folder / "etcd") if is_etcd else Server("redis", folder / "redis")
        self.ledger = Ledger(folder / "ledger")
        self.nodes: list[NodeProcess] = []
        self.busy: set[int] = set()
        self.troubles: list[dict[str, Any]] = []
        self.faults: list[str] = []
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
        settings = self.settings
        journal = str(self.folder / f"{n}.journal") if settings.has_journals else ""
        words = (settings.driver, url, str(self.ledger.path), str(settings.names), str(settings.timeout), journal)
        return NodeProcess(log, "-m", "tests.chaos.cron_node", *words).start()

    async def trouble(self, n: int, kind: str, seconds: float) -> None:
        """Make it, bear it, undo it."""
        self.busy.add(n)
        node = self.nodes[n]
        self.troubles.append({"kind": kind, "node": n, "pid": node.pid, "at": time.time(), "seconds": seconds})
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
            await asyncio.to_thread(self._end, node, gently=kind == "restart")
            await asyncio.sleep(seconds / 2)
            self.nodes[n] = self._start(n)
            await asyncio.to_thread(self.nodes[n].says, "is up", 30)
        self.busy.discard(n)

    def _end(self, node: NodeProcess, *, gently: bool) -> None:
        if node.code is not None:
            self.faults.append(f"{node} ended by itself, with {node.code}")
        elif gently:
            node.stop_signal()
            try:
                code = node.wait()
            except AssertionError:
                self.faults.append(f"{node} did not stop in time")
            else:
                self.faults += [f"{node} ended with {code} when it was asked to stop"] if code else []
        node.kill()

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()
        if hasattr(self, "doors"):
            self.doors.close()
        self.server.kill()

    @property
    def kills(self) -> dict[int, float]:
        """pid -> when it was killed, by the wall clock."""
        return {trouble["pid"]: trouble["at"] for trouble in self.troubles if trouble["kind"] == "kill"}

    @property
    def members(self) -> dict[str, int]:
        """Member -> the pid of its process, by the logs."""
        logs = "".join(log.read_text(errors="replace") for log in self.folder.glob("*.log"))
        return {id: int(pid) for id, pid in re.findall(r"is up as (\S+) in process (\d+)", logs)}


class Inquest:
    """Who had the ticks that have not run, asked before the store forgets it."""

    def __init__(self, machines: Machines, first: int) -> None:
        self.machines, self.first, self._from = machines, first, first
        self.grants: dict[Missed, Grant | None] = {}

    async def go_on(self) -> None:
        while True:
            await asyncio.sleep(INQUIRIES)
            await asyncio.to_thread(self.ask, int(time.time() - MISSING))

    def ask(self, last: int) -> None:
        """About all ticks up to that second that were not asked for before."""
        ran = {(entry.job, entry.facts["second"]): ran_at(entry) for entry in self.machines.ledger.read("tick")}
        missed = wanted(self.machines.settings, self._from, last) - ran.keys()
        self._from = last + 1
        asked = self._etcd if isinstance(self.machines.server, EtcdServer) else self._redis
        self.grants |= {tick: asked(tick, ran) for tick in sorted(missed)}

    def _redis(self, tick: Missed, ran: Mapping[Missed, float]) -> Grant | None:
        name, second = tick
        keys = [PoolKeys("duly", "default").tick(name, 1000 * n) for n in range(second, second + CLAIMED_WITHIN)]
        with self.machines.server.client() as client:
            for key, found in zip(keys, client.mget(keys), strict=True):
                if found is not None:
                    holder, _, before = found.decode().partition(" ")
                    at = time.time() - (CLAIM_KEPT_MS - client.pttl(key)) / 1000
                    return Grant(holder, at) if not before or int(before) < 1000 * second else None
        return None

    def _etcd(self, tick: Missed, ran: Mapping[Missed, float]) -> Grant | None:
        name, second = tick
        assert isinstance(self.machines.server, EtcdServer)
        ask, root = self.machines.server.ask, "duly/pool/default/tick/"
        keys = [b64(f"{root}{1000 * n}/{name}") for n in range(second, second + CLAIMED_WITHIN)]
        answer = ask("kv/txn", success=[{"request_range": {"key": key}} for key in keys])
        for found in (entry for each in answer["responses"] for entry in each["response_range"].get("kvs", ())):
            holder, _, before = b64decode(found["value"]).decode().partition(" ")
            if before and int(before) >= 1000 * second:
                return None
            earlier = ask(
                "kv/range", key=b64(root), range_end=b64(root[:-1] + "0"), max_create_revision=found["create_revision"],
                sort_target="CREATE", sort_order="DESCEND", limit="500", keys_only=True,
            )  # fmt: skip
            for entry in earlier["kvs"]:  # etcd keeps no times: the run of what was claimed just before tells it
                moment, _, other = b64decode(entry["key"]).decode().removeprefix(root).partition("/")
                if (other, int(moment) // 1000) in ran:
                    return Grant(holder, ran[other, int(moment) // 1000])
            return Grant(holder, float("nan"))
        return None


def b64(text: str) -> str:
    return b64encode(text.encode()).decode()


def ran_at(entry: Entry) -> float:
    at: float = entry.facts["second"] + entry.facts["late"]
    return at


def wanted(settings: Settings, first: int, last: int) -> set[Missed]:
    return {(f"name {n}", second) for n in range(settings.names) for second in range(first, last + 1)}


async def chaos(settings: Settings, folder: Path) -> Verdict:
    machines, chance = Machines(settings, folder), random.Random(settings.seed)
    try:
        await asyncio.to_thread(machines.start)
        await asyncio.sleep(settings.timeout)
        inquest = Inquest(machines, int(time.time()) + 1)
        asking = asyncio.create_task(inquest.go_on())
        await make_troubles(machines, chance)
        await asyncio.sleep(settings.settled)
        asking.cancel()
        await asyncio.wait([asking])
        last = int(time.time() - settings.settled)
        await asyncio.to_thread(inquest.ask, last)
    finally:
        await asyncio.to_thread(machines.stop)
    verdict = judge(machines, inquest, last)
    keep(folder / "troubles.json", machines.troubles)
    keep(folder / "verdict.json", asdict(verdict))
    return verdict


async def make_troubles(machines: Machines, chance: random.Random) -> None:
    """By chance, to nodes that have none, until the time is over; returns when all are undone."""
    settings = machines.settings
    until = time.monotonic() + settings.seconds
    async with asyncio.TaskGroup() as troubles:
        while time.monotonic() < until:
            await asyncio.sleep(chance.uniform(*settings.pauses))
            free = [n for n in range(settings.nodes) if n not in machines.busy]
            if len(free) > WELL:
                kind = chance.choices(list(TROUBLES), list(TROUBLES.values()))[0]
                troubles.create_task(machines.trouble(chance.choice(free), kind, chance.uniform(*settings.lasting)))


def judge(machines: Machines, inquest: Inquest, last: int) -> Verdict:
    """Every second of every name once, and taken over in time."""
    entries = machines.ledger.read("tick")
    ran = Counter((entry.job, entry.facts["second"]) for entry in entries)
    ticks = wanted(machines.settings, inquest.first, last)
    lost = [
        reason_of(tick, inquest.grants.get(tick), machines) for tick in sorted(ticks - ran.keys(), key=lambda t: t[1])
    ]
    with_nodes = [sentence for sentence in lost if sentence.startswith(WITH_ITS_NODE)]
    doubled = sorted(tick for tick, count in ran.items() if count > 1)
    late = sorted(entry.facts["late"] for entry in entries if (entry.job, entry.facts["second"]) in ticks)
    over = [seconds for seconds in late if seconds > TAKEN_OVER]
    percentile = statistics.quantiles(over, n=100)[98] if len(over) > 1 else max(over, default=0.0)
    kinds = Counter(trouble["kind"] for trouble in machines.troubles)
    verdict = Verdict()
    verdict.figures = {
        "ticks": len(ticks),
        "troubles": ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()),
        "doubled": len(doubled),
        "lost": len(lost),
        "  killed in the claim": len(with_nodes),
        "taken over": f"{len(over)}, p99 {percentile:.2f} s, max {max(over, default=0.0):.2f} s",
        "late, all": f"median {statistics.median(late) * 1000:.1f} ms" if late else "",
    }
    verdict.violations += [f"doubled: {tick}" for tick in doubled[:10]]
    verdict.violations += [sentence for sentence in lost if sentence not in with_nodes][:20] + with_nodes[:20]
    verdict.violations += machines.faults + [found for log in machines.folder.glob("*.log") for found in faults_in(log)]
    if percentile > PROMISED:
        verdict.violations.append(f"taken over after {percentile:.2f} s, not within {PROMISED:g} s")
    if not machines.troubles or not entries:
        verdict.violations.append("nothing was put to the test")
    return verdict


def reason_of(tick: Missed, grant: Grant | None, machines: Machines) -> str:
    """What became of a tick that did not run."""
    if grant is None:
        return f"lost: {tick}: nobody has claimed it"
    pid = machines.members.get(grant.holder)
    killed = machines.kills.get(pid or 0)
    claimed = f"claimed {grant.at - tick[1]:.3f} s after it was due by process {pid}"
    if killed is None:
        return f"lost: {tick}: {claimed}, which was not killed"
    if not min(abs(killed - grant.at), abs(killed - tick[1])) <= IN_A_CLAIM:
        return f"lost: {tick}: {claimed}, which was killed {killed - grant.at:.3f} s later"
    return f"{WITH_ITS_NODE}: {tick}: {claimed}, which was killed {(killed - grant.at) * 1000:.0f} ms later"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driver", choices=KINDS, default="redis")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--names", type=int, default=200)
    parser.add_argument(
        "--without-journals", action="store_true", help="what is killed in the middle of a claim is lost"
    )
    args = parser.parse_args()
    seed = random.randrange(1_000_000) if args.seed is None else args.seed
    settings = Settings(args.driver, args.seconds, seed, args.nodes, args.names, has_journals=not args.without_journals)
    folder = Path(tempfile.mkdtemp(prefix="duly-cron-"))
    say(f"{args.driver}, {args.seconds:g} s, {args.nodes} nodes, {args.names} names, seed {seed}, evidence in {folder}")
    return conclude(asyncio.run(chaos(settings, folder)), folder)


if __name__ == "__main__":
    sys.exit(main())
