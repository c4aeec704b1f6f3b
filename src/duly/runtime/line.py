"""A node's line to one shard: settle what has ended, claim what is due, and sleep until one of the two is needed.

One exchange is under way at a time: settlements and the next claim travel together. What a claim brought is admitted and
run while the next exchange travels, so that node and store work at the same time. Every call carries a number of this
node; a call without an answer is repeated as it was, with its number, until it is answered (DESIGN §2.8). After a lost
answer leases are renewed before anything new is claimed.
"""

from __future__ import annotations

import asyncio
import functools
import random
from typing import TYPE_CHECKING, Any

from duly.core.lifecycle import END, Change
from duly.core.shards import Place
from duly.errors import StoreError, StoreUncertain
from duly.runtime.alarm import EXACT_FROM, Ahead, Alarm, Shyness
from duly.runtime.forecast import Forecast
from duly.runtime.loop import Backoff
from duly.runtime.run import Run
from duly.stores.base import MAX_BATCH, Batch, Renewal, Settled, Settlement, Shard

if TYPE_CHECKING:
    from duly.runtime.worker import Worker

MOST_UNSETTLED = 4
"""Times the slots: so many ended runs may wait for their settlement; beyond, nothing more is claimed."""
FULL_POLL = 0.25
"""Seconds between claims of nothing by a node without a free slot: they stamp the shard and look for ticks."""

TURNS_TO_SEND = 2
"""Turns of the event loop until calls are on their way: in the first they are made, in the second they are sent together."""

UNWRITABLE = Change("dead", reason="failed: its end could not be written, see the log of its node")


class Line:
    """One shard as a worker sees it."""

    def __init__(self, worker: Worker, place: Place, shard: Shard) -> None:
        self.worker, self.place, self.shard, self.queue = worker, place, shard, place.queue
        self.runs: dict[str, Run] = {}
        self.tallies = worker.meter.of(self.queue) if worker.meter is not None else None
        self._outbox: list[tuple[Run, Settlement]] = []
        self._sent: list[tuple[Run, Settlement]] = []
        self._arrived: Batch | None = None  # claimed, and not admitted yet
        self._granted = 0  # slots for what has arrived
        self._claim_n = self._settle_n = 1
        self.reserved = self._asked = 0  # of what a claim asks for: slots, and jobs in all
        self.forecast = Forecast(worker.clock)
        self.waiting = 0  # runs that wait for a slot
        self._claim_open = False
        self._unheard = False  # the last claim was not answered: the next asks for nothing, and holds no slot
        self._hungry = True
        self._pass_on = False
        self._doubt = False
        self._bell = asyncio.Event()
        self._asleep = False
        self._alarm = Alarm(worker.clock)
        self._poll: asyncio.TimerHandle | None = None
        self._sleeper: asyncio.Task[None] | None = None
        self._backoff = Backoff(worker.config.longest_pause)
        self._closing = False
        self._careful = 0
        self.asked_at = worker.clock.monotonic()  # when it sent the last claim, at first when it was made
        self._shyness = Shyness(worker.clock)

    # what others tell the line

    def add(self, run: Run, settlement: Settlement) -> None:
        """A run has ended: settle it with the next exchange."""
        self._outbox.append((run, settlement))
        if self._asleep:
            self._ring()

    def rouse(self) -> None:
        """There may be something to claim."""
        self._hungry = True
        self._ring()

    def _look(self, nominal: int, moment: float) -> None:
        """A schedule is due in a moment: have the ticker fetch and plan it until then. It rouses the line."""
        self.worker.looks_due(self, Ahead(nominal, moment))

    def slot_freed(self) -> None:
        if self._hungry:
            self._ring()

    def _ring(self) -> None:
        if self._asleep:  # awake, it looks again before it sleeps
            self._asleep = False
            self._bell.set()

    @property
    def is_hungry(self) -> bool:
        """Whether it would claim, or is about to; it is not while it sleeps until something is due."""
        return self._hungry

    @property
    def unsettled(self) -> int:
        """Runs that have ended and whose settlement is not answered yet."""
        return len(self._outbox) + len(self._sent)

    # the loop

    async def run(self) -> None:
        """Exchange until `close`; then once more, so that nothing ended stays unsettled."""
        try:
            while True:
                if self._needs_exchange():
                    await self._exchange_or_go_on()
                elif self._arrived is not None:
                    self.admit()
                elif self._closing:
                    return
                else:
                    self._sleep()
                    self._asleep = True
                    self._bell.clear()
                    await self._bell.wait()
        finally:
            self._alarm.cancel()
            if self._poll is not None:
                self._poll.cancel()
            if self._sleeper is not None:
                self._sleeper.cancel()
                await asyncio.gather(self._sleeper, return_exceptions=True)

    async def _exchange_or_go_on(self) -> None:
        """An exchange; a fault of ours in it must not end the line, nor be met again for ever."""
        try:
            await self.exchange()
            self._careful = max(0, self._careful - 1)
        except Exception:
            self.worker.logger.exception("queue %s: an exchange failed", self.place.shown)
            self.admit()
            self._settle_n += 1
            sent, self._sent = self._sent, []
            if len(sent) == 1:
                sent = self._instead_of(*sent[0])
            self._outbox = [*sent, *self._outbox]
            self._careful = len(self._outbox)  # one by one, so that one does not keep the others from being settled
            await asyncio.sleep(self._backoff.pause())

    def _instead_of(self, run: Run, failed: Settlement) -> list[tuple[Run, Settlement]]:
        """A plain death for an end that cannot be written; nothing if that was tried: then its lease is let go."""
        if failed.change == UNWRITABLE:
            self.runs.pop(run.job.id, None)
            self.worker.clear_suspect(run)
            return []
        return [(run, Settlement(failed.id, failed.fence, UNWRITABLE, failed.priority, failed.named, failed.unique))]

    def close(self) -> None:
        self._closing = True
        self._ring()

    def _may_claim(self) -> bool:
        worker = self.worker
        if not worker.claiming or self.unsettled >= MOST_UNSETTLED * worker.config.concurrency:
            return False
        return worker.slots.free > 0 or self._ahead() > 0

    def _ahead(self) -> int:
        """How many jobs to claim beyond the free slots."""
        count = self.worker.slots.count
        ahead = self.forecast.ahead(count)
        if ahead == 0:
            if not self.worker.slots.are_turning:
                return 0
            ahead = 1  # what waits takes each slot that comes free, by runs of other lines: this one gets its turn, too
        unplaced = len(self._arrived.jobs) - self._granted if self._arrived is not None else 0
        return max(0, ahead - self.waiting - unplaced)

    def _needs_exchange(self) -> bool:
        if self._outbox or self._sent or self._claim_open:
            return True
        return self._pass_on or (self._hungry and self._may_claim())

    def _sleep(self) -> None:
        """Idle: block on the shard's token, on a connection of its own; full: look again in a moment."""
        if not self.worker.claiming:
            return
        if self.worker.slots.free <= 0 and not self._ahead():
            if self._poll is None:
                self._poll = asyncio.get_running_loop().call_later(FULL_POLL, self._look_while_full)
        elif self._sleeper is None or self._sleeper.done():
            self._sleeper = asyncio.get_running_loop().create_task(self._wait_for_token())

    async def _wait_for_token(self) -> None:
        # A little longer than the poll, so that a thousand idle nodes do not come at once.
        seconds = self.worker.config.poll * (1.1 + 0.3 * random.random())
        try:
            token = await self.shard.wait(seconds)
        except StoreError as error:
            self.worker.reporter.lost(self, error)
            await asyncio.sleep(self._backoff.pause())
            token = False
        if token and not self._may_claim():
            self._pass_on = True
        self.rouse()

    def _look_while_full(self) -> None:
        self._poll = None
        self._pass_on = True
        self._ring()

    async def exchange(self) -> None:
        """Settle and claim in one round trip, and admit what the last one brought while it is under way.

        What got no answer stays as it is, to be repeated. What came now waits for the next exchange, or for `admit`.
        """
        if self._doubt and not await self._renew_first():
            return
        if not self._sent:
            most = 1 if self._careful else MAX_BATCH
            self._sent, self._outbox = self._outbox[:most], self._outbox[most:]
        for run, _ in self._sent:
            run.settling = True
        calls: list[Any] = []
        if self._sent:
            settlements = [settlement for _, settlement in self._sent]
            calls.append(self.shard.settle(self.worker.node, self._settle_n, settlements))
        claims = self._claim_open or self._pass_on or (self._hungry and self._may_claim())
        if claims:
            calls.append(self._claim())
        if not calls:  # another line has taken the last slot while this one renewed
            return
        if self._arrived is None and len(calls) == 1:
            answers = [await _caught(calls[0])]
        else:
            under_way = asyncio.gather(*calls, return_exceptions=True)
            for _ in range(TURNS_TO_SEND):
                await asyncio.sleep(0)
            self.admit()
            answers = await under_way
        fault: BaseException | None = None
        if self._sent:
            fault = self._settled(answers[0])
        if claims:
            fault = self._claimed(answers[-1]) or fault
        if fault is not None:
            self._doubt = True
            self.admit()
            self.worker.reporter.lost(self, fault)
            await asyncio.sleep(self._backoff.pause())
        else:
            self._backoff.reset()
            self.worker.reporter.found(self)

    def _claim(self) -> Any:
        config, slots = self.worker.config, self.worker.slots
        self.asked_at = self.worker.clock.monotonic()
        if not self._claim_open:
            self._hungry = self._pass_on = False
            if self._may_claim() and not self._unheard:
                ahead = self._ahead()
                most = slots.most(ahead)
                self.reserved = slots.reserve(most)
                self._asked = min(most, self.reserved + ahead)
            self._claim_open = True
        return self.shard.claim(
            self.worker.node, self._claim_n, self._asked, config.lease_ms, self.worker.shortest_lease
        )

    async def _renew_first(self) -> bool:
        """After a lost answer: keep what is held before asking for more."""
        held = [run for run in self.runs.values() if not run.settling and not run.is_over]
        try:
            for start in range(0, len(held), MAX_BATCH):
                part = held[start : start + MAX_BATCH]
                answers = await self.shard.renew(
                    [Renewal(run.job.id, run.fence, run.lease, run.progress) for run in part]
                )
                self.worker.renewed(list(zip(part, answers, strict=True)))
        except StoreError as error:
            self.worker.reporter.lost(self, error)
            await asyncio.sleep(self._backoff.pause())
            return False
        self._doubt = False
        return True

    def _settled(self, answers: list[Settled] | BaseException) -> BaseException | None:
        if isinstance(answers, BaseException):
            for run, _ in self._sent:
                run.settling = False
            return _only_store_errors(answers)
        sent, self._sent = self._sent, []
        self._settle_n += 1
        told, runs, tallies = self.worker.reporter.listens, self.runs, self.tallies
        for (run, settlement), answer in zip(sent, answers, strict=True):
            if tallies is not None:
                tallies.settled(run, settlement.change, answer)
            if answer == "applied" and settlement.change is END and not (told or run.suspect):
                if runs.get(run.job.id) is run:
                    del runs[run.job.id]
                continue  # by far the most: nobody is told
            if answer == "cancel asked":
                run.settling = False
                self.worker.cancel_instead(run)
                continue
            if answer == "map changed":
                run.settling = False
                self.worker.forward_instead(run, settlement)
                continue
            if self.runs.get(run.job.id) is run:
                del self.runs[run.job.id]
            if settlement.change.unfit_since:
                self._shyness.put_back(settlement.change.delay)
            self.worker.settled(run, settlement, answer)
        return None

    def _unanswered(self, error: BaseException) -> BaseException:
        """A claim got no answer: until it gets one, other lines may have its slots."""
        self._unheard = True
        reserved, self.reserved, self._asked = self.reserved, 0, 0
        self.worker.slots.release(reserved)
        return _only_store_errors(error)

    def _claimed(self, batch: Batch | BaseException) -> BaseException | None:
        if isinstance(batch, BaseException):
            return self._unanswered(batch)
        waited = self.worker.clock.monotonic() - self.asked_at
        if batch.jobs and waited > self.worker.config.lease / 2:  # what was claimed may have been taken over meanwhile
            error = StoreUncertain(f"the answer to a claim was read after {waited:.1f} s; it is asked for again")
            return self._unanswered(error)
        self.forecast.answered(waited)
        self._claim_n += 1
        self._claim_open = False
        asked, self._asked, reserved, self.reserved = self._asked, 0, self.reserved, 0
        was_unheard, self._unheard = self._unheard, False
        count = len(batch.jobs)
        self._granted = min(count, reserved)
        if count > reserved:
            self._granted += self.worker.slots.take(count - reserved)
        self.worker.slots.release(reserved - count)
        if was_unheard or batch.wait_us == 0 or (asked and count >= asked):
            self._hungry = True
        elif batch.wait_us is not None:
            ago = min(waited, 0.003) / 3  # the store spoke about a third of a round trip before
            seconds = max(0.0, batch.wait_us / 1_000_000 - ago) + self._shyness.seconds(batch.now, batch.wait_us)
            if batch.look_next and seconds >= EXACT_FROM:
                self._alarm.set_early(seconds, functools.partial(self._look, batch.now - (-batch.wait_us // 1000)))
            else:
                self._alarm.set(seconds, self.rouse)
        self._arrived = batch
        if self.tallies is not None:
            self.tallies.ahead = batch.now - int(self.worker.clock.monotonic() * 1000)
        return None

    def admit(self) -> None:
        """Run what the last claim brought, or settle it."""
        if self._arrived is not None:
            batch, self._arrived = self._arrived, None
            try:
                self.worker.admit(self, batch, self._granted)
            except Exception:  # a fault of ours must not end the line
                self.worker.logger.exception("queue %s: what was claimed could not be admitted", self.place.shown)


def _only_store_errors(error: BaseException) -> BaseException:
    if not isinstance(error, StoreError):
        raise error
    return error


async def _caught(call: Any) -> Any:
    try:
        return await call
    except StoreError as error:
        return error
