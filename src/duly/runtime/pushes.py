"""The way of jobs into the shards that they belong to, also while that changes."""

from __future__ import annotations

import asyncio

from duly.clock import Clock
from duly.core.job import NewJob, queue_name
from duly.core.shards import Place
from duly.errors import StaleMap, StoreUnavailable, StoreUncertain
from duly.runtime.loop import Backoff
from duly.runtime.producer import LONGEST_PAUSE, Producer
from duly.stores.base import Answer
from duly.stores.moving import Mover
from duly.stores.shards import Shards


class Pushes:
    """A producer for each shard and epoch of the map, for one event loop."""

    def __init__(self, shards: Shards, push_timeout: float, clock: Clock) -> None:
        self._shards, self._push_timeout, self._clock = shards, push_timeout, clock
        self._producers: dict[tuple[Place, int], Producer] = {}

    def producer(self, queue: str, job: NewJob) -> Producer:
        """Of the shard that a job belongs to. Raises InvalidOption for a queue that cannot be."""
        return self._producer(queue, self._shards.place_of_job(queue, job))

    def _producer(self, queue: str, place: Place) -> Producer:
        key = place, self._shards.map.epoch
        producer = self._producers.get(key)
        if producer is None:
            queue_name(queue)
            shard = self._shards.at(place)
            producer = self._producers[key] = Producer(shard, self._push_timeout, self._clock, self._shards)
        return producer

    def only(self, queue: str) -> Producer | None:
        """Of a queue that lies in one place, where nothing is remembered of others; None of any other."""
        first, *others = self._shards.spread(queue).places
        return None if others or self._shards.remembers else self._producer(queue, first)

    def is_known_before(self, queue: str, job: NewJob) -> bool:
        """Whether what is known of the job may lie where it would have been pushed to before the map changed."""
        return bool(self._shards.former(queue, job))

    async def enqueue(self, queue: str, job: NewJob, until: float | None = None) -> Answer:
        """Keep one job. Raises what `Producer.push` raises. until: when to stop waiting for former places, by the clock's
        monotonic time, for many that wait one after the other."""
        until = self.patience if until is None else until
        while True:
            try:
                if (
                    self._shards.map.was
                    and self.is_known_before(queue, job)
                    and (found := await self._known(queue, job, until)) is not None
                ):
                    return found
                return await self.producer(queue, job).push(job)
            except StaleMap:
                continue  # the map was read again: it changes a few times in the life of an application

    @property
    def patience(self) -> float:
        """Until when a push that begins now may wait, by the clock's monotonic time."""
        return self._clock.monotonic() + self._push_timeout

    async def _known(self, queue: str, job: NewJob, until: float) -> Answer | None:
        """What is known of a job where it would have been pushed to before; a server that is away is waited for."""
        backoff = Backoff(LONGEST_PAUSE)
        while True:
            try:
                return await Mover(self._shards).before(queue, job)
            except (StoreUnavailable, StoreUncertain) as error:  # nothing of the push was sent
                pause = backoff.pause()
                if self._clock.monotonic() + pause >= until:
                    raise StoreUnavailable(str(error)) from error
                await asyncio.sleep(pause)

    async def close(self) -> None:
        """Wait until everything pushed is answered."""
        for producer in self._producers.values():
            await producer.close()
        self._producers.clear()
