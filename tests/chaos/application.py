"""What the nodes under chaos run: every kind of handler, each writing into the ledger what it does."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import duly
from duly import Context, Retry, Scheduler, cron, every
from tests.acceptance.nodes import Ledger

LEASE = float(os.environ.get("DULY_LEASE", "2"))
FAILURES = 2  # of a `failing` job, before it ends well
NO_LIMIT = 1000  # crashes: here, nodes are killed for no fault of the job
INTERVAL_MS = 700

ledger = Ledger(Path(os.environ.get("LEDGER", "ledger")))
scheduler = Scheduler(os.environ.get("DULY_URL", "memory://"), app="chaos")
fences: dict[str, int] = {}


def periods_of(seconds: int) -> dict[str, int]:
    """Schedule -> milliseconds between two of its moments: so many at one-second cron, and one at an interval."""
    return {**{f"second-{n:02}": 1000 for n in range(seconds)}, "interval": INTERVAL_MS}


@contextmanager
def noted(ctx: Context) -> Iterator[None]:
    """begin, then end, fail, or (cancelled) cut; a process that dies in between writes nothing."""
    job = ctx.job
    facts = {"task": job.task, "fence": ctx.fence, "attempt": ctx.attempt, "crashes": ctx.crashes}
    if job.schedule is not None and job.nominal is not None:
        facts |= {"schedule": job.schedule, "nominal": round(job.nominal * 1000)}
    fences[job.id] = ctx.fence
    ledger.write("begin", job.id, **facts)
    how = "cut"
    try:
        yield
        how = "end"
    except Exception:
        how = "fail"
        raise
    finally:
        ledger.write(how, job.id, **facts)


@scheduler.on("job.ended")
def settled(event: duly.Event) -> None:
    """The store has answered that the end of this run was written."""
    ledger.write("settled", event.facts["id"], fence=fences.pop(event.facts["id"], 0))


@scheduler.task
async def quick(ctx: Context) -> None:
    """At least once, with the crashes that a job has by default."""
    with noted(ctx):
        await asyncio.sleep(random.random() * 0.1)


@scheduler.task(max_crashes=NO_LIMIT)
async def long(ctx: Context) -> None:
    """Longer than several leases."""
    with noted(ctx):
        await asyncio.sleep(3 * LEASE)


@scheduler.task(delivery="at_most_once")
async def once(ctx: Context) -> None:
    with noted(ctx):
        await asyncio.sleep(random.random() * 0.3)


@scheduler.task(max_crashes=NO_LIMIT, retry=Retry(limit=5, delay=0.2, backoff=2))
async def failing(ctx: Context) -> None:
    """Fails, then ends well."""
    with noted(ctx):
        await asyncio.sleep(random.random() * 0.1)
        if ctx.attempt <= FAILURES:
            raise ConnectionError(f"attempt {ctx.attempt}")


@scheduler.task(max_crashes=NO_LIMIT)
async def blocking(ctx: Context) -> None:
    """Computes for longer than a lease, and lets nobody else have the event loop."""
    with noted(ctx):
        until = time.monotonic() + 1.3 * LEASE
        while time.monotonic() < until:
            sum(range(1000))


@scheduler.task(max_crashes=NO_LIMIT)
def thread(ctx: Context) -> None:
    with noted(ctx):
        Event().wait(random.random() * 0.3)  # time.sleep fails under libfaketime: it gets a moment that is past


@scheduler.task(max_crashes=NO_LIMIT)
async def child(ctx: Context) -> None:
    with noted(ctx):
        await asyncio.sleep(0)


@scheduler.task(max_crashes=NO_LIMIT)
async def parent(ctx: Context) -> None:
    """Its child's id says which run pushed it: only the run that is settled may."""
    with noted(ctx):
        await asyncio.sleep(random.random() * 0.1)
        ctx.push(child.options(id=f"{ctx.job.id}/{ctx.fence}"))


@scheduler.task(max_crashes=NO_LIMIT)
async def tick(ctx: Context) -> None:
    with noted(ctx):
        await asyncio.sleep(0)


for name, period in periods_of(int(os.environ.get("CHAOS_SCHEDULES", "3"))).items():
    trigger = cron("* * * * * *") if period == 1000 else every(milliseconds=period)
    scheduler.schedule(tick, trigger, id=name, catch_up="all")
