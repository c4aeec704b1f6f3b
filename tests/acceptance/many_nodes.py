"""A program that connects, pushes, then forks nodes that carry one schedule together; its handlers write into $LEDGER.

python -m tests.acceptance.many_nodes URL NODES TICKS
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from duly import Context, Scheduler, every
from tests.acceptance.nodes import Ledger
from tests.waiting import eventually

WITHIN = 90.0  # seconds
url, count, ticks = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ledger = Ledger(Path(os.environ["LEDGER"]))
scheduler = Scheduler(url, lease=2)


@scheduler.task
async def tick(ctx: Context) -> None:
    ledger.write("tick", ctx.job.id, nominal=ctx.job.nominal)


async def prepare() -> None:
    """What a parent does before it forks: it uses its connection, and its names."""
    async with scheduler:
        await scheduler.schedules.put("s", every(milliseconds=40), "tick", catch_up="all", overlap="allow")
        await scheduler.schedules.pause("s")
        ledger.write("client", "", n=len(await scheduler.queues.list()))


async def live() -> None:
    """One node: it serves until there are ticks enough."""
    await scheduler.start()
    records = (await scheduler.store.registry()).nodes
    (mine,) = (id for id, record in records.items() if msgspec.msgpack.decode(record)["pid"] == os.getpid())
    ledger.write("node", mine)
    await eventually(lambda: len(ledger.read("node")) == count, WITHIN)
    await scheduler.schedules.resume("s")  # all of them do; once is enough
    await eventually(lambda: len(ledger.read("tick")) >= ticks, WITHIN)
    await scheduler.schedules.pause("s")
    await scheduler.stop()


if __name__ == "__main__":
    asyncio.run(prepare())
    children = []
    for _ in range(count):
        child = os.fork()
        if not child:
            asyncio.run(live())
            os._exit(0)
        children.append(child)
    if any(os.waitpid(child, 0)[1] for child in children):
        sys.exit("a child failed")
