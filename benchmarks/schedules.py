"""What recurring work costs on Redis: lateness of ticks, the firing rate, the cost of each call against the number of schedules.

    python benchmarks/schedules.py lateness|firing|cost|load [--url redis://…] [--seconds 20] [--most 1000000] [--json]
    python benchmarks/schedules.py cost --plot docs/schedules-cost.svg      (needs matplotlib: pip install 'duly[bench]')

lateness: from a tick's nominal moment to its handler's start, one schedule and 1,000 of them, each second, one node;
    the 1,000 spread over the second (as intervals declared in code are), and all at the same moment.
firing: ticks per second that one node plans and fires from a backlog, `every` and cron; nobody runs the jobs.
cost: put, look, fire and remove at 10^3, 10^4, … schedules.
load: so many interval schedules spread over ten minutes, one node: does it keep up, its share of a core, the SLOWLOG.
Without --url a redis-server of its own is started on a free port. Handlers read the machine's clock, which is the server's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import resource
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import redis as redis_py
from throughput import own_server, percentile

from duly import Context, Scheduler, cron, every
from duly.core import schedule as planning
from duly.core.schedule import Definition
from duly.core.trigger import Trigger
from duly.runtime.emitter import Emitter
from duly.runtime.line import Line
from duly.runtime.process import freeze_startup, loop_factory
from duly.runtime.ticker import Ticker
from duly.stores.base import NewSchedule, Shard

SPREAD_MS = 600_000
AT_ONCE = 64
Figures = dict[str, Any]


def scheduler_on(url: str, name: str, **settings: Any) -> Scheduler:
    return Scheduler(url, namespace=f"bench-{name}", logger=logging.getLogger("duly.bench"), **settings)


async def in_parallel(count: int, work: Callable[[int], Awaitable[Any]]) -> float:
    """Seconds for `count` calls, AT_ONCE at a time."""
    numbers = iter(range(count))

    async def worker() -> None:
        for n in numbers:
            await work(n)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return time.perf_counter() - began


def definition_of(trigger: Trigger) -> bytes:
    return planning.encode(Definition(trigger, "tick"))


async def put_many(shard: Shard, count: int, trigger_of: Callable[[int], Trigger], first: int = 0) -> float:
    async def put(n: int) -> None:
        await shard.put(NewSchedule(f"s{first + n}", definition_of(trigger_of(first + n))))

    return await in_parallel(count, put)


# --- lateness --------------------------------------------------------------------------------------------------------


async def lateness(url: str, count: int, spread: bool, seconds: float) -> Figures:
    lags: list[float] = []
    scheduler = scheduler_on(url, f"lateness-{count}-{spread}")

    @scheduler.task(name="tick")
    async def tick(ctx: Context) -> None:
        lags.append(time.time() - (ctx.job.nominal or 0))

    await scheduler.start()
    freeze_startup()
    begin = int(time.time())
    triggers = (lambda n: every(seconds=1, start=begin + n / count)) if spread else (lambda n: cron("* * * * * *"))
    await put_many(scheduler.shard("default"), count, triggers)
    await asyncio.sleep(2)
    lags.clear()
    await asyncio.sleep(seconds)
    found = sorted(lags)
    await scheduler.stop(1)
    moment = "spread over the second" if spread else "at the same moment"
    return {"schedules": count, "": moment, "ticks": len(found), "p50 ms": percentile(found, 0.5) * 1000,
            "p99 ms": percentile(found, 0.99) * 1000, "max ms": found[-1] * 1000}  # fmt: skip


# --- firing ----------------------------------------------------------------------------------------------------------


class Idle:
    """Stands for the line of a node that runs no jobs."""

    def __init__(self, shard: Shard) -> None:
        self.shard, self.queue = shard, shard.queue

    def rouse(self) -> None:
        """Nobody claims."""


async def look_at_all(scheduler: Scheduler, shard: Shard) -> None:
    """Plan, and fire, whatever is due, as a node does."""
    ticker = Ticker("bench", cast(Line, Idle(shard)), Emitter(scheduler.config.logger), scheduler.clock)
    ticker.looks_due()
    while await ticker.tick() is not None:
        pass


async def firing(url: str, kind: str, count: int) -> Figures:
    """Each schedule has one tick due; a node's ticker looks, plans and fires."""
    async with scheduler_on(url, f"firing-{kind}") as scheduler:
        shard = scheduler.shard("default")
        now = (await shard.sizes()).now
        hourly = every(hours=1, start=now / 1000 - 60)
        trigger: Trigger = hourly if kind == "every" else cron("0 * * * *")
        data = definition_of(trigger)

        async def put(n: int) -> None:
            await shard.put(NewSchedule(f"s{n}", data, mark=now - 3_599_999))

        await in_parallel(count, put)
        began, cpu = time.perf_counter(), time.process_time()
        await look_at_all(scheduler, shard)
        took = time.perf_counter() - began
        share, fired = (time.process_time() - cpu) / took, (await shard.sizes()).pending
        return {"trigger": kind, "ticks": fired, "ticks/s": fired / took, "CPU share": share}


# --- cost ------------------------------------------------------------------------------------------------------------


async def cost(url: str, most: int) -> list[Figures]:
    """Microseconds of single calls, one after the other, in the midst of so many schedules."""
    rows: list[Figures] = []

    def new(n: int) -> NewSchedule:
        return NewSchedule(f"new{n}", definition_of(every(seconds=1 + n)))

    async with scheduler_on(url, "cost") as scheduler:
        shard, there, size = scheduler.shard("default"), 0, 1000
        while size <= most:
            await put_many(shard, size - there, lambda n: every(hours=1000 + n % 1000), there)
            there = size
            await look_at_all(scheduler, shard)  # each new one wants a look
            row: Figures = {"schedules": size}
            for name, call in (
                ("put", lambda n: shard.put(new(n))),
                ("equal put", lambda n: shard.put(new(n))),
                ("get", lambda n, size=size: shard.schedules([f"s{n * 7 % size}"], "", 1)),
                ("due of 1", lambda n: shard.due(1)),
                ("remove", lambda n: shard.steer(f"new{n}", remove=True)),
            ):
                row[f"{name} µs"] = await median_us(call)
            rows.append(row)
            size *= 10
    return rows


async def median_us(call: Callable[[int], Awaitable[Any]], times: int = 500) -> float:
    took = []
    for n in range(times):
        began = time.perf_counter()
        await call(n)
        took.append((time.perf_counter() - began) * 1e6)
    return statistics.median(took)


# --- load ------------------------------------------------------------------------------------------------------------


async def load(url: str, count: int, seconds: float) -> Figures:
    ran = 0
    scheduler = scheduler_on(url, "load")

    @scheduler.task(name="tick")
    async def tick(ctx: Context) -> None:
        nonlocal ran
        ran += 1

    async with scheduler:
        shard = scheduler.shard("default")
        begin = time.time() + 10 + count / 5500  # by then they are put
        step = SPREAD_MS / count / 1000
        put_seconds = await put_many(shard, count, lambda n: every(minutes=10, start=begin + n * step))
        await look_at_all(scheduler, shard)  # the first look at each, which is not what is measured
        client = redis_py.Redis.from_url(url)
        await scheduler.start()
        freeze_startup()
        await asyncio.sleep(max(0.0, begin - time.time()) + 5)
        client.config_set("slowlog-log-slower-than", 10_000)
        client.slowlog_reset()
        ran, began, cpu = 0, time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        await asyncio.sleep(seconds)
        took, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
        behind = await overdue(shard)
        slow = [(entry["duration"] // 1000, entry["command"][:40]) for entry in client.slowlog_get(10)]
        memory = client.info("memory")["used_memory"] / 1e6
        await scheduler.stop(1)
    share = (used.ru_utime + used.ru_stime - cpu.ru_utime - cpu.ru_stime) / took
    return {
        "schedules": count,
        "puts/s": count / put_seconds,
        "ticks/s asked": count / (SPREAD_MS / 1000),
        "ticks/s ran": ran / took,
        "overdue at the end": behind,
        "CPU share of the node": share,
        "SLOWLOG over 10 ms": slow,
        "Redis MB": memory,
    }


async def overdue(shard: Shard) -> int:
    """Jobs that wait though they are due."""
    sizes = await shard.sizes()
    return sizes.pending


async def main(arguments: argparse.Namespace, url: str) -> Any:
    if arguments.what == "lateness":
        cases = ((1, False), (1000, True), (1000, False))
        return [await lateness(url, count, spread, arguments.seconds) for count, spread in cases]
    if arguments.what == "firing":
        return [await firing(url, kind, min(arguments.most, 100_000)) for kind in ("every", "cron")]
    if arguments.what == "cost":
        return await cost(url, arguments.most)
    return [await load(url, arguments.most, arguments.seconds)]


def plot(rows: list[Figures], path: str) -> None:
    """The cost of each call against the number of schedules."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "duly"  # the same figures give the same file
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for name in [name for name in rows[0] if name.endswith("µs")]:
        axes.plot([row["schedules"] for row in rows], [row[name] for row in rows], "o-", label=name.removesuffix(" µs"))
    axes.set(xscale="log", xlabel="schedules in the store", ylabel="µs for one awaited call (median)", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def show(rows: list[Figures]) -> None:
    for row in rows:
        print(
            "  ".join(
                f"{name}: {value:,.1f}" if isinstance(value, float) else f"{name}: {value}"
                for name, value in row.items()
            )
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["lateness", "firing", "cost", "load"])
    parser.add_argument("--url")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--most", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", metavar="FILE", help="draw the cost, as SVG")
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        if given.url:
            found = runner.run(main(given, given.url))
        else:
            with own_server() as address:
                found = runner.run(main(given, address))
    print(json.dumps(found)) if given.json else show(found)
    if given.plot:
        plot(found, given.plot)
