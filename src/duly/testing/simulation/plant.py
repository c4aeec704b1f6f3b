"""Faults to be planted: each takes one rule out of the product, and the simulation must notice.

with planted("fence"):
    report = simulate(seed)
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from msgspec.structs import replace

from duly.core.job import NewJob
from duly.core.lifecycle import is_suspect
from duly.runtime.run import Run
from duly.runtime.starter import Starter
from duly.runtime.worker import Worker
from duly.stores import editing
from duly.stores.base import Answer, Batch, Firing, Renewal, Renewed, ScheduleRecord, Settled, Settlement
from duly.stores.memory import schedules as memory_schedules
from duly.stores.memory import shard as memory_shard
from duly.stores.memory.shard import JobVerbs
from duly.stores.memory.state import ShardState

RACE_SECONDS = 0.01
"""How long a claim that is not atomic takes between reading and writing."""


def _without_fence() -> Any:
    """settle does not ask under which fence the lease is held."""
    inner = JobVerbs._settle_one

    def settle_one(self: JobVerbs, settlement: Settlement, now: int) -> Settled:
        job = self._state.jobs.get(settlement.id)
        if job is not None and job.state == "leased":
            settlement = replace(settlement, fence=job.fence)
        return inner(self, settlement, now)

    return mock.patch.object(JobVerbs, "_settle_one", settle_one)


def _without_claim() -> Any:
    """claim reads what is due in one step, and takes it off the line in another."""
    inner = JobVerbs.claim

    async def claim(self: JobVerbs, node: str, n: int, limit: int, lease: int, shortest: int) -> Batch:
        batch = await inner(self, node, n, limit, lease, shortest)
        state = self._state
        for claimed in batch.jobs:
            job = state.jobs[claimed.id]
            if claimed.before is None and job.fence == batch.fence:
                job.state = "pending"
                state.pending[job.priority].put(job.id, batch.now)

                def take_off(job: Any = job, fence: int = batch.fence) -> None:
                    if job.fence == fence and job.id in state.jobs and job.state == "pending":
                        state.pending[job.priority].discard(job.id)
                        job.state = "leased"

                loop = asyncio.get_running_loop()
                loop.call_later(RACE_SECONDS, take_off, context=contextvars.Context())
        return batch

    return mock.patch.object(JobVerbs, "claim", claim)


def _without_renew() -> Any:
    """renew extends whatever lease there is."""
    inner = memory_shard._renew

    def renew(state: ShardState, renewal: Renewal, now: int) -> Renewed:
        job = state.jobs.get(renewal.id)
        if job is not None and job.state == "leased":
            renewal = renewal._replace(fence=job.fence)
        return inner(state, renewal, now)

    return mock.patch.object(memory_shard, "_renew", renew)


def _without_enqueue() -> Any:
    """enqueue does not know a repeated call."""
    inner = JobVerbs.enqueue

    async def enqueue(self: JobVerbs, client: str, n: int, jobs: Sequence[NewJob], epoch: int = 0) -> list[Answer]:
        self._state.clients.pop(client, None)
        return await inner(self, client, n, jobs, epoch)

    return mock.patch.object(JobVerbs, "enqueue", enqueue)


def _without_gap() -> Any:
    """Leases that ended while the store was away are taken over as soon as it is back."""
    inner = ShardState.stamp

    def stamp(self: ShardState, now: int, lease: int, shortest: int) -> int:
        backwards = inner(self, now, lease, shortest)
        self.hold = 0
        return backwards

    return mock.patch.object(ShardState, "stamp", stamp)


def _without_start() -> Any:
    """Handlers that run at most once begin without their mark."""

    async def mark_started(self: Starter, _line: Any, runs: list[Run]) -> None:
        for run in runs:
            self._worker.execute(run)

    return mock.patch.object(Starter, "_mark_started", mark_started)


def _without_isolation() -> Any:
    """Jobs that may crash their node run side by side."""

    def isolate(_self: Worker, run: Run) -> None:
        run.suspect = is_suspect(run.job, run.policy)

    return mock.patch.object(Worker, "_isolate", isolate)


def _without_mark() -> Any:
    """fire does not compare the mark."""
    inner = editing.is_as_read

    def is_as_read(record: ScheduleRecord, firing: Firing) -> bool:
        return inner(record, replace(firing, mark=record.mark))

    return mock.patch.object(memory_schedules, "is_as_read", is_as_read)


PLANTS: Mapping[str, Callable[[], Any]] = {
    "fence": _without_fence,
    "claim": _without_claim,
    "renew": _without_renew,
    "enqueue": _without_enqueue,
    "gap": _without_gap,
    "start": _without_start,
    "isolation": _without_isolation,
    "mark": _without_mark,
}
"""By name: the rule that is taken out. They are planted in the memory store and in the worker."""


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Without one of PLANTS for the block."""
    with PLANTS[name]():
        yield
