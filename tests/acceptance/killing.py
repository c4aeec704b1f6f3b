"""The application that the nodes of `test_sqlite_processes` run until they are killed; see `nodes.Ledger`."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

from duly import Context, Event, Scheduler
from tests.acceptance.nodes import Ledger

NAP = 0.1  # seconds at most; so long a kill can meet a run
ledger = Ledger(Path(os.environ.get("LEDGER", "ledger")))
scheduler = Scheduler(os.environ.get("DULY_URL", "memory://"))


async def run(ctx: Context) -> None:
    ledger.write("begin", ctx.job.id, fence=ctx.fence)
    await asyncio.sleep(random.random() * NAP)
    ledger.write("end", ctx.job.id, fence=ctx.fence)


@scheduler.task(max_crashes=1_000)
async def often(ctx: Context) -> None:
    """At least once."""
    await run(ctx)


@scheduler.task(delivery="at_most_once")
async def once(ctx: Context) -> None:
    await run(ctx)


@scheduler.on("job.ended")
def settled(event: Event) -> None:
    """The store has answered that this node's end of the run was written."""
    ledger.write("settled", event.facts["id"])
