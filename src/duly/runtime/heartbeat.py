"""Keeps leases and shows that the node lives, from a thread of its own: a handler that blocks the loop loses nothing.

Left out are runs past their timeout and grace: a lease that nothing will ever settle has to end. A run whose settlement
is on its way is not: the loop may be blocked before it is really sent, and what a renewal says of a settled run is not heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from duly.clock import Clock
from duly.config import Config
from duly.core.shards import Place
from duly.runtime.loop import Loop, all_of
from duly.runtime.run import Run
from duly.stores.base import MAX_BATCH, Renewal, Renewed, Shard, Store

BEAT_SECONDS, CLOSE_BEAT_SECONDS = 15.0, 3.0
"""How often an idle node publishes itself; the second, where others go by who is there."""
BEATS_SHOWN = 3
"""So many of its beats may fail to come until it is not shown any more."""
BEAT_TTL_MS = BEATS_SHOWN * int(BEAT_SECONDS * 1000)
RENEWALS_IN_A_LEASE = 3
LEAST_PAUSE = 0.1
"""Seconds between renewals asked for by progress reports."""


class Holder(Protocol):
    """Whose leases are kept."""

    runs: dict[str, Run]
    place: Place


class Heartbeat:
    """Renews what `holders` hold, and publishes the node."""

    def __init__(self, node: str, store: Store, config: Config, clock: Clock, holders: Sequence[Holder],
                 record: Callable[[], bytes], deliver: Callable[[list[tuple[Run, Renewed]]], None]) -> None:  # fmt: skip
        self.node, self.store, self.config, self.clock = node, store, config, clock
        self.holders, self.record, self.deliver = holders, record, deliver
        self._last_beat = self._last_renewal = float("-inf")
        self._promised = BEAT_SECONDS  # by the last beat: so soon the next one has to come
        self.is_watched: Callable[[], bool] = lambda: False

    async def tick(self) -> float:
        """Renew, beat if it is time; returns the seconds until the next call is needed."""
        await self.store.connect()
        now = self.clock.monotonic()
        early = self._last_renewal + LEAST_PAUSE - now
        if early > 0:
            return early
        shortest, calls = self.config.lease, []
        for holder in list(self.holders):
            held = [run for run in holder.runs.copy().values() if self._keeps(run, now)]
            if held:
                shortest = min(shortest, min(run.lease for run in held) / 1000)
                calls.append(self._renew(self.store.shard(holder.place.name), held))
        if calls:
            self._last_renewal = now
        if now >= self._last_beat + min(self._every, self._promised):
            calls.append(self._beat(now))
        await all_of(calls)
        spent = self.clock.monotonic() - now  # a slow answer is no reason to renew later
        return max(0.0, min(shortest / RENEWALS_IN_A_LEASE, self._every) - spent)

    @property
    def _every(self) -> float:
        return CLOSE_BEAT_SECONDS if self.is_watched() else BEAT_SECONDS

    @property
    def ttl(self) -> int:
        """How long a beat counts, in ms."""
        return BEATS_SHOWN * int(self._every * 1000)

    async def _beat(self, now: float) -> None:
        await self.store.beat(self.node, self.record(), self.ttl, self.config.queues)
        self._last_beat, self._promised = now, self._every

    def _keeps(self, run: Run, now: float) -> bool:
        return run.deadline is None or now < run.deadline

    async def _renew(self, shard: Shard, held: list[Run]) -> None:
        for start in range(0, len(held), MAX_BATCH):
            part = held[start : start + MAX_BATCH]
            reports = [run.progress for run in part]
            answers = await shard.renew(
                [Renewal(run.job.id, run.fence, run.lease, report) for run, report in zip(part, reports, strict=True)]
            )
            for run, report in zip(part, reports, strict=True):
                if run.progress is report:
                    run.progress = None
            news: list[tuple[Run, Renewed]] = [
                (run, answer) for run, answer in zip(part, answers, strict=True) if answer != "applied"
            ]
            if news:
                self.deliver(news)

    async def leave(self) -> None:
        """Take the node off the registry."""
        await self.store.beat(self.node, b"", 0, ())


class HeartbeatThread:
    """Runs a heartbeat on an event loop of its own, in a daemon thread."""

    def __init__(self, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat
        self._thread = threading.Thread(target=self._main, name="duly-heartbeat", daemon=True)
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._service: Loop | None = None

    def start(self) -> None:
        self._thread.start()
        self._ready.wait(10)

    def _main(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        config = self._heartbeat.config
        self._loop = asyncio.get_running_loop()
        self._service = Loop("heartbeat", self._heartbeat.tick, config.logger, config.longest_pause)
        self._ready.set()
        try:
            await self._service.run()
            async with asyncio.timeout(config.lease / 3):
                await self._heartbeat.leave()
        except Exception as error:
            config.logger.debug("the node could not take leave: %s", error)
        finally:
            await self._heartbeat.store.close()

    def nudge(self) -> None:
        """Renew soon: there is a shorter lease, or progress to report. From any thread."""
        self._call(lambda service: service.wake())

    def stop(self) -> None:
        self._call(lambda service: service.stop())

    def _call(self, what: Callable[[Loop], None]) -> None:
        loop, service = self._loop, self._service
        if loop is not None and service is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended already
                loop.call_soon_threadsafe(what, service)

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)
