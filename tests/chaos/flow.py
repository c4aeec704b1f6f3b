"""Thousands of jobs a second, and a server dies under them: `python -m tests.chaos.flow failover`; see docs/chaos.md.

failover    a primary behind Sentinel is killed: how soon work goes on, and what is lost.
outage      one of three servers is killed, and comes back after a while: what the others do meanwhile.
rebalance   a fourth server is added to three with many jobs pending, while nodes run them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from duly import Context, Scheduler
from duly.errors import ConfigurationError, DulyError
from duly.task import JobRequest
from tests.chaos.run import is_quiet, say
from tests.servers import Server
from tests.topologies import Independent, Member, Replicated
from tests.waiting import eventually

TURN = 0.02  # seconds between two handfuls of pushes
BEFORE, AFTER = 5.0, 10.0  # seconds of undisturbed load before the trouble, and after it
QUIET_WITHIN = 120.0
RESTARTED_AFTER = 2.0  # seconds after the election; until then nothing is confirmed by a replica
ON_DISK = ("--appendonly", "yes", "--appendfsync", "everysec")  # kill -9 takes nothing that was written


@dataclass
class Flow:
    """What was pushed and what ran. Times are those of the process's monotonic clock."""

    answered: dict[str, float] = field(default_factory=dict)
    homes: dict[str, int] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)
    runs: dict[str, list[float]] = field(default_factory=dict)

    def declare(self, scheduler: Scheduler, seconds: float = 0.0) -> Scheduler:
        @scheduler.task(name="note")
        async def note(ctx: Context) -> None:
            self.runs.setdefault(ctx.job.id, []).append(time.monotonic())
            if seconds:
                await asyncio.sleep(seconds)

        return scheduler

    async def push_for_ever(self, client: Scheduler, rate: float) -> None:
        """Handfuls of single pushes, whatever has become of the ones before."""
        begun, count = time.monotonic(), 0
        async with asyncio.TaskGroup() as pushes:
            while True:
                wanted = round((time.monotonic() - begun) * rate)
                for _ in range(count, wanted):
                    pushes.create_task(self._push(client, client.request("note", remote=True)))
                count = max(count, wanted)
                await asyncio.sleep(TURN)

    async def _push(self, client: Scheduler, request: JobRequest) -> None:
        self.homes[request.new.id] = client.shards.place_of_job("default", request.new).server
        try:
            await client.push_request(request)
            self.answered[request.new.id] = time.monotonic()
        except DulyError as error:
            self.failed[type(error).__name__] += 1

    def lost(self) -> set[str]:
        return self.answered.keys() - self.runs.keys()

    def doubled(self) -> int:
        return sum(len(runs) > 1 for runs in self.runs.values())

    def begun(self, ids: Iterable[str] | None = None) -> list[float]:
        """When runs began, in order; of these jobs alone, if given."""
        chosen = self.runs.values() if ids is None else (self.runs[id] for id in ids if id in self.runs)
        return sorted(at for runs in chosen for at in runs)


def longest_pause(moments: list[float], begin: float, end: float) -> float:
    """Seconds without any of the moments, between two times."""
    inside = [begin, *(at for at in moments if begin <= at <= end), end]
    return max(b - a for a, b in itertools.pairwise(inside))


def rate(moments: list[float], begin: float, end: float) -> float:
    return sum(begin <= at < end for at in moments) / (end - begin)


async def pushing(flow: Flow, client: Scheduler, per_second: float, trouble: Any) -> None:
    """Load, the trouble in the midst of it, load; and the end of all jobs."""
    load = asyncio.create_task(flow.push_for_ever(client, per_second))
    await asyncio.sleep(BEFORE)
    await trouble()
    await asyncio.sleep(AFTER)
    load.cancel()
    await asyncio.wait([load])
    await eventually(partial(is_quiet, client), QUIET_WITHIN)


# --- the three ---------------------------------------------------------------------------------------------------------


async def failover(folder: Path, per_second: float, durability: str, replicas: int) -> dict[str, Any]:
    servers, flow = Replicated("redis", folder, replicas), Flow()
    await asyncio.to_thread(servers.start)
    killed = elected = replicated = 0.0
    held: set[str] = set()

    def kill() -> None:
        nonlocal killed, elected, replicated, held
        former, others = servers.primary, servers.replicas
        killed = time.monotonic()
        former.kill()
        known = {replica.port: held_by(replica) for replica in others}
        while (primary := servers.primary) is former or primary.facts("replication")["role"] != "master":
            time.sleep(0.01)
        held = known[primary.port]
        elected = time.monotonic()
        time.sleep(RESTARTED_AFTER)
        servers.heal()
        replicated = time.monotonic()

    try:
        settings: dict[str, Any] = {"durability": durability, "push_timeout": 15.0}
        node, client = flow.declare(Scheduler(servers.url, **settings)), Scheduler(servers.url, **settings)
        async with client:
            await node.start()
            await pushing(flow, client, per_second, lambda: asyncio.to_thread(kill))
            await node.stop()
    finally:
        servers.stop()
    begun, lost = flow.begun(), flow.lost()
    return {
        "runs/s before the kill": f"{rate(begun, killed - 3, killed):.0f}",
        "new primary after": f"{elected - killed:.2f} s",
        "first run after its election": f"{min(at for at in begun if at >= elected) - elected:.2f} s",
        "all replicas again after": f"{replicated - killed:.2f} s",
        "runs in each second from the kill on": [round(rate(begun, killed + n, killed + n + 1)) for n in range(16)],
        "pushes answered, failed": f"{len(flow.answered)}, {dict(flow.failed)}",
        "lost": len(lost),
        "  answered, at most, before the kill": f"{max((killed - flow.answered[id] for id in lost), default=0):.4f} s",
        "  of them known to the replica": len(lost & held),
        "ran again (their ends were forgotten)": flow.doubled(),
    }


def held_by(replica: Member) -> set[str]:
    """The jobs that a replica knows."""
    with replica.client() as client:
        return {id.decode() for id in client.hkeys("{duly:default}:jobs")}


async def outage(folder: Path, per_second: float, seconds: float) -> dict[str, Any]:
    servers, flow = Independent("redis", folder, *ON_DISK), Flow()
    servers.start()
    killed = back = 0.0

    async def away() -> None:
        nonlocal killed, back
        killed = time.monotonic()
        await asyncio.to_thread(servers.servers[1].kill)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(servers.heal)
        back = time.monotonic()

    try:
        node, client = flow.declare(Scheduler(servers.url)), Scheduler(servers.url, push_timeout=1.0)
        async with client:
            await node.start()
            await pushing(flow, client, per_second, away)
            await node.stop()
    finally:
        servers.stop()
    begun = [flow.begun(id for id, home in flow.homes.items() if home == n) for n in range(3)]
    return {
        "runs/s of each before": [f"{rate(each, killed - 3, killed):.0f}" for each in begun],
        "runs/s of each meanwhile": [f"{rate(each, killed, back):.0f}" for each in begun],
        "runs/s of each 5 s after": [f"{rate(each, back + 5, back + 9):.0f}" for each in begun],
        "longest pause of the other two": [f"{longest_pause(begun[n], killed, back + 9):.2f} s" for n in (0, 2)],
        "first run of the third after": f"{min(at for at in begun[1] if at > back) - back:.2f} s",
        "pushes answered, failed": f"{len(flow.answered)}, {dict(flow.failed)}",
        "lost": len(flow.lost()),
        "ran again": flow.doubled(),
    }


async def rebalance(folder: Path, jobs: int) -> dict[str, Any]:
    servers, flow = [Server("redis", folder / str(n), *ON_DISK) for n in range(4)], Flow()
    for server in servers:
        server.start()
    urls = [server.url for server in servers]
    try:
        old, new = (flow.declare(Scheduler(some, concurrency=4), 0.005) for some in (urls[:3], urls))
        await old.connect()
        await old.push_many(old.request("note") for _ in range(jobs))
        await old.start()
        begun = time.monotonic()
        async with Scheduler(urls[:3]) as before:
            assert (await before.queues.sizes()).pending > 0.9 * jobs
        command = (sys.executable, "-m", "duly", "shards", "rebalance", "--url", " ".join(urls))
        moving = await asyncio.create_subprocess_exec(*command)
        await eventually(partial(is_started, new), 30)
        assert await moving.wait() == 0
        moved, ran = time.monotonic(), len(flow.runs)
        fourth = [await new.shards.at(place).sizes() for place in new.shards.places("default") if place.server == 3]
        await eventually(partial(is_quiet, new), jobs / 100)
        await old.stop()
        await new.stop()
    finally:
        for server in servers:
            server.stop()
    return {
        "jobs": jobs,
        "moved within": f"{moved - begun:.1f} s, while {ran} of them ran",
        "on the fourth server then": sum(sizes.pending for sizes in fourth),
        "all had run after": f"{time.monotonic() - begun:.1f} s",
        "lost": jobs - len(flow.runs),
        "ran more than once": flow.doubled(),
    }


async def is_started(node: Scheduler) -> bool:
    """Whether it starts, now that the map lists what it lists."""
    with contextlib.suppress(ConfigurationError):
        await node.start()
        return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["failover", "outage", "rebalance"])
    parser.add_argument("--rate", type=float, default=5_000, help="pushes a second")
    parser.add_argument("--durability", choices=["local", "replicated"], default="local", help="of failover")
    parser.add_argument("--replicas", type=int, default=1, help="of failover")
    parser.add_argument("--seconds", type=float, default=30, help="how long the server of an outage is away")
    parser.add_argument("--jobs", type=int, default=200_000, help="pending ones at a rebalance")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="duly-flow-") as name:
        folder = Path(name)
        course = {
            "failover": lambda: failover(folder, args.rate, args.durability, args.replicas),
            "outage": lambda: outage(folder, args.rate, args.seconds),
            "rebalance": lambda: rebalance(folder, args.jobs),
        }[args.what]
        figures = asyncio.run(course())
    for what, figure in figures.items():
        say(f"{what:<40} {figure}")
    return bool(figures["lost"]) and not (args.what == "failover" and args.durability == "local")


if __name__ == "__main__":
    sys.exit(main())
