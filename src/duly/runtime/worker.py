"""The worker of a node: slots, lines to its shards, and what becomes of each claimed job.

admit (may it run?) -> begin (`Starter`: its slot, its mark) -> execute -> decide -> settle. Policy is not here: it is asked
of `core.lifecycle`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from duly.clock import Clock
from duly.config import Config
from duly.core import codec, lifecycle
from duly.core.job import Claimed
from duly.core.lifecycle import END, Change
from duly.core.outcome import RETURNED_NONE, Ending, Outcome
from duly.errors import EncodingError, UnfitJob
from duly.runtime.alarm import Ahead
from duly.runtime.children import Children
from duly.runtime.emitter import Emitter
from duly.runtime.executor import LoopExecutor, ThreadExecutor
from duly.runtime.forward import beside, forwards
from duly.runtime.handler import UNKNOWN, Handlers
from duly.runtime.line import Line
from duly.runtime.meter import Meter
from duly.runtime.middleware import Middleware
from duly.runtime.reporter import Reporter
from duly.runtime.run import Run
from duly.runtime.slots import Slots
from duly.runtime.starter import Starter
from duly.stores.base import Batch, Renewed, Settled, Settlement
from duly.stores.shards import Shards


class Worker:
    """Runs jobs of the configured queues on one event loop."""

    def __init__(self, node: str, shards: Shards, config: Config, handlers: Handlers, clock: Clock,
                 emitter: Emitter, middleware: Sequence[Middleware] = ()) -> None:  # fmt: skip
        self.node, self.shards, self.config, self.handlers, self.clock = node, shards, config, handlers, clock
        self.logger = config.logger
        self.reporter = Reporter(node, config, emitter)
        self.meter = Meter(shards.store, config.logger, clock) if config.measures else None
        self.state: Any = None
        self.claiming = False
        self.looks_due: Callable[[Line, Ahead | None], None] = lambda _line, _ahead: None
        self.server_moved: Callable[[Line], None] = lambda _line: None
        self.nudge: Callable[[], None] = lambda: None
        self.run_ended: Callable[[], None] | None = None
        self._suspect: Run | None = None
        self._dropped: dict[Run, None] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._idle = asyncio.Event()
        self._stopping = False
        self._lease_ms = config.lease_ms
        self.threads = ThreadExecutor(config.threads or config.concurrency, self.ended, self._hung, self._free, clock)
        self.children = Children(config, clock)
        self.executor = LoopExecutor(self.ended, self.threads, self.children, middleware, clock)
        self._wrapped = bool(middleware)
        self.lines: list[Line] = []
        self.starter = Starter(self)
        self.slots = Slots(config.concurrency, self.lines, self.starter.slot_freed, clock)
        self.add_lines()

    # life

    def add_lines(self) -> list[Line]:
        """A line to each shard of the queues served that has none yet; these."""
        there = {line.place for line in self.lines}
        places = [place for queue in self.config.queues for place in self.shards.places(queue) if place not in there]
        added = [Line(self, place, self.shards.at(place)) for place in places]
        self.lines += added
        return added

    def start(self) -> None:
        self.claiming = True
        self.run_lines(self.lines)

    def run_lines(self, lines: Sequence[Line]) -> None:
        self._tasks += [asyncio.get_running_loop().create_task(line.run()) for line in lines]

    def stop_claiming(self) -> None:
        self.claiming = False
        self.starter.hand_back_all()

    def start_claiming(self) -> None:
        self.claiming = True
        for line in self.lines:
            line.rouse()

    @property
    def running(self) -> list[Run]:
        """Runs of which the handler has not ended yet."""
        return [*(run for line in self.lines for run in line.runs.values() if run.started), *self._dropped]

    @property
    def busy(self) -> int:
        """Slots that runs have; what a claim under way asks for is not taken yet. Other threads may ask."""
        return max(0, self.slots.count - self.slots.free - sum(line.reserved for line in self.lines))

    async def stop(self, grace: float, *, leaving: bool) -> None:
        """Claim no more; give runs `grace` seconds; cancel what is left and hand it back uncounted; settle everything.

        A thread cannot be cancelled. leaving: the process ends right after, so such jobs are handed back, to be run
        elsewhere a moment later; otherwise their end is waited for, and their leases are kept meanwhile.
        """
        self.stop_claiming()
        self._stopping = True
        self.children.drain()
        await self._until_idle(grace)
        for run in self.running:
            self.executor.cancel(run, "stop")
        await self._until_idle(grace / 4 + 1, threads=False)
        threads = [run for run in self.running if run.handler.in_thread]
        if threads and leaving:
            for run in threads:
                run.cancel_reason = "timeout"  # abandoned: whatever it still says is not heard
                self.ended(run, Outcome(Ending.INTERRUPTED, seconds=1.0, reason="its node stopped"), frees=False)
        elif threads:
            names = ", ".join(sorted({run.handler.name for run in threads}))
            self.logger.warning("waiting for %d thread(s) that cannot be cancelled: %s", len(threads), names)
            await self._until_idle(None)
        if helpers := self.starter.helpers:  # a mark under way: its job is handed back when the answer comes
            await asyncio.wait(helpers, timeout=self.config.lease)
        for line in self.lines:
            line.close()
        await self._settle_rest()
        await self.children.close()
        self.threads.close()
        if not leaving:
            await asyncio.get_running_loop().run_in_executor(None, self.threads.join, 1.0)

    async def _settle_rest(self) -> None:
        """Settlements get one lease to be answered; after that others take the jobs over anyway."""
        _, left = await asyncio.wait(self._tasks, timeout=self.config.lease) if self._tasks else (set(), set())
        late = [task for task in self._tasks if task in left]  # in an order that chance has no part in
        helpers = self.starter.helpers
        for task in (*late, *helpers):
            task.cancel()
        await asyncio.gather(*self._tasks, *helpers, return_exceptions=True)
        unsettled = sum(line.unsettled for line in self.lines)
        if left and unsettled:
            self.logger.error("stopped with %d settlement(s) that the store did not answer", unsettled)

    async def _until_idle(self, seconds: float | None, *, threads: bool = True) -> None:
        try:
            async with asyncio.timeout(seconds):
                while any(threads or not run.handler.in_thread for run in self.running):
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            pass

    @property
    def shortest_lease(self) -> int:
        declared = self.handlers.shortest_lease()
        return min(self.config.lease_ms, int(declared * 1000)) if declared else self.config.lease_ms

    # the path of a job

    def admit(self, line: Line, batch: Batch, slots: int | None = None) -> None:
        """Everything just claimed is run, or settled without a run. slots: for so many of its jobs a slot is reserved, the
        others wait for one; None: for all."""
        if batch.gap or batch.backwards_ms or batch.moved:
            self.reporter.gap(line, batch)
        if batch.moved:
            self.server_moved(line)
        if batch.looks_due:
            self.looks_due(line, None)
        self.reporter.took_over(line, batch)
        shorter = False
        for place, job in enumerate(batch.jobs):
            has_slot = slots is None or place < slots
            if (known := line.runs.get(job.id)) is not None:
                if known.fence == batch.fence:  # told twice of one lease
                    if has_slot:
                        self.slots.release(1)
                    continue
                self._lose(known)  # its lease was taken, and the job has come back
            try:
                run = self._admit_one(line, job, batch, has_slot)
            except Exception as error:  # of ours, or of the handler's types: never the node's end
                self.logger.exception("job %s could not be admitted", job.id)
                self._put_back(
                    line, job, batch, UnfitJob("envelope", f"it could not be admitted: {error!r}"), None, has_slot
                )
                continue
            if run is None:
                continue
            shorter = shorter or run.lease < self._lease_ms
            self.starter.begin(run)
        if shorter:
            self.nudge()

    def _admit_one(self, line: Line, job: Claimed, batch: Batch, has_slot: bool) -> Run | None:
        """A run that is to be executed, or None: then it is settled already, as its outcome asks."""
        run: Run | None = None
        try:
            envelope = codec.decode(job.body)
            handler = self.handlers.find(envelope.task)
            if handler is None:
                raise UnfitJob("task", f"no task {envelope.task!r} is declared on this node")
            policy = handler.policy_for(envelope.options)
            lease = int(policy.lease * 1000) if policy.lease else self._lease_ms
            run = Run(line, job, batch.fence, batch.now, lease, envelope, handler, policy, holds_slot=has_slot)
            line.runs[job.id] = run
            if job.before is not None or job.cancelled or job.crashes or policy.expires is not None:
                outcome = lifecycle.admit(job, policy, batch.now) or self._isolate(run)
                if outcome is not None:
                    self.ended(run, outcome)
                    return None
            if not self.claiming:
                self.ended(run, Outcome(Ending.HANDED_BACK, reason="its node is stopping"))
                return None
            run.args, run.kwargs = handler.bind(envelope)
        except UnfitJob as error:
            self._put_back(line, job, batch, error, run, has_slot)
            return None
        return run

    def _isolate(self, run: Run) -> Outcome | None:
        """One job that may take the node down at a time (DESIGN §2.9)."""
        if not lifecycle.is_suspect(run.job, run.policy):
            return None
        if self._suspect is not None:
            return Outcome(Ending.ISOLATED, reason=f"waits for {self._suspect.job.id}, which may crash its node too")
        self._suspect, run.suspect = run, True
        return None

    def _put_back(
        self, line: Line, job: Claimed, batch: Batch, error: UnfitJob, run: Run | None, has_slot: bool
    ) -> None:
        """Unfit is not lost: this node cannot run it, another may."""
        ending = Ending.MISFIT if error.reason == "arguments" else Ending.UNFIT
        if job.before is not None and job.before.started:
            ending = Ending.LOST  # started at most once, or as a suspect: put back, it would start again
        if run is None:
            empty = codec.Envelope(task="?")
            lease = self.config.lease_ms
            run = Run(line, job, batch.fence, batch.now, lease, empty, UNKNOWN, UNKNOWN.policy, holds_slot=has_slot)
            line.runs[job.id] = run
        self.reporter.emit("job.unfit", run, reason=str(error))
        self.ended(run, Outcome(ending, reason=str(error), error=str(error)))

    def execute(self, run: Run) -> None:
        """Run the handler, now."""
        run.started = True
        if (tallies := run.line.tallies) is not None:
            run.tally = tally = tallies[run.handler.name]
            tally.started += 1
        if self.reporter.listens:
            self.reporter.emit("job.started", run)
        if run.policy.timeout is not None and not run.handler.in_process:
            run.deadline = self.clock.monotonic() + run.policy.timeout + self.config.grace
        try:
            if run.handler.in_thread and not self._wrapped:
                self.threads.start(run)
            else:
                self.executor.start(run)
        except Exception as error:  # no more threads, say: it has not begun, and may a little later, or elsewhere
            self.logger.exception("job %s could not be begun", run.job.id)
            self.ended(run, Outcome(Ending.HANDED_BACK, seconds=1.0, reason=f"it could not be begun: {error}"))

    def ended(self, run: Run, outcome: Outcome, *, frees: bool = True) -> None:
        """A run is over: decide what that means, and have it settled."""
        was_started, run.started, run.is_over = run.started, False, True
        if frees:
            self._free(run)
        if run.tally is not None and run.began is not None:
            run.took = self.clock.monotonic() - run.began
        if was_started:
            if self._dropped:
                self._dropped.pop(run, None)
            if self._stopping:
                self._idle.set()
            if self.run_ended is not None:
                self.run_ended()
        if run.line.runs.get(run.job.id) is not run:
            if was_started and run.line.tallies is not None:
                run.line.tallies.taken(run)
            return  # its lease was taken meanwhile: nothing of it is written
        if outcome is RETURNED_NONE and not run.children and run.policy.keep_result == 0:
            self._settle(run, END, None)  # by far the most common end, without the detour
            return
        try:
            self._settle_with(run, outcome)
        except Exception as error:  # a fault of ours: the job stays visible, the node goes on
            self.logger.exception("the end of job %s could not be decided", run.job.id)
            reason = f"its end ({outcome.ending.value}) could not be decided: {type(error).__name__}"
            self._settle(run, Change("dead", 0, run.job.attempts, run.job.crashes, 0, reason), None)

    def _settle_with(self, run: Run, outcome: Outcome) -> None:
        unfit_ms = int(self.config.unfit_for * 1000)
        result: bytes | None = None
        try:
            change = lifecycle.decide(run.job, outcome, run.policy, run.now, random.random(), unfit_ms)
            if change.keep_result:
                result = codec.pack((outcome.ending.value, outcome.value, change.reason, change.error))
        except EncodingError as error:
            outcome = Outcome(Ending.FAILED, reason=f"its result cannot be kept: {error}", error=str(error))
            change = lifecycle.decide(run.job, outcome, run.policy, run.now, 0.0, unfit_ms)
            result = codec.pack((outcome.ending.value, None, change.reason, change.error))
        self.reporter.decided(run, outcome, change)
        self._settle(run, change, result, with_children=outcome.ending is Ending.RETURNED)

    def _settle(self, run: Run, change: Change, result: bytes | None, *, with_children: bool = False) -> None:
        job, origin = run.job, run.envelope.origin
        wanted = run.children if with_children and change.verb == "end" else []
        children = beside(run.line.place, wanted, self.shards) if wanted else ()
        settlement = Settlement(
            job.id, run.fence, change, job.priority, job.named, job.unique,
            origin.schedule if origin is not None else None,
            result, int(run.policy.keep_result * 1000), children, self.shards.map.epoch if children else None,
        )  # fmt: skip
        run.line.add(run, settlement)

    def forward_instead(self, run: Run, settlement: Settlement) -> None:
        """The map of shards is another by now: the children find their places by it, once they are kept."""
        run.line.add(run, msgspec.structs.replace(settlement, children=forwards(run.children), epoch=None))

    def cancel_instead(self, run: Run) -> None:
        """The store knows of a cancel that the run's change would have overridden."""
        self._settle_with(run, Outcome(Ending.CANCELLED, reason="cancelled while it ran"))

    def settled(self, run: Run, settlement: Settlement, answer: Settled) -> None:
        """The store has answered: this run is history."""
        self.clear_suspect(run)
        if answer == "taken":
            self.reporter.taken(
                run, "its lease was taken before it was settled", "lease taken; its end was not written"
            )
        elif self.reporter.listens:
            name = {"end": "job.ended", "again": "job.retried", "dead": "job.dead"}[settlement.change.verb]
            self.reporter.emit(name, run, reason=settlement.change.reason)

    # what the heartbeat brings

    def renewed(self, answers: Sequence[tuple[Run, Renewed]]) -> None:
        """Runs whose lease was taken, or whose cancel was asked, are cancelled. Called in the loop's thread."""
        for run, answer in answers:
            if answer == "applied" or run.settling or run.is_over or run.line.runs.get(run.job.id) is not run:
                continue  # a settlement will be answered by itself; it may have been applied already
            if answer == "taken":
                self._lose(run)
            else:
                self.executor.cancel(run, "asked")

    def _lose(self, run: Run) -> None:
        if not run.is_over:
            self.reporter.taken(run, "its lease was taken", "its lease was taken; the run is cancelled")
        self.drop(run)

    def drop(self, run: Run) -> None:
        """The lease is another's: the run is cancelled, and nothing of it will be written."""
        del run.line.runs[run.job.id]
        if run.started:
            self._dropped[run] = None
            self.executor.cancel(run, "taken")
        else:
            self._free(run)

    # threads that do not come back

    def _hung(self, run: Run) -> None:
        count = sum(1 for other in self.running if other.cancel_reason == "timeout") or 1
        self.reporter.hung(run, count)
        outcome = Outcome(
            Ending.TIMED_OUT, reason=f"ran longer than its timeout of {run.policy.timeout:g} s", error="TimeoutError"
        )
        self.ended(run, outcome, frees=False)

    def _free(self, run: Run) -> None:
        if run.holds_slot:  # a run gives its slot back once, whichever way it ends
            run.holds_slot = False
            run.line.forecast.ended += 1
            self.slots.release(1)
        self.clear_suspect(run)

    def clear_suspect(self, run: Run) -> None:
        """Once it has ended and that is written: before, it would be buried for a crash of the next suspect."""
        if run.suspect and not run.holds_slot and run.line.runs.get(run.job.id) is not run:
            self._suspect, run.suspect = None, False
