"""Fires due schedules: take what is due, plan it in pure code, write it if nobody else has. Any node may do it for any."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from duly.clock import Clock
from duly.core import schedule as planning
from duly.core.schedule import Definition, is_placed
from duly.runtime.alarm import Ahead, until
from duly.runtime.emitter import Emitter
from duly.runtime.line import Line
from duly.stores.base import Due, Fired, Firing, ScheduleRecord, Shard

BATCH = 100
"""Schedules looked at in one step."""
BATCHES = 20
"""Steps, one after the other, before a stop is heard."""
GATHER = 0.004
"""Seconds between two looks: at 1,667 ticks a second that takes half of the work away."""
NOW = Ahead(0, 0.0)
AHEAD_MS = 1_000
"""The farthest that a moment ahead may be, by the store's clock, to be what was meant."""


def plan_firing(record: ScheduleRecord, now: int, ahead: bool = False) -> Firing:
    """What to write about one schedule at `now`. Pure. Raises msgspec.MsgspecError if a newer duly defined it.

    ahead: now is yet to come; no job is due before.
    """
    definition: Definition = planning.decode(record.definition)
    live = definition.counted and bool(record.live)
    standing = planning.Standing(record.mark, record.anchor, live, record.fired, record.failures, record.ended)
    plan = planning.plan(definition, standing, now)
    return Firing(
        record.id,
        record.revision,
        record.mark,
        plan.mark,
        plan.next,
        plan.look,
        tuple(planning.make_job(record.id, definition, moment, ahead=ahead) for moment in plan.moments),
        tuple(plan.moments),
        plan.skipped,
        definition.counted,
        plan.late,
        plan.pause,
        live and definition.held_back and not plan.moments and plan.pause is None,
    )


def plan_due(due: Due, nominal: int = 0) -> list[Firing]:
    """What to write about each, at a nominal moment that may be a little ahead; pure."""
    firings, now = [], max(due.now, nominal)
    for record in due.schedules:
        try:
            firings.append(plan_firing(record, now, now > due.now))
        except msgspec.MsgspecError:
            continue  # defined by a newer duly: a newer node fires it
    return firings


async def fire_due(shard: Shard, node: str, due: Due) -> list[Fired]:
    """Plan and write; what the store said of each that could be planned."""
    firings = plan_due(due)
    return await shard.fire(node, firings) if firings else []


class Ticker:
    """A service of a node, one for each of its lines: looks at the shard when a claim saw something due there."""

    def __init__(self, node: str, line: Line, emitter: Emitter, clock: Clock) -> None:
        self.node, self.line, self.emitter, self.clock = node, line, emitter, clock
        self._asked: Ahead | None = None
        self._looked = float("-inf")
        self.wake: Callable[[], None] = lambda: None
        self.saw_placed: Callable[[], None] = lambda: None

    def looks_due(self, ahead: Ahead | None = None) -> None:
        """A claim saw a schedule that wants a look, or will in a moment. While one is taken, that is said again by the
        claim after it."""
        if self._asked is None:
            self._asked = ahead or NOW
            self.wake()

    async def tick(self) -> float | None:
        """Fire what is due; returns None (the next call is asked for by `wake`), or 0 if there may be more."""
        while self._asked is not None:
            if self._asked is NOW:  # of very many schedules, those of a few milliseconds are looked at together
                await asyncio.sleep(max(0.0, self._looked + GATHER - self.clock.monotonic()))
            is_done = await self._catch_up(self._asked)
            self._looked = self.clock.monotonic() if is_done else float("-inf")
            self._asked = None if is_done else NOW
            self.line.rouse()  # for the next moment, and for what came due meanwhile
            if not is_done:
                return 0.0
        return None

    async def _catch_up(self, ahead: Ahead) -> bool:
        """Batch after batch, BATCHES of them at most; False if there may be more. The store looks for the next one, and
        writes the one before, while this one is planned.

        Of a moment ahead, the first batch is fetched and planned before, and written when it has come.
        """
        line = self.line
        due, left = await line.shard.due(BATCH, ahead.nominal), BATCHES
        if ahead.nominal > due.now + AHEAD_MS:  # the store's clock has gone back meanwhile
            ahead = NOW
        writing: asyncio.Task[list[Fired]] | None = None
        following: asyncio.Task[Due] | None = None
        try:
            while due.schedules:
                left -= 1
                if left and len(due.schedules) == BATCH:
                    following = asyncio.create_task(line.shard.due(BATCH, ahead.nominal))
                    await asyncio.sleep(0)  # it is on its way now
                if any(is_placed(record.definition) for record in due.schedules):
                    self.saw_placed()
                firings = plan_due(due, ahead.nominal)
                if due.now < ahead.nominal:
                    await until(self.clock, ahead.moment)
                    if self.clock.monotonic() < ahead.moment:  # a clock that is moved by hand: they come again
                        return True
                if writing is not None:
                    await writing
                writing = asyncio.create_task(self.write(firings))
                if following is None:
                    line.rouse()  # the claim of the jobs just made travels right behind
                    break
                due, following = await following, None
            if writing is not None:
                await writing
        finally:
            under_way = [task for task in (writing, following) if task is not None]
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)  # those that are done have been heard then, too
        return left > 0

    async def write(self, firings: list[Firing]) -> list[Fired]:
        """As `fire` answers it."""
        line = self.line
        answers = await line.shard.fire(self.node, firings) if firings else []
        if self.emitter.listeners:
            self._tell(line, [firing for firing, answer in zip(firings, answers, strict=True) if answer != "stale"])
        return answers

    def _tell(self, line: Line, fired: Iterable[Firing]) -> None:
        for firing in fired:
            for nominal in firing.nominals:
                self.emitter.emit("tick.fired", schedule=firing.id, queue=line.queue, nominal=nominal / 1000)
            for why, count in firing.skipped.items():
                self.emitter.emit("tick.skipped", schedule=firing.id, queue=line.queue, reason=why, count=count)
