"""The application of nodes that a job of theirs kills; see `nodes.Ledger`."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from duly import Context, Scheduler
from tests.acceptance.nodes import Ledger

ledger = Ledger(Path(os.environ.get("LEDGER", "ledger")))
scheduler = Scheduler(os.environ.get("DULY_URL", "memory://"))


@scheduler.task(max_crashes=3)
async def poison(ctx: Context) -> None:
    ledger.write("poison", ctx.job.id, crashes=ctx.crashes)
    os.kill(os.getpid(), signal.SIGKILL)


@scheduler.task
async def harmless(ctx: Context) -> None:
    ledger.write("begin", ctx.job.id)
    await asyncio.sleep(0.2)
    ledger.write("end", ctx.job.id)
