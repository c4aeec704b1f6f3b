"""Fires due schedules: take what is due, plan it in pure code, write it if nobody else has. Any node may do it for any."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from duly.config import Config
from duly.core import schedule as planning
from duly.core.schedule import Definition
from duly.runtime.emitter import Emitter
from duly.runtime.line import Line
from duly.stores.base import Firing, ScheduleRecord, Shard

BATCH = 100
"""Schedules looked at in one step."""


def plan_firing(record: ScheduleRecord, now: int) -> Firing:
    """What to write about one schedule at `now`. Pure. Raises msgspec.MsgspecError if a newer duly defined it."""
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
        tuple(planning.make_job(record.id, definition, moment) for moment in plan.moments),
        tuple(plan.moments),
        plan.skipped,
        definition.counted,
        plan.late,
        plan.pause,
        live and definition.held_back and not plan.moments and plan.pause is None,
    )


async def fire_due(shard: Shard, node: str, records: list[ScheduleRecord], now: int) -> list[tuple[Firing, str]]:
    """Plan and write; each firing with what the store said of it."""
    firings = []
    for record in records:
        try:
            firings.append(plan_firing(record, now))
        except msgspec.MsgspecError:
            continue  # defined by a newer duly: a newer node fires it
    answers = await shard.fire(node, firings) if firings else []
    return list(zip(firings, answers, strict=True))


class Ticker:
    """The service of a node: looks at shards in which a claim saw something due."""

    def __init__(self, node: str, config: Config, emitter: Emitter) -> None:
        self.node, self.config, self.emitter = node, config, emitter
        self._lines: dict[Line, None] = {}
        self.wake: Any = lambda: None

    def looks_due(self, line: Line) -> None:
        """A claim saw a schedule that wants a look."""
        self._lines[line] = None
        self.wake()

    async def tick(self) -> float | None:
        """Fire what is due; returns None: the next call is asked for by `wake`."""
        while self._lines:
            line = next(iter(self._lines))
            if await self._look(line) < BATCH:
                self._lines.pop(line, None)
                line.rouse()  # for the jobs just made, and for the next moment
            await asyncio.sleep(0)
        return None

    async def _look(self, line: Line) -> int:
        due = await line.shard.due(BATCH)
        for firing, answer in await fire_due(line.shard, self.node, due.schedules, due.now):
            if answer != "fired" or not self.emitter.listeners:
                continue
            for nominal in firing.nominals:
                self.emitter.emit("tick.fired", schedule=firing.id, queue=line.queue, nominal=nominal / 1000)
            for why, count in firing.skipped.items():
                self.emitter.emit("tick.skipped", schedule=firing.id, queue=line.queue, reason=why, count=count)
        return len(due.schedules)
