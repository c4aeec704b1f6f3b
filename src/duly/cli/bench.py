"""`duly bench`: a quick measurement of a store through the public API, in a namespace that is gone afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import click
import msgspec

from duly.cli.connection import asked
from duly.cli.grouping import json_option
from duly.cli.output import Column, progress, show_json, show_table
from duly.clock import SYSTEM_CLOCK
from duly.config import masked
from duly.identity import new_name
from duly.runtime.process import loop_factory
from duly.scheduler import Scheduler
from duly.stores.capabilities import Forgetful

PUSHERS = 100
CHUNK = 1_000
MOST = 300_000
"""Jobs that are pushed at most, so that a fast store is not filled."""
WARM_UP = 20
STEPS = 1_000
"""Of the progress bar."""


class Measured(msgspec.Struct):
    """What was measured. Rates per second, latencies in milliseconds from the push to the handler's first line."""

    store: str
    pushes: float = 0
    push_many: float = 0
    jobs: float = 0
    start_p50: float = 0
    start_p99: float = 0


@click.command("bench", short_help="Measure a store from this machine.")
@click.option("--url", metavar="URL", help="The store; else $DULY_URL, else an SQLite file in a temporary folder.")
@click.option(
    "--seconds", type=click.FloatRange(0.4, 600), default=10, show_default=True, help="About how long it takes."
)
@json_option
def command(url: str | None, seconds: float, json: bool) -> None:
    """Measure a store from this machine, with no-op jobs and one worker in this process.

    It works in a namespace of its own, which is emptied at the end; other users of the store notice the load.
    """
    with asked(), _place(url) as place, asyncio.Runner(loop_factory=loop_factory()) as runner:
        measured = runner.run(measure(place, seconds))
    if json:
        show_json(measured)
        return
    rows = [
        ("pushes", f"{measured.pushes:,.0f}", "/s", f"one by one, {PUSHERS} at a time"),
        ("push_many", f"{measured.push_many:,.0f}", "/s", "in calls of many"),
        ("jobs", f"{measured.jobs:,.0f}", "/s", "claimed, run and settled by one worker"),
        ("push to start, p50", f"{measured.start_p50:.2f}", "ms", "on an idle node"),
        ("push to start, p99", f"{measured.start_p99:.2f}", "ms", "on an idle node"),
    ]
    columns = (
        Column("what", lambda row: row[0]),
        Column("measured", lambda row: row[1], right=True),
        Column("", lambda row: row[2]),
        Column("how", lambda row: row[3], 1),
    )
    click.echo(f"{measured.store}\n")
    show_table(rows, columns)


@contextlib.contextmanager
def _place(url: str | None) -> Iterator[str]:
    given = url or os.environ.get("DULY_URL")
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="duly-bench-") as folder:
        yield f"sqlite:///{Path(folder) / 'duly.db'}"


async def measure(url: str, seconds: float) -> Measured:
    """Everything, in about so many seconds; what it pushed is removed, whatever happens."""
    name = f"bench-{new_name()[:12]}"
    quiet = logging.getLogger("duly.bench")
    quiet.setLevel(logging.CRITICAL)  # no lines of the node between the figures
    scheduler = Scheduler(url, namespace=name, logger=quiet)
    bench = _Bench(scheduler, seconds / 4)
    with progress("measuring", STEPS) as advance:
        async with scheduler:
            try:
                watch = asyncio.ensure_future(_show_time(advance, seconds))
                await bench.run()
                watch.cancel()
                await asyncio.wait([watch])
            finally:
                await scheduler.clear()
                if isinstance(scheduler.store, Forgetful):
                    await scheduler.store.forget()
    return bench.measured


async def _show_time(advance: Callable[[int], None], seconds: float) -> None:
    for _ in range(STEPS):
        await asyncio.sleep(seconds / STEPS)
        advance(1)


class _Bench:
    """The four measurements, each for `share` seconds."""

    def __init__(self, scheduler: Scheduler, share: float) -> None:
        self.scheduler, self.share = scheduler, share
        self.measured = Measured(masked(scheduler.store.url))
        self.ran = 0
        self.lags: list[float] = []
        self.pushed = 0
        self.task = scheduler.task(name="noop")(self._noop)
        self.drained = asyncio.Event()
        self.started = asyncio.Event()
        self.probe = scheduler.task(name="probe")(self._probe)

    async def _noop(self) -> None:
        self.ran += 1
        if self.ran == self.pushed:
            self.drained.set()

    async def _probe(self, pushed: float) -> None:
        self.lags.append(SYSTEM_CLOCK.monotonic() - pushed)
        self.started.set()

    async def run(self) -> None:
        self.measured.pushes = await self._rate(self._push_one_by_one)
        self.measured.push_many = await self._rate(self._push_many)
        gc.collect()
        await self.scheduler.start()
        try:
            self.measured.jobs = await self._rate(self._drain)
        finally:
            await self.scheduler.stop()
        await self.scheduler.clear()
        await self._measure_starts()
        lags = sorted(self.lags[WARM_UP:] or self.lags)
        self.measured.start_p50 = lags[len(lags) // 2] * 1000
        self.measured.start_p99 = lags[len(lags) * 99 // 100] * 1000

    async def _rate(self, work: Callable[[float], Awaitable[int]]) -> float:
        began = SYSTEM_CLOCK.monotonic()
        count = await work(began + self.share)
        return count / (SYSTEM_CLOCK.monotonic() - began)

    async def _push_one_by_one(self, until: float) -> int:
        async def pusher() -> int:
            count = 0
            while SYSTEM_CLOCK.monotonic() < until and count < MOST // PUSHERS:
                await self.task.push()
                count += 1
            return count

        self.pushed = sum(await asyncio.gather(*(pusher() for _ in range(PUSHERS))))
        return self.pushed

    async def _push_many(self, until: float) -> int:
        count = 0
        while SYSTEM_CLOCK.monotonic() < until and count < MOST:
            count += len(await self.scheduler.push_many([self.task.job() for _ in range(CHUNK)]))
        self.pushed += count
        return count

    async def _drain(self, until: float) -> int:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(until - SYSTEM_CLOCK.monotonic()):
                await self.drained.wait()
        return self.ran

    async def _measure_starts(self) -> None:
        """One push after the other, each when the last one has run: the node is idle every time."""
        await self.scheduler.start()
        try:
            until = SYSTEM_CLOCK.monotonic() + self.share
            while SYSTEM_CLOCK.monotonic() < until or not self.lags:
                self.started.clear()
                await self.probe.push(SYSTEM_CLOCK.monotonic())
                await self.started.wait()
        finally:
            await self.scheduler.stop()
