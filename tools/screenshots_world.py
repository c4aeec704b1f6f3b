"""A small world for the screenshots of the dashboard: a day of ticks in the past, two nodes now, something of everything."""

# ruff: noqa: ARG001 - handlers that only pretend

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncIterator
from typing import Any

from duly import Context, Fail, Retry, Scheduler, cron, every
from duly.core.measures import KEEP_MINUTES, LATE, RAN, bucket_of, key_of
from duly.handle import clear
from duly.runtime.ticker import fire_due
from duly.stores.capabilities import Measured
from duly.testing import ManualClock

DAY, STEP = 86_400, 30
AWAY = range(9 * 3600, 11 * 3600)
"""Seconds of the day in which nobody fired anything."""
PAST = ("default", "reports")
QUEUES = ("default", "mail", "media", "reports")
RAN_BEFORE = (
    ("mail", "send_receipt", 240, 70), ("default", "refresh_prices", 60, 52), ("media", "resize_video", 9, 900),
    ("mail", "call_webhook", 24, 180),
)  # fmt: skip
"""Queue, task, runs a minute, ms of each."""
NAMES = ("ada", "grace", "edsger", "barbara", "alan", "donald", "katherine", "margaret")


def _declare(scheduler: Scheduler) -> None:
    @scheduler.task(queue="mail")
    async def send_receipt(order: int, to: str, api_key: str) -> None:
        await asyncio.sleep(random.uniform(0.01, 0.15))

    @scheduler.task(queue="media")
    async def resize_video(ctx: Context, path: str, width: int = 1280) -> None:
        for step in range(400):
            await ctx.progress(step / 400, f"frame {step * 24:,} of 9,600")
            await asyncio.sleep(0.5)

    @scheduler.task(queue="mail", retry=Retry(limit=5, delay=600))
    async def call_webhook(url: str, event: str) -> None:
        raise ConnectionError(f"{url} answered 502 Bad Gateway")

    @scheduler.task(retry=False)
    async def charge_card(order: int, amount: float) -> None:
        if amount > 400:
            raise Fail("the card was declined: insufficient funds")
        raise ValueError(f"order {order} has no customer")

    @scheduler.task
    async def refresh_prices() -> None:
        await asyncio.sleep(0.05)

    @scheduler.task(queue="reports")
    async def build_report(kind: str = "daily") -> None:
        await asyncio.sleep(0.3)


async def _put_schedules(scheduler: Scheduler) -> None:
    put = scheduler.schedules.put
    await put("prices", every(minutes=1), "refresh_prices", overlap="skip")
    await put("inventory", cron("*/5 * * * *"), "refresh_prices", catch_up="all", window=1800)
    await put("sessions:sweep", cron("*/2 8-20 * * *", timezone="Europe/Paris"), "refresh_prices")
    await put("exchange-rates", every(hours=1), "refresh_prices")
    await put("digest", cron("0 9 * * 1-5", timezone="America/New_York"), "refresh_prices")
    await put("hourly", cron("0 * * * *", timezone="Europe/Paris"), "build_report", args=("hourly",), queue="reports")
    await put("month-end", cron("0 6 L * *", timezone="Europe/Paris"), "build_report", args=("month",), queue="reports")


async def _live_through_a_day(url: str) -> None:
    """Yesterday until now: ticks on time, some late, two hours of an outage."""
    begin = int(time.time()) // 60 * 60 - DAY
    clock = ManualClock(begin * 1_000_000)
    scheduler, chance = Scheduler(url, clock=clock, namespace="shop"), random.Random(7)
    _declare(scheduler)
    async with scheduler:
        await _put_schedules(scheduler)
        for second in range(0, DAY, STEP):
            late = 4.0 if chance.random() < 0.012 else 0.02
            clock.advance(late)
            if second not in AWAY:
                for queue in PAST:
                    shard = scheduler.shard(queue)
                    while (due := await shard.due(100)).schedules:
                        await fire_due(shard, "node", due)
                        clock.advance(0.002)
                    await clear(shard)
            clock.advance(begin + second + STEP - clock.epoch_us() / 1e6)


async def _measure_the_past(scheduler: Scheduler) -> None:
    """Twelve hours of what was counted, as nodes would have written it."""
    store, chance = scheduler.connected_store, random.Random(3)
    assert isinstance(store, Measured)
    last = int(time.time()) // 60 - 1
    for minute in range(last - KEEP_MINUTES + 2, last):
        wave = 1 + 0.6 * math.sin(minute / 37) + 0.3 * math.sin(minute / 7) + chance.uniform(-0.15, 0.15)
        counts = {
            key_of(queue, task): _minute(round(often * wave), ms, task, chance) for queue, task, often, ms in RAN_BEFORE
        }
        await store.measure(minute, counts, KEEP_MINUTES)


def _minute(runs: int, ms: float, task: str, chance: random.Random) -> dict[str, int]:
    counts: dict[str, int] = {"started": runs}
    bad = round(runs * (chance.choice((0, 0, 0.05, 0.2)) if task == "call_webhook" else 0))
    counts |= {"failed": bad, "succeeded": runs - bad}
    for _ in range(runs):
        for kind, us in (
            (RAN, ms * 1000 * chance.lognormvariate(0, 0.35)),
            (LATE, 9_000 * chance.lognormvariate(0, 0.8)),
        ):
            name = f"{kind}{bucket_of(round(us))}"
            counts[name] = counts.get(name, 0) + 1
    return {name: n for name, n in counts.items() if n}


async def _push(scheduler: Scheduler) -> None:
    push, chance = scheduler.push, random.Random(5)
    for order in range(1_800, 1_860):
        to = f"{chance.choice(NAMES)}@example.org"
        await push("send_receipt", kwargs={"order": order, "to": to, "api_key": "x"}, delay=chance.uniform(60, 7_200))
    for number in range(5):
        await push("resize_video", f"uploads/2026/{number:03}.mov", id=f"video/{number:03}")
    for order in range(40):
        given = {"order": 1_700 + order, "amount": round(chance.uniform(9, 900), 2)}
        await push("charge_card", kwargs=given, id=f"charge:{1_700 + order}")
    for number, name in enumerate(NAMES):
        await push(
            "call_webhook",
            kwargs={"url": f"https://{name}.example.com/hooks", "event": "order.paid"},
            id=f"hook-{number}",
        )
    for number in range(12):
        await push("import_products", f"batch-{number}.csv", remote=True, queue="imports")
    for kind in ("daily", "weekly"):
        await push("build_report", kind, delay=900)


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[Scheduler]:
    """A connected scheduler over an SQLite file in the working directory, beside two nodes that run."""
    url = "sqlite:///shop.db"
    await _live_through_a_day(url)
    nodes = [Scheduler(url, namespace="shop", app="shop", queues=queues, concurrency=slots)
             for queues, slots in ((QUEUES, 20), (("default", "mail"), 10))]  # fmt: skip
    looking = Scheduler(url, namespace="shop")
    for scheduler in (*nodes, looking):
        _declare(scheduler)
    for node in nodes:
        await node.start()
    async with looking, contextlib.AsyncExitStack() as held:
        await _measure_the_past(looking)
        await looking.queues.limit("media", 4)
        await _push(looking)
        await looking.schedules.pause("exchange-rates", "the supplier changes its API: Grace looks into it")
        await looking.queues.pause("reports")
        for name in ("invoice-numbers", "report:2026-11"):
            await held.enter_async_context(looking.lock(name, ttl=600))
        await held.enter_async_context(looking.semaphore("image-licences", 3, ttl=600))
        waiting: asyncio.Task[Any] = asyncio.create_task(_wait_for(looking, "invoice-numbers"))
        try:
            yield looking
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
    for node in nodes:
        await node.stop(grace=0)


async def _wait_for(scheduler: Scheduler, name: str) -> None:
    async with scheduler.lock(name, ttl=60):
        pass
