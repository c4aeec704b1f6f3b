"""Counts what becomes of a node's runs, by queue and task, and has the store keep that by the minute.

On a job's path it costs a count as it starts, two readings of the clock and a note as its end is written; all else is done
when somebody looks.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from duly.core.lifecycle import END, Change
from duly.core.measures import KEEP_MINUTES, MOST_TASKS, OTHERS, Counts, Tally, end_of, key_of, less
from duly.errors import StoreError
from duly.stores.capabilities import Measured

if TYPE_CHECKING:
    import logging

    from duly.clock import Clock
    from duly.runtime.run import Run
    from duly.stores.base import Settled, Store

PAUSE = 15.0
"""Seconds between two writes, a fifth more or less, so that nodes do not go in step."""
PATIENCE = 1.0
"""Seconds that a write may take, also at a stop."""


class Tallies(dict[str, Tally]):
    """Of one queue, by task. ahead: the store's clock, as last heard, less this process's monotonic one, in ms."""

    ahead = 0

    def __missing__(self, task: str) -> Tally:
        if len(self) >= MOST_TASKS and task != OTHERS:  # names that are bound at run time may be without end
            return self[OTHERS]
        tally = self[task] = Tally()
        return tally

    def settled(self, run: Run, change: Change, answer: Settled) -> None:
        """What the store has answered about a run that is over. One that is to be settled otherwise is not over yet."""
        tally, took = run.tally, run.took
        if answer == "applied" and change is END and tally is not None and took is not None:
            tally.ends["succeeded"] += 1  # by far the most
            tally.note(took, run.now, run.job.due)
        elif answer in ("applied", "repeated"):
            self._ended(run, end_of(run.job, change))
        elif answer == "taken":
            self._ended(run, answer)

    def taken(self, run: Run) -> None:
        """A run is over whose lease was another's by then."""
        self._ended(run, "taken")

    def _ended(self, run: Run, end: str) -> None:
        tally = run.tally or self[run.handler.name]  # that of a job that ended without a run
        tally.ends[end] += 1
        if run.took is not None:
            tally.note(run.took, run.now, run.job.due)


class Meter:
    """All tallies of a node."""

    def __init__(self, store: Store, logger: logging.Logger, clock: Clock) -> None:
        self.queues: dict[str, Tallies] = {}
        self._store, self._logger, self._clock = store, logger, clock
        self._written: dict[str, Counts] = {}

    def of(self, queue: str) -> Tallies:
        """The tallies of a queue, for all its shards."""
        return self.queues.setdefault(queue, Tallies())

    def tallies(self) -> Iterator[tuple[str, str, Tally]]:
        """(queue, task, tally) of each. From any thread: what comes meanwhile may be left out."""
        for queue, tallies in self.queues.copy().items():
            for task, tally in tallies.copy().items():
                yield queue, task, tally

    def counts(self) -> dict[str, Counts]:
        """All counters since the start, by `measures.key_of`. From any thread."""
        return {key_of(queue, task): tally.counts() for queue, task, tally in self.tallies()}

    async def tick(self) -> float:
        """One write; returns the seconds until the next."""
        await self.flush()
        return PAUSE * (0.8 + 0.4 * random.random())

    async def flush(self) -> None:
        """Have the store add what has come since the last time to its present minute. If it does not answer within
        PATIENCE, that is lost."""
        if not isinstance(self._store, Measured):
            return
        counts, before = self.counts(), self._written
        more = {key: added for key, there in counts.items() if (added := less(there, before.get(key, {})))}
        self._written = counts
        heard = [tallies.ahead for tallies in self.queues.values() if tallies.ahead]
        if not more or not heard:  # without the store's clock, nobody knows the minute
            return
        minute = (int(self._clock.monotonic() * 1000) + min(heard)) // 60_000
        try:
            async with asyncio.timeout(PATIENCE):
                await self._store.measure(minute, more, KEEP_MINUTES)
        except (StoreError, TimeoutError) as error:
            self._logger.debug("what was counted of %d task(s) since the last time is lost: %s", len(more), error)
