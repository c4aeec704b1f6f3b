"""The application that the demo runs: what one would write in an app.py of one's own, and a ledger of what was run."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from duly.cli.demo.ledger import Ledger
from duly.core.retry import Retry
from duly.runtime.context import Context
from duly.scheduler import Scheduler

REPORT_STEPS, STEP_SECONDS = 20, 0.2

scheduler = Scheduler(app="demo", lease=2, grace=5, concurrency=10)
ledger = Ledger(Path(os.environ.get("DULY_DEMO_LEDGER", "ledger.db")))


@scheduler.cron("* * * * * *", catch_up="all")  # six fields: each second
def tick(ctx: Context) -> None:
    """Sweep something."""
    with ledger.run(ctx):
        pass


@scheduler.every(seconds=2.5, catch_up="all")
def poll(ctx: Context) -> None:
    """Ask somebody for news."""
    with ledger.run(ctx):
        pass


@scheduler.task
def receipt(ctx: Context, order: int) -> None:
    """Send the receipt of an order, now."""
    with ledger.run(ctx):  # a real one would do something with the order
        pass


@scheduler.task
def reminder(ctx: Context, order: int) -> None:
    """Remind somebody of an order, some time later."""
    with ledger.run(ctx):
        pass


@scheduler.task(retry=Retry(limit=3, delay=1, jitter=0))
def webhook(ctx: Context, order: int) -> None:
    """Fails twice, as if the other side were down, then works."""
    with ledger.run(ctx):
        if ctx.attempt <= 2:
            raise ConnectionError("the other side is down")


@scheduler.task
async def report(ctx: Context) -> None:
    """Takes a few seconds: time enough to kill the node that runs it."""
    with ledger.run(ctx):
        for step in range(REPORT_STEPS):
            await ctx.progress(step / REPORT_STEPS, f"page {step + 1} of {REPORT_STEPS}")
            await asyncio.sleep(STEP_SECONDS)
