"""Jobs and queues after the push: the handle of one job, the jobs of the store, the switches of queues."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from duly.config import DEFAULT_QUEUE
from duly.core import codec
from duly.core.job import queue_name
from duly.core.shards import Place, slot_of, slot_of_key
from duly.errors import (
    InvalidOption,
    JobFailed,
    ResultNotKept,
    ResultTimeout,
    StoreRefused,
    StoreUnavailable,
    StoreUncertain,
)
from duly.stores.base import MAX_BATCH, JobRecord, Shard, Sizes
from duly.stores.capabilities import Keyed, Lined
from duly.stores.shards import Shards
from duly.views.jobs import JobView, view
from duly.views.why import (
    NOT_KNOWN,
    RATE_ENTRIES,
    RATE_MS,
    Facts,
    Reason,
    claimed_per_second,
    key_taken,
    opened,
    reasons,
    retries_of,
    sentence,
)

if TYPE_CHECKING:
    from duly.scheduler import Scheduler

R = TypeVar("R")
RESULT_POLL = 1.0
"""Seconds, about, after which whoever waits for a result first looks whether its job still is there."""
LONGEST_POLL = 5.0
"""And later on."""
CLEAR_STEP = 500


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
            try:
                record = (await shard.get([self.id]))[0]
            except (StoreUnavailable, StoreUncertain):
                if found is None:
                    raise
                return found  # where else the id might lie does not answer; its home has the result
            if record is not None and record.state in ("pending", "leased"):
                if found is not None:  # of a former job of this id, or of before a retry by hand
                    await asyncio.sleep(max(wait, RESULT_POLL / 2))
                return None
            found = await shard.result(self.id)  # read after its end: its own
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


async def _facts(scheduler: Scheduler, id: str, queue: str) -> Facts:
    """What is known of a job. One question after the other: each is for one key, and people can wait."""
    shards = scheduler.connected_shards
    record = (await scheduler.shard(queue).get([id]))[0]
    registry = await scheduler.connected_store.registry()
    place, record = await _place_of(shards, queue, id, record)
    shard = shards.at(place)
    sizes = await shard.sizes()
    ahead, rate = None, None
    retries: int | None = NOT_KNOWN
    if record is not None and record.state == "pending" and record.at <= sizes.now:
        ahead = await shard.ahead(id) if isinstance(shard, Lined) else None
        entries = await shard.history("history", f"{sizes.now - RATE_MS}-0", RATE_ENTRIES)
        rate = claimed_per_second(entries.items, sizes.now)
    if record is not None and (envelope := opened(record)) is not None:
        retries = retries_of(envelope, scheduler._book.find(envelope.task))
    spread = shards.spread(queue)
    return Facts(
        id=id, queue=queue, record=record, sizes=sizes, registry=registry, ahead=ahead, rate=rate, retries=retries,
        place=place.shown if len(shards.places(queue)) > 1 else "", is_misplaced=place not in spread.places,
    )  # fmt: skip


async def _place_of(shards: Shards, queue: str, id: str, record: JobRecord | None) -> tuple[Place, JobRecord | None]:
    """Where a job lies, and what is known of it there; where it would lie, if it is nowhere by now."""
    home = shards.spread(queue).place(slot_of(id))
    others = [place for place in shards.places(queue) if place != home]
    if record is None or record.state == "ended" or not others:
        return home, record
    calls = (shards.at(place).get([id]) for place in (home, *others))
    answers = await asyncio.gather(*calls, return_exceptions=True)  # it lies elsewhere than on a server that is away
    for place, answer in zip((home, *others), answers, strict=True):
        if not isinstance(answer, BaseException) and answer[0] is not None:
            return place, answer[0]
    return home, record


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

    async def run_now(self, *ids: str, queue: str = DEFAULT_QUEUE) -> Sequence[bool]:
        """Jobs that wait for their time, or for a retry, are due now; dead ones run again from their first attempt. False
        where there is no such job, or it runs already."""
        shard = self._scheduler.shard(queue)
        return [answer for some in _steps(ids) for answer in await shard.revive(some, waiting=True)]

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
        return sentence(await self.reasons(id, queue=queue))

    async def reasons(self, id: str, *, queue: str = DEFAULT_QUEUE) -> Sequence[Reason]:
        """Why the job is where it is: all that holds it there, most decisive first, then what tells more of it."""
        return reasons(await _facts(self._scheduler, id, queue))

    async def holder(self, key: str, *, queue: str = DEFAULT_QUEUE) -> tuple[str, str] | None:
        """(state, id) of the job that holds a unique key, or None if it is free. Raises StoreRefused if the store cannot tell."""
        shards = self._scheduler.connected_shards
        await shards.refresh()
        home = shards.spread(queue_name(queue)).place(slot_of_key(key))
        for place in dict.fromkeys([home, *shards.places(queue)]) if shards.remembers else [home]:
            shard = shards.at(place)
            if not isinstance(shard, Keyed):
                raise StoreRefused(f"{shards.store.url} does not tell who holds a unique key")
            held = await shard.holder(key)
            if held is not None:
                return held
        return None

    async def reasons_of_key(self, key: str, *, queue: str = DEFAULT_QUEUE) -> Sequence[Reason]:
        """Why a push with this unique key is answered with another job's id: who holds it, and why that one is where it is.
        Empty if the key is free. Raises StoreRefused as `holder`."""
        held = await self.holder(key, queue=queue)
        return [] if held is None else [key_taken(key, queue, held), *await self.reasons(held[1], queue=queue)]

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
