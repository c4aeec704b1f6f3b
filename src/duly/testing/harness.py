"""Nodes that move only when they are told to: a whole cluster in a test, without background tasks, on a clock of its own.

async with Harness(scheduler) as harness:
    await send_receipt.options(delay=3600).push(42)
    await harness.advance(3600)                    # an hour passes; what was due in it has run

    other = harness.node()                         # a second node; harness.nodes[0] is the first
    await other.tick()
    other.crash()
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

from duly.errors import ConfigurationError, StoreError, StoreUnavailable
from duly.runtime.heartbeat import CLOSE_BEAT_SECONDS, HeartbeatThread
from duly.runtime.node import Node
from duly.runtime.run import Run
from duly.scheduler import Scheduler
from duly.stores.base import Limits, Renewed, Store
from duly.stores.memory.store import MemoryStore
from duly.stores.shards import Shards
from duly.testing.clock import ManualClock
from duly.testing.faults import Call, WrappedStore
from duly.version import __version__

MOST_TURNS = 10_000
"""Turns of a drain after which it is given up: something makes work without end."""
TURNS = 5
"""Turns of the loop that handlers get in a tick."""


class Cable(WrappedStore):
    """A node's connection, which can be cut."""

    def __init__(self, store: Store, is_cut: Callable[[], bool]) -> None:
        super().__init__(store)
        self._is_cut = is_cut

    async def through(self, verb: str, queue: str, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._is_cut():
            raise StoreUnavailable(f"{verb}: the node is cut off, on purpose")
        return await call(*args, **kwargs)

    def sibling(self, timeout: float | None = None) -> Store:
        return Cable(self.inner.sibling(timeout), self._is_cut)


class _Still(HeartbeatThread):
    """A heartbeat that beats when the harness says so."""

    def nudge(self) -> None:
        """The next tick renews."""


class _StillNode(Node):
    keeper = _Still

    def _deliver(self, news: list[tuple[Run, Renewed]]) -> None:
        self.worker.renewed(news)


class HarnessNode:
    """One node of a harness: the product's own, moved by `tick`."""

    def __init__(self, harness: Harness) -> None:
        scheduler = harness.scheduler
        self.is_cut = self.is_paused = self.is_dead = False
        store = Cable(harness.store.sibling(), lambda: self.is_cut or self.is_dead)
        self._node = node = _StillNode(
            Shards(store),
            scheduler.config,
            scheduler._book,
            harness.clock,
            scheduler._emitter,
            scheduler.middleware,
            __version__,
        )
        self._store = store
        node.worker.state = harness.state
        node.worker.claiming = True
        node.worker.looks_due = lambda line, _ahead: node.tickers[line].looks_due()  # nothing comes before its time
        threads = node.worker.threads

        def in_place(work: Callable[[], None]) -> None:
            """Sync handlers run in the test's own thread."""
            threads._loop = asyncio.get_running_loop()
            threads._busy += 1
            work()

        threads._submit = in_place  # type: ignore[method-assign]

    @property
    def id(self) -> str:
        """Its name in the store."""
        return self._node.id

    @property
    def shortest_lease(self) -> int:
        """In ms."""
        return self._node.worker.shortest_lease

    @property
    def acts(self) -> bool:
        """Whether a tick does anything."""
        return not (self.is_paused or self.is_cut or self.is_dead)

    @property
    def running(self) -> Sequence[str]:
        """The ids of the jobs whose handlers have begun and not ended."""
        return [run.job.id for run in self._node.worker.running]

    @property
    def handlers(self) -> Sequence[asyncio.Task[None]]:
        """The handlers under way."""
        return [run.task for run in self._node.worker.running if run.task is not None]

    async def tick(self) -> None:
        """Renew leases, fire what is due, claim, let handlers run as far as they come at once, settle what has ended."""
        if not self.acts:
            return
        node = self._node
        await self._store.connect()
        try:
            await node.heartbeat.tick()
            await self._fire()
            await self._fire_own()
        except StoreError:
            return  # a fault of a store under test; the next tick tries again
        for line in node.worker.lines:
            line.rouse()
            await line.exchange()
            line.admit()
        for _ in range(TURNS):
            await asyncio.sleep(0)
        for line in node.worker.lines:
            if line.unsettled:
                await line.exchange()
                line.admit()
        await self._fire()

    @property
    def placed(self) -> list[int]:
        """In how many microseconds ticks that are this node's by the ring are due."""
        following = [placement.following for placement in self._node.placements.values()]
        now = self._node.worker.clock.epoch_us()
        return [max(0, moment * 1000 - now) for moment in following if moment is not None]

    async def _fire(self) -> None:
        for ticker in self._node.tickers.values():
            await ticker.tick()

    async def _fire_own(self) -> None:
        """What is this node's by the ring."""
        await self._node.neighbours.tick()
        for placement in self._node.placements.values():
            await placement.tick()

    def crash(self) -> None:
        """It is gone, as by SIGKILL: its handlers end where they stand, its leases run out."""
        self.is_dead = True
        for handler in self.handlers:
            handler.cancel()

    def pause(self) -> None:
        """It stands still, as by SIGSTOP, until `resume`; handlers that have begun are the test's own to hold."""
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def partition(self) -> None:
        """It does not reach the store, until `heal`; its handlers go on."""
        self.is_cut = True

    def heal(self) -> None:
        self.is_cut = False

    async def close(self) -> None:
        """End its handlers, and wait for their ends."""
        self.crash()
        await asyncio.gather(*self.handlers, return_exceptions=True)
        await self._store.close()


class Harness:
    """For the block, a scheduler is connected to a memory store on a ManualClock: pushes go there, `nodes` run them.

    Handlers that wait for real things take real time; leases, delays and schedules go by `clock`. state: `ctx.state`, if
    not what the scheduler's lifespan yields.
    """

    def __init__(self, scheduler: Scheduler, *, state: Any = None) -> None:
        self.scheduler, self.state = scheduler, state
        self.clock = ManualClock()
        limits = Limits(remember_ms=int(scheduler.config.remember * 1000), history=scheduler.config.history)
        self.store: Store = MemoryStore(limits, self.clock)
        self.nodes: list[HarnessNode] = []
        self._claims = 0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Harness:
        scheduler = self.scheduler
        if scheduler._users:
            raise ConfigurationError("this scheduler is connected: a harness connects it to a store of its own")
        former = scheduler.store, scheduler.clock
        scheduler.store, scheduler.clock = self.store, self.clock

        def restore() -> None:
            scheduler.store, scheduler.clock = former

        async with AsyncExitStack() as stack:
            stack.callback(restore)
            await stack.enter_async_context(scheduler)
            if scheduler.lifespan is not None and self.state is None:
                self.state = await stack.enter_async_context(scheduler.lifespan())
            node = self.node()
            stack.push_async_callback(self._close_nodes)
            await scheduler.schedules.put_declared(
                scheduler._declarations.values(), scheduler.config.app, scheduler.config.logger
            )
            await node.tick()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:  # fmt: skip
        await self._stack.aclose()

    async def _close_nodes(self) -> None:
        for node in self.nodes:
            await node.close()

    def node(self) -> HarnessNode:
        """One more node."""
        node = HarnessNode(self)
        self.nodes.append(node)
        return node

    async def drain(self, patience: float = 10.0) -> None:
        """Until nothing is due and no handler runs on a node that acts.

        Raises TimeoutError if no handler ends within `patience` seconds (real ones), AssertionError if work never ends.
        """
        for _ in range(MOST_TURNS):
            await self._tick_all()
            handlers = [handler for node in self.nodes if node.acts for handler in node.handlers]
            if handlers:
                done, _ = await asyncio.wait(handlers, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    jobs = ", ".join(id for node in self.nodes if node.acts for id in node.running)
                    raise TimeoutError(f"no handler ended within {patience:g} s: {jobs}")
            elif not any(node.acts for node in self.nodes) or await self._next_moment() != 0:
                return
        raise AssertionError(f"after {MOST_TURNS:,} turns there still is work due: a job makes new ones without end?")

    async def advance(self, seconds: float, *, drain: bool = True) -> None:
        """Let time pass: what comes due on the way runs at its moment, leases are kept by nodes that act.

        drain: wait for the handlers at the end; without, they are left as they are.
        """
        until = self.clock.epoch_us() + round(seconds * 1e6)
        await self._settle_down()
        while (left := until - self.clock.epoch_us()) > 0:
            moment = await self._next_moment()
            steps = [left] if moment is None else [left, max(1_000, moment)]
            if any(node.running for node in self.nodes):
                steps.append(min(node.shortest_lease for node in self.nodes) * 1_000_000 // 3_000)
            if any(node.placed for node in self.nodes):
                steps.append(int(CLOSE_BEAT_SECONDS * 1e6))
            self.clock.advance(min(steps) / 1e6)
            await self._settle_down()
        if drain:
            await self.drain()

    async def _settle_down(self) -> None:
        """Tick until nothing more is due, whatever handlers do."""
        for _ in range(MOST_TURNS):
            await self._tick_all()
            if not any(node.acts for node in self.nodes) or await self._next_moment() != 0:
                return
            if any(node.running for node in self.nodes):
                return  # they may have no slot left for what is due

    async def _tick_all(self) -> None:
        for node in self.nodes:
            await node.tick()

    async def _next_moment(self) -> int | None:
        """Microseconds until something comes due in any of the queues, or None."""
        self._claims += 1
        moments = [moment for node in self.nodes if node.acts for moment in node.placed]
        for queue in self.scheduler.config.queues:
            batch = await self.store.shard(queue).claim("harness", self._claims, 0, 86_400_000, 86_400_000)
            if batch.looks_due:
                moments.append(0)
            if batch.wait_us is not None:
                moments.append(batch.wait_us)
        return min(moments, default=None)
