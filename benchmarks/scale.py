"""The constants of docs/scale.md: what one job, schedule, node and connection cost, in CPU time, bytes and commands.

    python benchmarks/scale.py [--jobs 60000] [--scheduled 100000] [--idle-seconds 20] [--json]

CPU times are those of the processes, not of the clock, so that other work on the machine changes them little. A redis-server
of its own is started on a free port and stopped again; its CPU is that of its main thread, which runs commands.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import redis.asyncio
from throughput import loop_factory, own_server, until

from duly import Context, Scheduler, cron
from duly.core import codec
from duly.core import schedule as planning
from duly.core.job import NewJob
from duly.core.schedule import Definition
from duly.identity import new_job_id, new_name
from duly.runtime.node import NodeRecord
from duly.runtime.process import freeze_startup
from duly.stores.base import MAX_BATCH, NewSchedule
from duly.stores.redis.store import RedisStore

PAYLOAD = "x" * 100
NODES = 10_000
CONNECTIONS = 500
Figures = dict[str, float]


class Server:
    """What the server says of itself."""

    def __init__(self, url: str) -> None:
        self.client = redis.asyncio.Redis.from_url(url, protocol=2)

    async def cpu(self) -> float:
        """Seconds of its main thread."""
        info = await self.client.info("cpu")
        return sum(float(info[f"used_cpu_{kind}_main_thread"]) for kind in ("user", "sys"))

    async def memory(self) -> int:
        return int((await self.client.info("memory"))["used_memory"])

    async def commands(self) -> int:
        """Calls of nodes: scripts, and waits; what scripts call is not told apart, and left out."""
        stats = await self.client.info("commandstats")
        outside = ("evalsha", "blpop")
        return sum(int(stats[f"cmdstat_{name}"]["calls"]) for name in outside if f"cmdstat_{name}" in stats)

    async def traffic(self) -> int:
        info = await self.client.info("stats")
        return int(info["total_net_input_bytes"]) + int(info["total_net_output_bytes"])


@asynccontextmanager
async def served(url: str) -> AsyncIterator[Server]:
    server = Server(url)
    try:
        yield server
    finally:
        await server.client.flushall()
        await server.client.aclose()


async def of_a_job(url: str, count: int) -> Figures:
    """Push in bulk, then run no-op jobs, everything at its defaults."""
    scheduler = Scheduler(url, namespace="scale", logger=logging.getLogger("duly.bench"))
    done = 0

    @scheduler.task
    async def noop(ctx: Context, payload: str) -> None:
        nonlocal done
        done += 1

    async with served(url) as server, scheduler:
        redis_began, node_began, sent = await server.cpu(), time.process_time(), await server.traffic()
        await scheduler.push_many(noop.job(PAYLOAD) for _ in range(count))
        redis_pushed, node_pushed = await server.cpu(), time.process_time()
        await scheduler.start()
        freeze_startup()
        await until(lambda: done >= count)
        while (await scheduler.queues.sizes()).leased:
            await asyncio.sleep(0.001)
        redis_ran, node_ran, all_sent = await server.cpu(), time.process_time(), await server.traffic()
        await scheduler.stop()
    return {
        "push, µs of a producer": (node_pushed - node_began) / count * 1e6,
        "push, µs of Redis": (redis_pushed - redis_began) / count * 1e6,
        "run, µs of a node": (node_ran - node_pushed) / count * 1e6,
        "run, µs of Redis": (redis_ran - redis_pushed) / count * 1e6,
        "push and run, bytes on the wire": (all_sent - sent) / count,
    }


async def of_what_waits(url: str, count: int) -> Figures:
    """Bytes of Redis for a job that is due in the future, and for a schedule."""
    store = RedisStore(url, namespace="scale")
    await store.connect()
    shard = store.shard("default")
    body = codec.encode("send_receipt", (PAYLOAD,))
    async with served(url) as server:
        before = await server.memory()
        for call, start in enumerate(range(0, count, MAX_BATCH), 1):
            ids = [new_job_id() for _ in range(start, min(start + MAX_BATCH, count))]
            await shard.enqueue("client", call, [NewJob(id, body, delay=86_400_000) for id in ids])
        jobs = (await server.memory() - before) / count
        await server.client.flushall()
        before = await server.memory()
        definition = planning.encode(Definition(cron("0 9 * * *", timezone="Europe/Paris"), "send_receipt"))
        for start in range(0, count, 500):
            await asyncio.gather(
                *(shard.put(NewSchedule(f"user:{n}", definition)) for n in range(start, min(start + 500, count)))
            )
        schedules = (await server.memory() - before) / count
    await store.close()
    return {"bytes of a scheduled job": jobs, "bytes of a schedule": schedules}


async def of_ticks(url: str, count: int) -> Figures:
    """Ticks that are fired and run, one of each schedule."""
    scheduler = Scheduler(url, namespace="scale", logger=logging.getLogger("duly.bench"))
    done = 0

    async def noop(ctx: Context) -> None:
        nonlocal done
        done += 1

    scheduler.bind("noop", noop)
    async with served(url) as server, scheduler:
        shard = scheduler.shard("default")
        now = (await shard.sizes()).now
        definition = planning.encode(Definition(cron("* * * * *"), "noop", catch_up="latest"))
        for start in range(0, count, 500):
            await asyncio.gather(
                *(shard.put(NewSchedule(f"s{n}", definition, mark=now - 60_000)) for n in range(start, start + 500))
            )
        redis_began, node_began = await server.cpu(), time.process_time()
        await scheduler.start()
        await until(lambda: done >= count)
        redis_ran, node_ran = await server.cpu(), time.process_time()
        ticks = done
        await scheduler.stop()
    return {
        "tick fired and run, µs of a node": (node_ran - node_began) / ticks * 1e6,
        "tick fired and run, µs of Redis": (redis_ran - redis_began) / ticks * 1e6,
    }


async def of_an_idle_node(url: str, seconds: float) -> Figures:
    scheduler = Scheduler(url, namespace="scale", logger=logging.getLogger("duly.bench"))
    scheduler.bind("noop", lambda: None)
    async with served(url) as server:
        await scheduler.start()
        await asyncio.sleep(3)  # what a start does
        began = time.process_time(), await server.cpu(), await server.commands(), await server.traffic()
        await asyncio.sleep(seconds)
        ended = time.process_time(), await server.cpu(), await server.commands(), await server.traffic()
        connections = len(await server.client.client_list()) - 1
        await scheduler.stop()
    node, server_cpu, commands, traffic = (b - a for a, b in zip(began, ended, strict=True))
    return {
        "idle node, commands/s": commands / seconds,
        "idle node, % of a core": node / seconds * 100,
        "idle node, % of Redis' core": server_cpu / seconds * 100,
        "idle node, bytes/s on the wire": traffic / seconds,
        "idle node, connections": connections,
    }


async def of_many_nodes(url: str) -> Figures:
    """What it costs to know of 10,000 nodes, and to keep their connections."""
    store = RedisStore(url, namespace="scale")
    await store.connect()
    async with served(url) as server:
        before = await server.memory()
        for start in range(0, NODES, 100):
            records = [
                NodeRecord(new_name(), f"host-{n}", 4_000, "0.1.0", "shop", ("default", "mail"), (), 100, 0)
                for n in range(start, start + 100)
            ]
            await asyncio.gather(
                *(store.beat(record.id, msgspec.msgpack.encode(record), 600_000, record.queues) for record in records)
            )
        nodes = (await server.memory() - before) / NODES
        cpu = await server.cpu()
        for _ in range(3):
            await store.registry()
        looked = (await server.cpu() - cpu) / 3
        before = await server.memory()
        clients = [redis.asyncio.Redis.from_url(url, protocol=2, max_connections=1) for _ in range(CONNECTIONS)]
        for client in clients:
            await client.ping()
        connections = (await server.memory() - before) / CONNECTIONS
        await asyncio.gather(*(client.aclose() for client in clients))
    await store.close()
    return {
        "bytes of a node": nodes,
        f"look at {NODES:,} nodes, ms of Redis": looked * 1000,
        "bytes of a connection": connections,
    }


def run(work: Callable[[], Awaitable[Figures]]) -> Figures:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(work())  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=60_000)
    parser.add_argument("--scheduled", type=int, default=100_000)
    parser.add_argument("--ticks", type=int, default=20_000)
    parser.add_argument("--idle-seconds", type=float, default=20)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with own_server() as url:
        figures = {
            **run(lambda: of_a_job(url, args.jobs)),
            **run(lambda: of_ticks(url, args.ticks)),
            **run(lambda: of_what_waits(url, args.scheduled)),
            **run(lambda: of_an_idle_node(url, args.idle_seconds)),
            **run(lambda: of_many_nodes(url)),
        }
    if args.json:
        print(json.dumps(figures | {"cores": os.cpu_count()}, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:40} {value:12,.3g}" if value < 1000 else f"{name:40} {value:12,.0f}")


if __name__ == "__main__":
    main()
