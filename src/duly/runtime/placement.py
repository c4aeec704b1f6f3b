"""Schedules with `placement="ring"`: of the live nodes that serve its queue, the one that owns a schedule's id fires its ticks
and runs them. The jobs are leased to it as they are fired.

Whoever knows other nodes, or has not heard of a schedule yet, does no harm: a tick is fired once, as its schedule's mark says,
and what the owner has not fired a second after its moment is fired by any node, as every other tick is (`Ticker`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from duly.clock import Clock
from duly.core import codec
from duly.core.job import Claimed, NewJob
from duly.core.ring import Ring
from duly.core.schedule import is_placed
from duly.errors import StoreUncertain, UnfitJob
from duly.runtime.alarm import LEAD, until
from duly.runtime.line import Line
from duly.runtime.neighbours import Neighbours
from duly.runtime.ticker import Ticker, plan_due
from duly.stores.base import MAX_BATCH, Batch, Due, Fired, Firing, JobRecord, Renewal, ScheduleRecord, Sizes

SLEEP_SECONDS = 3.0
"""The longest sleep between two calls; so old may be what is known of the store's clock."""
WALK_SECONDS, WALK_SHARE = 10.0, 50
"""A walk through the schedules is followed by so much time without one, or by so many times its own time if that is more."""
FIRST_WALK = 20_000
"""A node that has heard of no such schedule looks for some once, if there are not more schedules than these."""
PAGE = 200
BATCH = 100
"""Schedules fired in one step."""
AGAIN_MS, HELD_MS = 500, 3_000
"""After how long one that another node has changed meanwhile is read again; and one that waits for its run."""


class Placement:
    """The schedules of one shard that this node owns. A service of a node: `tick` fires them at their moments."""

    def __init__(self, node: str, line: Line, neighbours: Neighbours, ticker: Ticker, clock: Clock) -> None:
        self.node, self.line, self._neighbours, self._ticker, self._clock = node, line, neighbours, ticker, clock
        self._ring: Ring | None = None
        self._placed: dict[str, int] = {}  # id -> its next moment
        self._owned: set[str] = set()
        self._walk_at, self._offset, self._measured = float("-inf"), 0.0, float("-inf")
        self._doubt: list[Firing] = []
        self._is_new = True

    async def tick(self) -> float:
        """Fire what is due of the schedules that this node owns; returns the seconds until the next call."""
        if self._doubt:
            await self.resolve()
        if self._is_new:
            if 0 < (await self._measure()).schedules <= FIRST_WALK:
                await self._walk()
            self._is_new = False
        if not self._neighbours.are_placed(self.line.queue):
            self._placed, self._owned, self._walk_at = {}, set(), float("-inf")
            return SLEEP_SECONDS
        if self._clock.monotonic() >= self._walk_at:
            await self._walk()
        ring = self._neighbours.ring(self.line.queue)
        if ring is not self._ring:
            self._ring = ring
            self._owned = {id for id in self._placed if self._owns(id)}
        if self._due() or self._clock.monotonic() >= self._measured + SLEEP_SECONDS:
            await self._measure()  # the clock of the store decides
        if due := self._due():
            await self._fire([id for _, id in due], due[-1][0])
        following = self.following
        pause = min(SLEEP_SECONDS, self._walk_at - self._clock.monotonic())
        if following is not None:
            pause = min(pause, following / 1000 - self._offset - 2 * LEAD - self._clock.monotonic())
        return max(0.0, pause)

    @property
    def following(self) -> int | None:
        """The next moment (ms) of the schedules that this node owns, as far as it knows."""
        return min((self._placed[id] for id in self._owned), default=None)

    def _due(self) -> list[tuple[int, str]]:
        """What is due now, or in a moment."""
        soon = self._now() + int(4000 * LEAD)
        return sorted((moment, id) for id in self._owned if (moment := self._placed[id]) <= soon)[:BATCH]

    def _owns(self, id: str) -> bool:
        ring = self._ring
        return ring is not None and self.node in ring.weights and ring.owner(id) == self.node

    # the schedules

    async def _walk(self) -> None:
        """Find the schedules that are placed by the ring."""
        begun = self._clock.monotonic()
        placed: dict[str, int] = {}
        has_any, cursor = False, ""
        while True:
            page = await self.line.shard.schedules(None, cursor, PAGE)
            for record in page.items:
                if record is not None and is_placed(record.definition):
                    has_any = True
                    self._note(placed, record)
            cursor = page.cursor
            if not cursor:
                break
        self._placed, self._owned = placed, {id for id in placed if self._owns(id)}
        self._neighbours.saw(self.line.queue, self.line.place.name, has_any)
        took = self._clock.monotonic() - begun
        self._walk_at = self._clock.monotonic() + max(WALK_SECONDS, WALK_SHARE * took)

    def _note(self, placed: dict[str, int], record: ScheduleRecord) -> None:
        if record.paused is None and record.next is not None:
            placed[record.id] = record.next
        else:
            placed.pop(record.id, None)

    async def _measure(self) -> Sizes:
        """Read the clock of the store."""
        begun = self._clock.monotonic()
        sizes = await self.line.shard.sizes()
        self._measured = self._clock.monotonic()
        self._offset = sizes.now / 1000 - (begun + self._measured) / 2
        return sizes

    def _now(self) -> int:
        """By the clock of the store, as it was read last; ms."""
        return int((self._clock.monotonic() + self._offset) * 1000)

    # ticks

    async def _fire(self, ids: Sequence[str], moment: int) -> None:
        """Read and plan, and write when the moment has come. What was leased is run."""
        records = await self._read(ids)
        await until(self._clock, moment / 1000 - self._offset)
        if self._clock.monotonic() < moment / 1000 - self._offset:
            return  # a clock that is moved by hand
        now = max(self._now(), moment)
        due = [record for record in records if self._placed[record.id] <= now]
        planned = plan_due(Due(now, due))
        for firing in planned:
            if firing.waits:  # the end of its run asks for the look
                self._placed[firing.id] = now + HELD_MS
        firings, reserved = self._leasing([firing for firing in planned if not firing.waits])
        answers = await self._write(firings, reserved)
        for firing, answer in zip(firings, answers, strict=True):
            if isinstance(answer, int):
                self.line.worker.admit(self.line, Batch(answer, now, [_claimed(job, now) for job in firing.jobs]))
        self._heed(firings, answers, now)
        for id in {record.id for record in due} - {firing.id for firing in planned}:
            self._forget(id)  # a newer duly defined it: a newer node fires it

    async def _write(self, firings: list[Firing], reserved: int) -> list[Fired]:
        """The answers; slots that no job was leased for are given back. After a fault what was leased is in doubt."""
        taken, sent = 0, self._clock.monotonic()
        try:
            answers = await self._ticker.write(firings)
            shortest = min((firing.lease for firing in firings if firing.lease), default=0)
            if shortest and self._clock.monotonic() - sent > shortest / 2000:
                raise StoreUncertain("the answer to a fire was read too late: what it leased may be another's by now")
            taken = sum(len(f.jobs) for f, answer in zip(firings, answers, strict=True) if isinstance(answer, int))
        except BaseException:
            self._doubt += [firing for firing in firings if firing.lease]
            raise
        finally:
            self.line.worker.slots.release(reserved - taken)
        return answers

    def _heed(self, firings: Sequence[Firing], answers: Sequence[Fired], now: int) -> None:
        """When each is to be looked at next."""
        for firing, answer in zip(firings, answers, strict=True):
            if answer == "stale" or (firing.next is not None and firing.next <= now and not firing.jobs):
                self._placed[firing.id] = now + AGAIN_MS
            elif firing.next is None or firing.pause is not None:
                self._forget(firing.id)
            else:
                self._placed[firing.id] = firing.next
        if any(firing.jobs and answer == "fired" for firing, answer in zip(firings, answers, strict=True)):
            self.line.rouse()

    async def _read(self, ids: Sequence[str]) -> list[ScheduleRecord]:
        """Schedules as they are now; those that are gone, or paused, are not waited for any more."""
        page = await self.line.shard.schedules(ids, "", len(ids))
        records = [record for record in page.items if record is not None and is_placed(record.definition)]
        ghosts = await self._haunted(records)
        found = {record.id: record for record in records}
        for id in ids:
            if id in found:
                self._note(self._placed, found[id])
            if id not in found or id not in self._placed or id in ghosts:
                self._forget(id)
        return [record for record in records if record.id in self._placed]

    async def _haunted(self, records: Sequence[ScheduleRecord]) -> set[str]:
        """Schedules with a living run that has vanished: `due` sees to these, when their look has come."""
        live = [(id, record.id) for record in records for id in record.live]
        gone: set[str] = set()
        for first in range(0, len(live), MAX_BATCH):
            part = live[first : first + MAX_BATCH]
            found = await self.line.shard.get([id for id, _ in part])
            gone |= {schedule for (_, schedule), job in zip(part, found, strict=True) if _has_vanished(job)}
        return gone

    def _forget(self, id: str) -> None:
        self._placed.pop(id, None)
        self._owned.discard(id)

    def _leasing(self, firings: Sequence[Firing]) -> tuple[list[Firing], int]:
        """With leases, as far as there are slots for their jobs; and the number of slots that were taken for them."""
        slots, reserved, found = self.line.worker.slots, 0, []
        for firing in firings:
            count = len(firing.jobs)
            lease = self._lease_of(firing.jobs[0]) if 0 < count <= slots.free - reserved else 0
            found.append(msgspec.structs.replace(firing, lease=lease))
            reserved += count if lease else 0
        slots.take(reserved)
        return found, reserved

    def _lease_of(self, job: NewJob) -> int:
        """In ms; 0 if this node cannot run it."""
        worker = self.line.worker
        try:
            envelope = codec.decode(job.body)
            handler = worker.handlers.find(envelope.task)
            if handler is None or not worker.claiming:
                return 0
            policy = handler.policy_for(envelope.options)
        except UnfitJob:
            return 0
        return int(policy.lease * 1000) if policy.lease else worker.config.lease_ms

    async def resolve(self) -> None:
        """Write again what was perhaps written, so that no late copy of it can be; and run what was leased to this node."""
        while self._doubt:
            firings = self._doubt[:BATCH]
            await self._ticker.write([msgspec.structs.replace(firing, lease=0) for firing in firings])
            ids = [job.id for firing in firings for job in firing.jobs]
            for first in range(0, len(ids), MAX_BATCH):
                await self._take(await self.line.shard.get(ids[first : first + MAX_BATCH]))
            del self._doubt[: len(firings)]
            self.line.rouse()

    async def _take(self, records: Sequence[JobRecord | None]) -> None:
        """Run what this node holds and does not know of; its leases are renewed first, for time has passed."""
        worker, runs, now = self.line.worker, self.line.runs, self._now()
        mine = ("leased", self.node)
        held = [r for r in records if r is not None and (r.state, r.node) == mine and r.id not in runs]
        renewals = [Renewal(record.id, record.fence, worker.config.lease_ms, None) for record in held]
        answers = await self.line.shard.renew(renewals) if renewals else []
        for record, answer in zip(held, answers, strict=True):
            if answer == "taken" or record.id in runs:
                continue
            cancelled = record.cancel_asked or answer == "cancel asked"
            job = Claimed(record.id, record.body, record.enqueued_at, record.priority, cancelled=cancelled)
            worker.admit(self.line, Batch(record.fence, now, [job]), worker.slots.take(1))


def _has_vanished(job: JobRecord | None) -> bool:
    return job is None or job.state in ("dead", "ended")


def _claimed(job: NewJob, now: int) -> Claimed:
    return Claimed(job.id, job.body, now, job.priority, due=job.due or now)
