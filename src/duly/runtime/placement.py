"""Schedules with `placement="ring"`: of the live nodes that serve its queue, the one that owns a schedule's id fires its ticks
and runs them. The jobs are leased to it as they are fired.

Whoever knows other nodes, or has not heard of a schedule yet, does no harm: a tick is fired once, as its schedule's mark says,
and what the owner has not fired a second after its moment is fired by any node, as every other tick is (`Ticker`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from duly.clock import Clock
from duly.core import codec
from duly.core.job import Claimed, NewJob
from duly.core.ring import Ring
from duly.core.schedule import is_placed
from duly.errors import StoreUncertain
from duly.runtime.alarm import LEAD, until
from duly.runtime.line import Line
from duly.runtime.ticker import Ticker, plan_due
from duly.stores.base import MAX_BATCH, Batch, Due, Fired, Firing, JobRecord, ScheduleRecord, Store

LOOK_SECONDS = 15.0
"""How often a node looks who else is there, while no schedule is placed by the ring."""
CLOSE_SECONDS = 3.0
"""How often it looks when some are, and says that it lives."""
WALK_SECONDS, WALK_SHARE = 10.0, 50
"""A walk through the schedules is followed by so much time without one, or by so many times its own time if that is more."""
FIRST_WALK = 20_000
"""A node that has heard of no such schedule looks for some once, if there are not more schedules than these."""
PAGE = 200
BATCH = 100
"""Schedules fired in one step."""
AGAIN_MS = 500
"""After how long one that another node has changed meanwhile, or that waits for its run, is read again."""


class Serving(Protocol):
    """A node, as it publishes itself."""

    @property
    def id(self) -> str: ...

    @property
    def queues(self) -> Sequence[str]: ...

    @property
    def placing(self) -> Sequence[str]: ...


def ring_of(nodes: Iterable[Serving], queue: str) -> Ring:
    """The nodes that serve a queue, each with an equal part of its schedules."""
    return Ring(node.id for node in nodes if queue in node.queues)


class Neighbours:
    """Who else is there, and in which queues there are schedules that are placed by the ring. A service of a node."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._nodes: list[Serving] = []
        self._rings: dict[str, Ring] = {}
        self.placing: frozenset[str] = frozenset()
        """Queues in which this node has seen such schedules; it tells the others."""
        self._told: frozenset[str] = frozenset()
        self.begins: Callable[[], None] = lambda: None
        """Called when such a schedule is seen in a queue that had none."""

    async def tick(self) -> float:
        """Look; returns the seconds until the next time."""
        registry = await self._store.registry()
        nodes = [node for packed in registry.nodes.values() if (node := _read(packed)) is not None]
        if [(node.id, node.queues) for node in nodes] != [(node.id, node.queues) for node in self._nodes]:
            self._rings = {}
        self._nodes = nodes
        self._told = frozenset(queue for node in nodes for queue in node.placing)
        return CLOSE_SECONDS if self.is_placing else LOOK_SECONDS

    def ring(self, queue: str) -> Ring:
        """By what is known now; the same object as long as that is the same."""
        if queue not in self._rings:
            self._rings[queue] = ring_of(self._nodes, queue)
        return self._rings[queue]

    def are_placed(self, queue: str) -> bool:
        """Whether the queue has such schedules, as far as any node knows."""
        return queue in self.placing or queue in self._told

    @property
    def is_placing(self) -> bool:
        """Whether any queue has such schedules, as far as any node knows."""
        return bool(self.placing or self._told)

    def saw(self, queue: str, placed: bool) -> None:
        """What a look at the schedules of a queue has shown."""
        is_news = placed and not self.are_placed(queue)
        self.placing = self.placing | {queue} if placed else self.placing - {queue}
        if is_news:
            self.begins()


class _Record(msgspec.Struct, frozen=True):
    """What is read here of what a node publishes (`NodeRecord`)."""

    id: str
    queues: tuple[str, ...]
    placing: tuple[str, ...] = ()


_decode = msgspec.msgpack.Decoder(_Record).decode


def _read(packed: bytes) -> Serving | None:
    try:
        return _decode(packed)
    except msgspec.MsgspecError:
        return None  # of a newer duly


class Placement:
    """The schedules of one shard that this node owns. A service of a node: `tick` fires them at their moments."""

    def __init__(self, node: str, line: Line, neighbours: Neighbours, ticker: Ticker, clock: Clock) -> None:
        self.node, self.line, self._neighbours, self._ticker, self._clock = node, line, neighbours, ticker, clock
        self._ring: Ring | None = None
        self._placed: dict[str, int] = {}  # id -> its next moment
        self._owned: set[str] = set()
        self._walk_at, self._offset = float("-inf"), 0.0
        self._doubt: list[Firing] = []
        self._is_new = True

    async def tick(self) -> float:
        """Fire what is due of the schedules that this node owns; returns the seconds until the next call."""
        if self._doubt:
            await self._resolve()
        if self._is_new:
            if 0 < (await self.line.shard.sizes()).schedules <= FIRST_WALK:
                await self._walk()
            self._is_new = False
        if not self._neighbours.are_placed(self.line.queue):
            self._placed, self._owned, self._walk_at = {}, set(), float("-inf")
            return CLOSE_SECONDS
        if self._clock.monotonic() >= self._walk_at:
            await self._walk()
        ring = self._neighbours.ring(self.line.queue)
        if ring is not self._ring:
            self._ring = ring
            self._owned = {id for id in self._placed if self._owns(id)}
        soon = self._now() + int(4000 * LEAD)
        due = sorted((moment, id) for id in self._owned if (moment := self._placed[id]) <= soon)[:BATCH]
        if due:
            await self._fire([id for _, id in due], due[-1][0])
        following = self.following
        pause = min(CLOSE_SECONDS, self._walk_at - self._clock.monotonic())
        if following is not None:
            pause = min(pause, following / 1000 - self._offset - 2 * LEAD - self._clock.monotonic())
        return max(0.0, pause)

    @property
    def following(self) -> int | None:
        """The next moment (ms) of the schedules that this node owns, as far as it knows."""
        return min((self._placed[id] for id in self._owned), default=None)

    def _owns(self, id: str) -> bool:
        ring = self._ring
        return ring is not None and self.node in ring.weights and ring.owner(id) == self.node

    # the schedules

    async def _walk(self) -> None:
        """Find the schedules that are placed by the ring, and the time of the store."""
        begun = self._clock.monotonic()
        now, asked = (await self.line.shard.sizes()).now, self._clock.monotonic()
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
        self._offset = now / 1000 - (begun + asked) / 2
        self._placed, self._owned = placed, {id for id in placed if self._owns(id)}
        self._neighbours.saw(self.line.queue, has_any)
        took = self._clock.monotonic() - begun
        self._walk_at = self._clock.monotonic() + max(WALK_SECONDS, WALK_SHARE * took)

    def _note(self, placed: dict[str, int], record: ScheduleRecord) -> None:
        if record.paused is None and record.next is not None:
            placed[record.id] = record.next
        else:
            placed.pop(record.id, None)

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
        firings, reserved = self._leasing(plan_due(Due(now, due)))
        granted: list[tuple[Firing, int]] = []
        sent = self._clock.monotonic()
        try:
            answers = await self._ticker.write(firings)
            if self._clock.monotonic() - sent > self.line.worker.config.lease / 2:
                raise StoreUncertain("the answer to a fire was read too late: what it leased may be another's by now")
            granted = [(f, answer) for f, answer in zip(firings, answers, strict=True) if isinstance(answer, int)]
        except StoreUncertain:
            self._doubt += [firing for firing in firings if firing.lease]
            raise
        finally:
            self.line.worker.slots.release(reserved - sum(len(firing.jobs) for firing, _ in granted))
        for firing, fence in granted:
            self.line.worker.admit(self.line, Batch(fence, now, [_claimed(job, now) for job in firing.jobs]))
        self._heed(
            records, dict(zip((firing.id for firing in firings), zip(firings, answers, strict=True), strict=True)), now
        )

    def _heed(self, records: Sequence[ScheduleRecord], written: Mapping[str, tuple[Firing, Fired]], now: int) -> None:
        """When each is to be looked at next."""
        for record in records:
            firing, answer = written.get(record.id, (None, ""))
            if firing is None and self._placed[record.id] <= now:
                self._forget(record.id)  # a newer duly defined it: a newer node fires it
            elif firing is None:
                continue
            elif answer == "stale" or (firing.next is not None and firing.next <= now and not firing.jobs):
                self._placed[record.id] = now + AGAIN_MS
            elif firing.next is None or firing.pause is not None:
                self._forget(record.id)
            else:
                self._placed[record.id] = firing.next
        if any(firing.jobs and answer == "fired" for firing, answer in written.values()):
            self.line.rouse()

    async def _read(self, ids: Sequence[str]) -> list[ScheduleRecord]:
        """Schedules as they are now; those that are gone, or paused, are not waited for any more."""
        page = await self.line.shard.schedules(ids, "", len(ids))
        records = [record for record in page.items if record is not None and is_placed(record.definition)]
        found = {record.id: record for record in records}
        for id in ids:
            if id in found:
                self._note(self._placed, found[id])
            if id not in found or id not in self._placed:
                self._forget(id)
        return [record for record in records if record.id in self._placed]

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
        slots.release(-reserved)
        return found, reserved

    def _lease_of(self, job: NewJob) -> int:
        """In ms; 0 if this node cannot run it."""
        worker, envelope = self.line.worker, codec.decode(job.body)
        handler = worker.handlers.find(envelope.task)
        if handler is None or not worker.claiming:
            return 0
        policy = handler.policy_for(envelope.options)
        return int(policy.lease * 1000) if policy.lease else worker.config.lease_ms

    async def _resolve(self) -> None:
        """Write again what was perhaps written, so that no late copy of it can be; and run what was leased to this node."""
        while self._doubt:
            firings = self._doubt[:BATCH]
            await self._ticker.write([msgspec.structs.replace(firing, lease=0) for firing in firings])
            for first in range(0, len(ids := [job.id for firing in firings for job in firing.jobs]), MAX_BATCH):
                records = await self.line.shard.get(ids[first : first + MAX_BATCH])
                self._take([record for record in records if record is not None])
            del self._doubt[: len(firings)]
        self.line.rouse()

    def _take(self, records: Sequence[JobRecord]) -> None:
        now = self._now()
        for record in records:
            if (record.state, record.node) == ("leased", self.node) and record.id not in self.line.runs:
                self.line.worker.slots.release(-1)
                job = Claimed(
                    record.id, record.body, record.enqueued_at, record.priority, cancelled=record.cancel_asked
                )
                self.line.worker.admit(self.line, Batch(record.fence, now, [job]))


def _claimed(job: NewJob, now: int) -> Claimed:
    return Claimed(job.id, job.body, now, job.priority)
