"""Jobs and queues after the push: the handle of one job, the jobs of the store, the switches of queues."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import msgspec

from duly.config import DEFAULT_QUEUE
from duly.core import codec
from duly.errors import (
    InvalidOption,
    JobFailed,
    ResultNotKept,
    ResultTimeout,
    StoreUnavailable,
    StoreUncertain,
    UnfitJob,
)
from duly.stores.base import MAX_BATCH, JobRecord, Shard, Sizes

if TYPE_CHECKING:
    from duly.scheduler import Scheduler

R = TypeVar("R")
RESULT_POLL = 1.0
"""Seconds, about, after which whoever waits for a result first looks whether its job still is there."""
LONGEST_POLL = 5.0
"""And later on."""
CLEAR_STEP = 500


class JobView(msgspec.Struct, frozen=True):
    """One job as people look at it. Times in epoch seconds of the store's clock.

    state: pending, leased, ended (remembered), dead. at: due time, lease end or time of death, by state.
    args, kwargs: None where this code cannot read the envelope. progress: (fraction, message).
    """

    id: str
    queue: str
    state: str
    task: str | None
    args: list[Any] | None
    kwargs: dict[str, Any] | None
    priority: int
    enqueued_at: float
    at: float
    attempts: int
    crashes: int
    node: str
    fence: int
    cancel_asked: bool
    reason: str
    error: str
    trace: str
    progress: tuple[float, str] | None = None


def view(record: JobRecord, queue: str) -> JobView:
    """The record with its envelope opened, as far as this code can."""
    task = args = kwargs = None
    try:
        envelope = codec.decode(record.body)
        task, args, kwargs = envelope.task, codec.unpack(envelope.args), codec.unpack(envelope.kwargs)
    except (UnfitJob, msgspec.MsgspecError, ValueError, RecursionError):
        pass  # ended (no body), written by a newer duly, or damaged
    progress = codec.unpack(record.progress) if record.progress else None
    return JobView(
        record.id, queue, record.state, task, args, kwargs, record.priority, record.enqueued_at / 1000, record.at / 1000,
        record.attempts, record.crashes, record.node, record.fence, record.cancel_asked, record.reason, record.error,
        record.trace, (progress[0], progress[1]) if progress else None,
    )  # fmt: skip


class JobHandle(Generic[R]):
    """A job that was pushed. `answer` is what the push found: created, pending, leased, dead or ended."""

    __slots__ = ("_keeps", "_scheduler", "answer", "id", "queue")

    def __init__(self, scheduler: Scheduler, queue: str, id: str, answer: str, keeps: bool | None) -> None:
        self._scheduler, self.queue, self.id, self.answer, self._keeps = scheduler, queue, id, answer, keeps

    def __repr__(self) -> str:
        return f"<job {self.id} in {self.queue}>"

    @property
    def created(self) -> bool:
        """Whether this push wrote the job; False if its id or unique key was known already."""
        return self.answer == "created"

    async def status(self) -> str:
        """pending, leased, ended or dead."""
        found = await self._scheduler.jobs.get(self.id, queue=self.queue)
        return found.state if found else "ended"

    async def cancel(self) -> str:
        """See Jobs.cancel."""
        return (await self._scheduler.jobs.cancel(self.id, queue=self.queue))[0]

    async def result(self, timeout: float | None = None) -> R:
        """What the handler returned, waiting for it at most `timeout` seconds.

        Raises ResultNotKept at once if the job does not keep its result, JobFailed if it ended otherwise, ResultTimeout.
        """
        if self._keeps is False:
            raise ResultNotKept(
                f"job {self.id} keeps no result: declare its task, or push it, with keep_result=True (or seconds)"
            )
        wait = 0.0
        try:
            async with asyncio.timeout(timeout):
                while True:
                    found = await self._look(wait * (0.75 + random.random() / 2))
                    if found is not None:
                        ending, value, reason, error = codec.unpack(found)
                        if ending == "returned":
                            return value  # type: ignore[no-any-return]
                        raise JobFailed(self.id, reason or ending, error)
                    wait = min(max(RESULT_POLL, wait * 2), LONGEST_POLL)
        except TimeoutError:
            raise ResultTimeout(f"job {self.id} did not end within {timeout:g} s; it goes on") from None

    async def _look(self, wait: float) -> bytes | None:
        """The kept result, None if it is not there within `wait` seconds, or if the store does not answer now, or if the job
        may lie elsewhere by now."""
        shards, shard = self._scheduler.connected_shards, self._scheduler.shard(self.queue)
        known = shards.map
        try:
            found = await shard.result(self.id, wait)
            record = (await shard.get([self.id]))[0] if found is None else None
            if found is None and (record is None or record.state in ("ended", "dead")):
                found = await shard.result(self.id)  # it may have ended between the two looks
                if found is None and not await shards.has_changed(known):
                    why = record.reason if record else ""
                    raise JobFailed(self.id, why or "gone", "it was cancelled, or its result is not kept any more")
        except (StoreUnavailable, StoreUncertain):
            await asyncio.sleep(RESULT_POLL / 2)
            return None  # the waiting goes on, as the job does
        return found


def _steps(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many as one call takes, again and again."""
    return (ids[start : start + MAX_BATCH] for start in range(0, len(ids), MAX_BATCH))


async def clear(shard: Shard, *, dead_only: bool = False, until: int | None = None,
                removed: Callable[[int], None] = lambda _count: None) -> int:  # fmt: skip
    """Remove what is pending or dead now (or was at `until`), in bounded steps, each told to `removed`; the number."""
    total, cursor = 0, ""
    while True:
        count, cursor, until = await shard.clear(cursor, until, CLEAR_STEP, dead_only=dead_only)
        total += count
        removed(count)
        if not cursor:
            return total


class Jobs:
    """The jobs in the store, by id and queue."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    async def get(self, id: str, *, queue: str = DEFAULT_QUEUE) -> JobView | None:
        """The job, or None if the store knows nothing of it."""
        record = (await self._scheduler.shard(queue).get([id]))[0]
        return view(record, queue) if record else None

    async def cancel(self, *ids: str, queue: str = DEFAULT_QUEUE) -> Sequence[str]:
        """Cancel jobs; per id: `cancelled`, `asked` (it runs; its node will hear), `dead`, `ended` or `unknown`."""
        shard = self._scheduler.shard(queue)
        return [answer for some in _steps(ids) for answer in await shard.cancel(some)]

    async def retry(self, *ids: str, queue: str = DEFAULT_QUEUE) -> Sequence[bool]:
        """Dead jobs run again, from their first attempt. False where there is no such dead job."""
        shard = self._scheduler.shard(queue)
        return [answer for some in _steps(ids) for answer in await shard.revive(some)]

    async def delete(self, *ids: str, queue: str = DEFAULT_QUEUE) -> int:
        """Dead jobs are gone, as if they had never been pushed (a result that they keep stays for its time); the number.
        Others are left alone."""
        shard = self._scheduler.shard(queue)
        return sum([(await shard.clear("", None, MAX_BATCH, some, dead_only=True))[0] for some in _steps(ids)])

    async def delete_dead(self, *, queue: str = DEFAULT_QUEUE) -> int:
        """All jobs that are dead now, in bounded steps; the number."""
        return await clear(self._scheduler.shard(queue), dead_only=True)

    async def why(self, id: str, *, queue: str = DEFAULT_QUEUE) -> str:
        """One sentence: why the job is where it is."""
        shard = self._scheduler.shard(queue)
        record, sizes = (await shard.get([id]))[0], await shard.sizes()
        if record is None:
            return (
                f"queue {queue!r} knows no job {id!r}: it ended (only ids given by users are remembered), or never was"
            )
        tried = f" (failed {record.attempts} times, last: {record.reason or record.error})" if record.attempts else ""
        if record.state == "ended":
            return "it has ended"
        if record.state == "dead":
            return f"it is dead: {record.reason or record.error}"
        if record.state == "leased":
            asked = "; a cancel was asked" if record.cancel_asked else ""
            return f"node {record.node} runs it{tried}, its lease ends in {(record.at - sizes.now) / 1000:.1f} s{asked}"
        if sizes.paused:
            return f"queue {queue!r} is paused{tried}"
        if record.unfit_since:
            again = f"; again in {(record.at - sizes.now) / 1000:.1f} s" if record.at > sizes.now else ""
            return f"nodes that took it could not run it: {record.reason}{again}"
        if record.at > sizes.now:
            return f"it is due in {(record.at - sizes.now) / 1000:.1f} s{tried}"
        if sizes.limit is not None and sizes.leased >= sizes.limit:
            return f"queue {queue!r} runs its limit of {sizes.limit} jobs{tried}"
        registry = await self._scheduler.connected_store.registry()
        return f"it is due, behind at most {sizes.pending - 1} others; {len(registry.nodes)} node(s) are alive{tried}"

    async def list(
        self, state: Literal["pending", "leased", "dead"] = "pending", *, queue: str = DEFAULT_QUEUE, limit: int = 100,
        cursor: str = "",
    ) -> tuple[Sequence[JobView], str]:  # fmt: skip
        """A page of jobs in a state, and the cursor of the next page (empty: there is none)."""
        if state not in ("pending", "leased", "dead"):
            raise InvalidOption(f"state={state!r}: give 'pending', 'leased' or 'dead'")
        page = await self._scheduler.shard(queue).list(state, cursor, max(1, min(limit, MAX_BATCH)))
        return [view(record, queue) for record in page.items], page.cursor


class Queues:
    """Switches and sizes of queues, for the whole cluster."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    async def limit(self, queue: str, limit: int | None) -> None:
        """At most `limit` jobs of this queue run in the whole cluster; None takes the limit away."""
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise InvalidOption(
                f"limit={limit!r}: give a whole number from 1, or None for no limit; pause() stops a queue"
            )
        await self._scheduler.shard(queue).configure(limit=limit or 0)

    async def pause(self, queue: str = DEFAULT_QUEUE) -> None:
        """No node claims from this queue until `resume`; what runs goes on."""
        await self._scheduler.shard(queue).configure(paused=True)

    async def resume(self, queue: str = DEFAULT_QUEUE) -> None:
        await self._scheduler.shard(queue).configure(paused=False)

    async def sizes(self, queue: str = DEFAULT_QUEUE) -> Sizes:
        """Counts per state and the switches, at a cost that does not grow with them."""
        return await self._scheduler.shard(queue).sizes()

    async def list(self) -> Sequence[str]:
        """Every queue that was ever served or pushed to."""
        return (await self._scheduler.connected_store.registry()).queues
