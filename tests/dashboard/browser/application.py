"""What the node of the browser tests runs."""

from __future__ import annotations

import asyncio

from duly import Context, Fail, Scheduler

scheduler = Scheduler(app="screens", queues=["default", "mail", "media"], concurrency=5, lease=2)


@scheduler.task
async def quick(number: int = 0) -> int:
    return number


@scheduler.task(queue="media")
async def slow(ctx: Context) -> None:
    for step in range(1_000):
        await ctx.progress(step / 1_000, f"step {step}")
        await asyncio.sleep(0.1)


@scheduler.task(queue="mail")
async def fails(reason: str = "no way") -> None:
    raise Fail(reason)
