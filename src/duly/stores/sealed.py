"""A shard whose contents are sealed (`stores.sealing`) on their way into the store, and opened on their way out: above it
everything is as without keys. Sealed are the envelopes of jobs, results, and the definitions of schedules.

What cannot be opened stands there as a job of the task REFUSED, which fits no handler: it is never run, put back like other
misfits, and dead in the end (DESIGN §2.10); or as a definition that cannot be read, which no node fires.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any, cast

from msgspec.structs import replace

from duly.config import Config
from duly.core import codec
from duly.core import schedule as planning
from duly.core.job import NewJob
from duly.stores.base import (
    Answer,
    Batch,
    Due,
    Fired,
    Firing,
    JobRecord,
    NewSchedule,
    Page,
    ScheduleRecord,
    Settled,
    Settlement,
    Shard,
)
from duly.stores.sealing import Keys, Refused, context_of

REFUSED = "duly:refused"
Fires = list[Fired]


class Seal:
    """Keys, and what they are used for. Refusals of schedules are logged, once each: those of jobs are by the worker."""

    def __init__(self, keys: Keys, config: Config) -> None:
        self._keys, self._namespace, self._logger = keys, config.namespace, config.logger
        self._told: set[str] = set()

    def shard(self, inner: Shard, queue: str) -> Shard:
        """The shard of a queue, sealed."""
        return cast(Shard, _sealed_class(type(inner))(inner, queue, self))

    def close(self, kind: str, queue: str, id: str, data: bytes) -> bytes:
        """Sealed."""
        return self._keys.seal(data, context_of(kind, self._namespace, queue, id))

    def job(self, queue: str, id: str, body: bytes) -> bytes:
        """The envelope, or one that says why it is refused; nothing of a job that has ended."""
        if not body:
            return body
        try:
            return self._keys.open(body, context_of("job", self._namespace, queue, id))
        except Refused as why:
            return codec.encode(REFUSED, (str(why),))

    def result(self, queue: str, id: str, data: bytes) -> bytes:
        """The packed result, or one that says why it is refused."""
        try:
            return self._keys.open(data, context_of("result", self._namespace, queue, id))
        except Refused as why:
            return codec.pack(("refused", None, f"its result is refused: {why}", str(why)))

    def definition(self, queue: str, id: str, data: bytes) -> bytes:
        """The packed definition, or one that cannot be read."""
        try:
            return self._keys.open(data, context_of("schedule", self._namespace, queue, id))
        except Refused as why:
            if id not in self._told and len(self._told) < 1000:
                self._told.add(id)
                self._logger.warning("queue %s: schedule %r is refused, and makes no jobs: %s", queue, id, why)
            return planning.refused(str(why))

    def is_as_sealed(self, queue: str, record: ScheduleRecord, definition: bytes) -> bool:
        """Whether the record holds just this, sealed with whichever of the keys."""
        context = context_of("schedule", self._namespace, queue, record.id)
        try:
            return self._keys.is_current_kind(record.definition) and definition == self._keys.open(
                record.definition, context
            )
        except Refused:
            return False


class _Same:
    """A verb that carries nothing sealed: the shard's own."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, shard: Any, owner: type) -> Any:
        return self if shard is None else getattr(shard.inner, self._name)


class SealedShard:
    """See stores.base for what the verbs promise."""

    start, renew, wait = _Same(), _Same(), _Same()
    sizes, cancel, revive, clear, configure, reconcile, history = (_Same() for _ in range(7))
    steer = _Same()

    def __init__(self, inner: Shard, queue: str, seal: Seal) -> None:
        self.inner, self.queue, self._of, self._seal = inner, inner.queue, queue, seal

    def _sealed(self, jobs: Iterable[NewJob]) -> tuple[NewJob, ...]:
        return tuple(replace(job, body=self._seal.close("job", self._of, job.id, job.body)) for job in jobs)

    async def enqueue(self, client: str, n: int, jobs: Sequence[NewJob], epoch: int = 0) -> list[Answer]:
        return await self.inner.enqueue(client, n, self._sealed(jobs), epoch=epoch)

    async def claim(self, node: str, n: int, limit: int, lease: int, shortest: int) -> Batch:
        batch = await self.inner.claim(node, n, limit, lease, shortest)
        opened = [replace(job, body=self._seal.job(self._of, job.id, job.body)) for job in batch.jobs]
        return replace(batch, jobs=opened)

    async def settle(self, node: str, n: int, settlements: Sequence[Settlement]) -> list[Settled]:
        return await self.inner.settle(node, n, [self._settlement(one) for one in settlements])

    def _settlement(self, one: Settlement) -> Settlement:
        if one.result is None and not one.children:
            return one
        result = None if one.result is None else self._seal.close("result", self._of, one.id, one.result)
        return replace(one, result=result, children=self._sealed(one.children))

    async def get(self, ids: Sequence[str]) -> list[JobRecord | None]:
        return [record and self._record(record) for record in await self.inner.get(ids)]

    async def list(self, state: Any, cursor: str, limit: int) -> Page:
        page = await self.inner.list(state, cursor, limit)
        return Page([self._record(record) for record in page.items], page.cursor)

    def _record(self, record: JobRecord) -> JobRecord:
        return replace(record, body=self._seal.job(self._of, record.id, record.body))

    async def result(self, id: str, seconds: float = 0.0) -> bytes | None:
        found = await self.inner.result(id, seconds)
        return None if found is None else self._seal.result(self._of, id, found)

    async def put(self, schedule: NewSchedule) -> tuple[str, int]:
        """An equal definition is the very bytes that are there: sealed anew, they would be others."""
        (record,) = (await self.inner.schedules([schedule.id], "", 1)).items
        if record is not None and self._seal.is_as_sealed(self._of, record, schedule.definition):
            definition = record.definition
        else:
            definition = self._seal.close("schedule", self._of, schedule.id, schedule.definition)
        return await self.inner.put(replace(schedule, definition=definition))

    async def schedules(self, ids: Sequence[str] | None, cursor: str, limit: int) -> Page:
        page = await self.inner.schedules(ids, cursor, limit)
        return Page([record and self._schedule(record) for record in page.items], page.cursor)

    async def due(self, limit: int, until: int | None = None) -> Due:
        due = await self.inner.due(limit, until)
        return Due(due.now, [self._schedule(record) for record in due.schedules])

    def _schedule(self, record: ScheduleRecord) -> ScheduleRecord:
        return replace(record, definition=self._seal.definition(self._of, record.id, record.definition))

    async def fire(self, node: str, firings: Sequence[Firing]) -> Fires:
        return await self.inner.fire(node, [replace(one, jobs=self._sealed(one.jobs)) for one in firings])


@functools.cache
def _sealed_class(inner: type) -> type[SealedShard]:
    """What a store's shards can do beside the contract (`stores.capabilities`) carries nothing that is read here, and stays as
    it is: what moves to another shard is still of the same queue and id."""
    beside = [name for name in dir(inner) if not name.startswith("_") and not hasattr(SealedShard, name)]
    return type(f"Sealed{inner.__name__}", (SealedShard,), {name: _Same() for name in beside})
