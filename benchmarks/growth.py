"""What assigning, looking, removing and clearing cost a Redis, against the number of schedules in it.

    python benchmarks/growth.py [--url redis://…] [--least 1000] [--most 10000] [--json]

Microseconds for which the server itself was busy, as it counts them, so that a machine with other things to do says the
same. Assign is `schedules.put` of one more, peek what a node asks for when it looks whether something is due, remove
`schedules.remove`, clear `scheduler.clear()` of all, for each of them, and the longest time for which one of the calls of
a clear kept the server. Without --url a redis-server of its own is started on a free port; one that is given should have
nothing else to do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

import redis as redis_py
from schedules import Figures, look_at_all, put_many, scheduler_on, show
from throughput import own_server

from duly import every

SHOWN_US = 50
"""Calls that kept the server for less are not looked at."""
TIMES = 300


def busy_us(client: redis_py.Redis) -> int:
    """What all calls of scripts so far have taken."""
    stats: Figures = cast(Figures, client.info("commandstats"))
    return int(stats.get("cmdstat_evalsha", {"usec": 0})["usec"])


async def grown(url: str, client: redis_py.Redis, size: int) -> Figures:
    """The costs beside so many schedules."""
    async with scheduler_on(url, "growth") as scheduler:
        scheduler.bind("tick", lambda: None)
        schedules, shard = scheduler.schedules, scheduler.shard("default")
        await put_many(shard, size, lambda n: every(hours=1000 + n % 1000))
        await look_at_all(scheduler, shard)  # each new one wants a look
        row: Figures = {"schedules": size}
        calls: dict[str, Callable[[int], Awaitable[Any]]] = {
            "assign": lambda n: schedules.put(f"new{n}", every(hours=1), "tick"),
            "peek": lambda n: shard.due(1),
            "remove": lambda n: schedules.remove(f"new{n}"),
        }
        for name, call in calls.items():
            before = busy_us(client)
            for n in range(TIMES):
                await call(n)
            row[f"{name} µs"] = (busy_us(client) - before) / TIMES
        client.config_set("slowlog-log-slower-than", SHOWN_US)
        client.slowlog_reset()
        before = busy_us(client)
        count = await scheduler.clear()
        row["clear, each µs"] = (busy_us(client) - before) / count
        row["longest call of it µs"] = max((entry["duration"] for entry in client.slowlog_get(1000)), default=SHOWN_US)
        return row


async def main(arguments: argparse.Namespace, url: str) -> list[Figures]:
    rows, size = [], arguments.least
    with redis_py.Redis.from_url(url) as client:
        while size <= arguments.most:
            rows.append(await grown(url, client, size))
            size *= 10
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a Redis that may be written to")
    parser.add_argument("--least", type=int, default=1000)
    parser.add_argument("--most", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.url:
        found = asyncio.run(main(given, given.url))
    else:
        with own_server() as own:
            found = asyncio.run(main(given, own))
    if given.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        show(found)
