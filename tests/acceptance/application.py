"""The application that the nodes of the acceptance tests run; its handlers write into the ledger at $LEDGER.

$NAP is how long `nap` naps on this node: so one node can be stuck with a job that another does at once.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from duly import Context, Scheduler
from tests.acceptance.nodes import Ledger

NAP = float(os.environ.get("NAP", "0"))
ledger = Ledger(Path(os.environ.get("LEDGER", "ledger")))
scheduler = Scheduler(os.environ.get("DULY_URL", "memory://"))


def begin(ctx: Context) -> None:
    ledger.write("begin", ctx.job.id, attempt=ctx.attempt, crashes=ctx.crashes, fence=ctx.fence)


def end(ctx: Context) -> None:
    ledger.write("end", ctx.job.id)


@scheduler.task
async def nap(ctx: Context) -> None:
    begin(ctx)
    await asyncio.sleep(NAP)
    end(ctx)


@scheduler.task
def nap_in_thread(ctx: Context) -> None:
    begin(ctx)
    time.sleep(NAP)
    end(ctx)


@scheduler.task
def compute_in_thread(ctx: Context, seconds: float) -> None:
    """Holds the interpreter as much as Python code can."""
    begin(ctx)
    compute(seconds)
    end(ctx)


@scheduler.task
async def compute_on_loop(ctx: Context, seconds: float) -> None:
    """Blocks the event loop of its node."""
    begin(ctx)
    compute(seconds)
    end(ctx)


def compute(seconds: float) -> None:
    until = time.monotonic() + seconds
    number = 1
    while time.monotonic() < until:
        number = number * 3 % 1_000_003
