"""From admitted to running: a run waits for its slot, if it was claimed before one was free; is marked as started, where that
has to be known before it begins; and is executed.

A line claims more than there are free slots (`Forecast`): they find a slot when they arrive, or soon after. What has waited
too long goes back to the store, uncounted: another node may have room.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from duly.core.outcome import Ending, Outcome
from duly.errors import StoreError
from duly.runtime.run import Run
from duly.stores.base import MAX_BATCH

if TYPE_CHECKING:
    from duly.runtime.line import Line
    from duly.runtime.worker import Worker

HAND_BACK_SECONDS = 0.05
"""How long a run waits for a slot at most."""
STOPPING = "its node is stopping"


class Starter:
    """Begins the runs of a worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._is_serving = False
        self._timer: asyncio.TimerHandle | None = None
        self._unmarked: dict[Line, list[Run]] = {}
        self._helpers: dict[asyncio.Task[None], None] = {}

    @property
    def helpers(self) -> list[asyncio.Task[None]]:
        """Marks that are under way."""
        return list(self._helpers)

    def begin(self, run: Run) -> None:
        """An admitted run: begin it, once it has a slot."""
        if not (run.holds_slot or self._finds_slot(run)):
            self._worker.slots.waiting.append((self._worker.clock.monotonic(), run))
            run.line.waiting += 1
            if self._timer is None:
                self._set_timer(HAND_BACK_SECONDS)
        elif run.cancel_reason is not None:
            self._cancelled(run)
        elif run.policy.at_most_once or run.suspect:
            if not self._unmarked:
                asyncio.get_running_loop().call_soon(self._mark)
            self._unmarked.setdefault(run.line, []).append(run)
        else:
            self._worker.execute(run)

    # waiting for a slot

    def _finds_slot(self, run: Run) -> bool:
        """Whether one has come free since the run was claimed, and nobody waits for it."""
        slots = self._worker.slots
        run.holds_slot = not slots.waiting and slots.take(1) == 1
        return run.holds_slot

    def _next(self) -> Run:
        """Who has waited longest; not any more."""
        _, run = self._worker.slots.waiting.popleft()
        run.line.waiting -= 1
        return run

    def slot_freed(self) -> None:
        """Those who have waited longest get the free slots."""
        if self._is_serving:
            return
        slots, waiting = self._worker.slots, self._worker.slots.waiting
        self._is_serving = True  # what is over at once frees its slot from within
        try:
            while waiting and slots.free > 0:
                run = self._next()
                if run.line.runs.get(run.job.id) is run:  # its lease was not taken meanwhile
                    slots.free -= 1
                    run.holds_slot = True
                    self.begin(run)
        finally:
            self._is_serving = False

    def hand_back_all(self) -> None:
        """Nothing more begins: what has not begun may begin elsewhere."""
        unmarked, self._unmarked = self._unmarked, {}
        waiting = [self._next() for _ in range(len(self._worker.slots.waiting))]
        for run in (*(run for runs in unmarked.values() for run in runs), *waiting):
            self._hand_back(run, STOPPING)

    def _hand_back(self, run: Run, why: str) -> None:
        if run.line.runs.get(run.job.id) is run:
            self._worker.ended(run, Outcome(Ending.HANDED_BACK, reason=why))

    def _cancelled(self, run: Run) -> None:
        self._worker.ended(run, Outcome(Ending.CANCELLED, reason="cancelled before it ran"))

    def _set_timer(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._hand_back_old)

    def _hand_back_old(self) -> None:
        waiting, now = self._worker.slots.waiting, self._worker.clock.monotonic()
        self._timer = None
        while waiting and (waited := now - waiting[0][0]) >= HAND_BACK_SECONDS:
            run = self._next()
            run.line.forecast.failed()
            self._hand_back(run, "its node had no room for it")
        if waiting:
            self._set_timer(HAND_BACK_SECONDS - waited)

    # at most once

    def _mark(self) -> None:
        unmarked, self._unmarked = self._unmarked, {}
        for line, runs in unmarked.items():
            for start in range(0, len(runs), MAX_BATCH):
                part = runs[start : start + MAX_BATCH]
                task = asyncio.get_running_loop().create_task(self._mark_started(line, part))
                self._helpers[task] = None
                task.add_done_callback(lambda done: self._helpers.pop(done, None))

    async def _mark_started(self, line: Line, runs: list[Run]) -> None:
        """The mark is in the store before the handler begins; no mark, no run."""
        worker = self._worker
        holds = [(run.job.id, run.fence) for run in runs]
        marks: list[bool] | None = None
        while marks is None:
            try:
                marks = await line.shard.start(holds)
            except StoreError as error:
                worker.reporter.lost(line, error)
                await asyncio.sleep(worker.config.lease / 20 * (0.5 + random.random()))
        for run, mine in zip(runs, marks, strict=True):
            if line.runs.get(run.job.id) is not run:
                continue  # its lease was taken, and its slot is free again
            if not mine:
                worker.drop(run)
            elif run.cancel_reason is not None:
                self._cancelled(run)
            elif not worker.claiming:  # the answer came after the stop: what has not begun may begin elsewhere
                self._hand_back(run, STOPPING)
            else:
                worker.execute(run)
