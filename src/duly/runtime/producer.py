"""The way of a push into the store: pushes of one loop turn travel together, one call per shard at a time, numbered.

A call without an answer is repeated with its number, so it is applied once (DESIGN §2.8), until `push_timeout` is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from duly.clock import Clock
from duly.core.job import NewJob
from duly.errors import PushUncertain, StaleMap, StoreError, StoreFull, StoreUnavailable, StoreUncertain
from duly.identity import generation, new_name
from duly.runtime.loop import Backoff
from duly.stores.base import MAX_BATCH, Answer, Shard
from duly.stores.shards import Shards

MAX_BYTES = 4_000_000
"""How much one enqueue call carries at most, so that no call blocks the store for long."""
KEYED_BYTES = 16_000
"""What a job with an id of the user's or a unique key counts as beside its size: 250 of them keep the store as busy as
1,000 others (beside a million jobs, 1,000 of them took the server 19 ms)."""
LONGEST_PAUSE = 0.5


def bytes_of(job: NewJob) -> int:
    """How much of a call's MAX_BYTES a job takes."""
    return len(job.body) + (KEYED_BYTES if job.named or job.unique is not None else 0)


class Producer:
    """Pushes to one shard, for one event loop."""

    def __init__(self, shard: Shard, push_timeout: float, clock: Clock, shards: Shards) -> None:
        self.shard, self.push_timeout, self.clock, self._shards = shard, push_timeout, clock, shards
        self._epoch = shards.map.epoch
        self._client, self._generation, self._n = new_name(), generation(), 0
        self._waiting: list[tuple[NewJob, asyncio.Future[Answer]]] = []
        self._sender: asyncio.Task[None] | None = None
        self._is_led = False  # by a push that waits for others of its turn, or is sent alone
        self._turn = asyncio.Lock()

    async def push(self, job: NewJob) -> Answer:
        """Enqueue one job with whatever else is pushed in this turn of the loop.

        Raises StoreFull, StoreRefused, StoreUnavailable (nothing was written) or PushUncertain.
        """
        future: asyncio.Future[Answer]
        if self._is_led or self._sender is not None:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((job, future))
            return await future
        self._is_led = True
        try:
            await asyncio.sleep(0)  # the others of this turn join
            if not self._waiting:  # one alone needs neither a future nor a task
                return (await self._enqueue([job]))[0]
            future = asyncio.get_running_loop().create_future()
            self._waiting.insert(0, (job, future))
        finally:
            self._is_led = False
            if self._waiting:
                self._sender = asyncio.get_running_loop().create_task(self._send())
        return await future

    async def push_batch(self, jobs: Sequence[NewJob]) -> list[Answer]:
        """Enqueue up to MAX_BATCH jobs, all or none, in one call."""
        return await self._enqueue(jobs)

    async def _send(self) -> None:
        try:
            while self._waiting:
                batch = self._take()
                try:
                    answers = await self._enqueue([job for job, _ in batch])
                except Exception as error:
                    for job, future in batch:
                        if not future.done():
                            future.set_exception(_own(error, job.id))
                    continue
                for (_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
        finally:
            self._sender = None

    def _take(self) -> list[tuple[NewJob, asyncio.Future[Answer]]]:
        size = count = 0
        for job, _ in self._waiting[:MAX_BATCH]:
            size += bytes_of(job)
            if count and size > MAX_BYTES:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    async def _enqueue(self, jobs: Sequence[NewJob]) -> list[Answer]:
        """One numbered call, repeated until it is answered or the time is over; never two at once."""
        async with self._turn:
            if self._generation != generation():  # a forked child is another client
                self._client, self._generation, self._n = new_name(), generation(), 0
            self._n += 1
            n, until = self._n, self.clock.monotonic() + self.push_timeout
            sent, is_known, backoff = False, False, None
            while True:
                try:
                    if not self._shards.is_known(self.shard.queue):
                        await self._shards.ensure(self.shard.queue)
                    is_known = True
                    if not sent:
                        self._require_present_map()
                    return await self.shard.enqueue(self._client, n, jobs, epoch=self._epoch)
                except (StoreUncertain, StoreUnavailable, StaleMap) as error:
                    sent = sent or isinstance(error, StoreUncertain)
                    if isinstance(error, StaleMap) and not is_known:  # the queue lies in other places than was thought
                        raise
                    if isinstance(error, StaleMap):  # refused: neither this call nor one before it was applied
                        sent = False
                        await self._shards.refresh()
                        self._require_present_map()
                    backoff = backoff or Backoff(LONGEST_PAUSE)
                    pause = backoff.pause()
                    if self.clock.monotonic() + pause >= until:
                        if sent:
                            raise PushUncertain([job.id for job in jobs], str(error)) from error
                        raise StoreUnavailable(str(error)) from error
                    await asyncio.sleep(pause)

    def _require_present_map(self) -> None:
        """Raises StaleMap if the jobs may belong elsewhere by now."""
        if self._shards.map.epoch != self._epoch:
            raise StaleMap(f"the map of shards is at epoch {self._shards.map.epoch}, not {self._epoch} any more")

    async def close(self) -> None:
        """Wait until everything pushed is answered."""
        while self._is_led:
            async with self._turn:  # behind the call that is under way; one that has not begun gets a turn of the loop
                await asyncio.sleep(0)
        if self._sender is not None:
            await asyncio.wait([self._sender])


def _own(error: Exception, id: str) -> Exception:
    """The error of a shared call, for one of its pushes."""
    if isinstance(error, PushUncertain):
        return PushUncertain([id], str(error.__cause__ or error))
    if isinstance(error, StoreFull | StoreError):
        return type(error)(str(error))
    return error
