"""From queues and ids to shards: a store together with the map that says what lies where."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import cast

from duly.clock import SYSTEM_CLOCK
from duly.core import shards as mapping
from duly.core.job import NewJob
from duly.core.shards import MOST_SHARDS, Place, ShardMap, Spread
from duly.errors import ConfigurationError, StaleMap
from duly.stores.base import Shard, Store
from duly.stores.capabilities import Mapped
from duly.stores.moving import Mover
from duly.stores.sealed import Seal
from duly.stores.whole import WholeQueue


class Shards:
    """The shards of queues. `partitions` is what this process declares; the map on the master decides. seal: what is kept is
    sealed.

    Before a queue is used, `ensure` makes it known, and looks at the map.
    """

    def __init__(self, store: Store, partitions: Mapping[str, int] | None = None, seal: Seal | None = None) -> None:
        self._seal = seal
        self._sealed: dict[Shard, Shard] = {}  # by the store's own
        self.store, self.declared = store, partitions if partitions is not None else {}
        self.map = ShardMap(servers=self._servers)
        self.is_longer_list = False
        """Whether the store has servers that are to be emptied: who moves things away from them needs them, too."""
        self._spreads: dict[str, Spread] = {}
        self._known: set[str] = set()
        self._looking, self._read_at = asyncio.Lock(), float("-inf")

    def is_known(self, queue: str) -> bool:
        """Whether `ensure` has nothing to do."""
        return queue in self._known

    async def ensure(self, queue: str) -> None:
        """The queue is known from now on, so that people and `clear` find it; once is enough, later calls do nothing.

        Raises ConfigurationError if the list of servers, or the number of partitions declared here, is not the map's;
        StaleMap if the queue lies elsewhere than was thought.
        """
        if queue in self._known:
            return
        before = self.places(queue)
        if isinstance(self.store, Mapped):
            await self._look(queue)
        else:
            await self.store.beat("", b"", 1, [queue])
        self._known.add(queue)
        if self.places(queue) != before:
            raise StaleMap(f"queue {queue!r} has become one of {len(self.places(queue))} shards")

    async def refresh(self) -> bool:
        """Look at the map again; whether it has changed. Raises ConfigurationError as `ensure`."""
        before = self.map
        if isinstance(self.store, Mapped):
            await self._look("")
        return self.map != before

    async def has_changed(self, known: ShardMap, fresh: float = 0.0) -> bool:
        """Whether the map is another than `known`; read again, unless it was within the last `fresh` seconds. Those who ask at
        the same time share a look. Raises ConfigurationError as `ensure`."""
        since = SYSTEM_CLOCK.monotonic() - fresh
        async with self._looking:
            if self.map == known and self._read_at <= since:
                await self.refresh()
        return self.map != known

    async def _look(self, queue: str) -> None:
        assert isinstance(self.store, Mapped)
        wanted = self.declared.get(queue, 1)
        began = SYSTEM_CLOCK.monotonic()
        text = await self.store.shard_map(queue, wanted)
        found = mapping.decode(text) if text else ShardMap()
        if found.algorithm != mapping.ALGORITHM:
            raise ConfigurationError(
                f"the shard map is made by {found.algorithm!r}, which this duly does not know: upgrade it"
            )
        if found.servers != self.store.servers and not self.is_longer_list:
            raise ConfigurationError(
                f"this process lists {self.store.servers} server(s), the shard map {found.servers} (epoch {found.epoch}): give "
                "every process the same list; `duly shards rebalance` moves everything to a new one"
            )
        there = found.partitions.get(queue, 1)
        if queue in self.declared and wanted != there:  # later, what the map says is followed
            raise ConfigurationError(
                f"queue {queue!r} is declared with {wanted} partition(s), and has {there} (epoch {found.epoch} of the shard "
                f"map): declare it as it is; `duly shards rebalance --partitions {queue}={wanted}` changes it"
            )
        self.map, self._spreads, self._read_at = found, {}, began
        self.store.epoch = found.epoch

    def spread(self, queue: str) -> Spread:
        """Where a queue lies; one that is not in the map yet, where this process declares it to lie."""
        spread = self._spreads.get(queue)
        if spread is None:
            is_new = queue not in self._known and queue not in self.map.partitions and isinstance(self.store, Mapped)
            partitions = self.declared.get(queue, 1) if is_new else self.map.partitions.get(queue, 1)
            spread = self._spreads[queue] = Spread(queue, self.map.servers, partitions)
        return spread

    def whole(self, queue: str) -> Shard:
        """The queue as one shard; of one that may lie in several, only the verbs of `Care` and `Schedules`."""
        return cast(Shard, self._whole(queue)) if isinstance(self.store, Mapped) else self.at(Place(queue))

    def _whole(self, queue: str) -> WholeQueue:
        known, finish = self.map, Mover(self).finish if self.remembers else None

        async def again(fresh: float) -> WholeQueue | None:
            return self._whole(queue) if await self.has_changed(known, fresh) else None

        return WholeQueue(queue, self.spread(queue), self.places(queue), self.at, finish, again)

    def places(self, queue: str) -> Sequence[Place]:
        """Where they are; also where something may still lie that has not moved yet."""
        before = [place for former in self.map.former(queue) for place in former.places if place.server < self._servers]
        return tuple(dict.fromkeys([*self.spread(queue).places, *before]))

    @property
    def _servers(self) -> int:
        return self.store.servers if isinstance(self.store, Mapped) else 1

    @property
    def remembers(self) -> bool:
        """Whether something may lie, or be known, where it does not belong any more."""
        return bool(self.map.was)

    def former(self, queue: str, job: NewJob) -> list[Place]:
        """Where else something may be known of a job by its id or key, as it would have been pushed there before the map
        changed; the last such place first."""
        if not self.map.was or not (job.named or job.unique is not None):
            return []
        slot = mapping.slot_of_job(job)
        places = dict.fromkeys(spread.place(slot) for spread in self.map.former(queue))
        places.pop(self.place_of_job(queue, job), None)
        return [place for place in places if place.server < self._servers]

    def at(self, place: Place) -> Shard:
        shard = self.store.shard(place.name)
        if self._seal is None:
            return shard
        sealed = self._sealed.get(shard)
        if sealed is None:
            sealed = self._sealed[shard] = self._seal.shard(shard, place.queue)
        return sealed

    def place_of_job(self, queue: str, job: NewJob) -> Place:
        """Where a job is pushed to."""
        spread = self._spreads.get(queue) or self.spread(queue)
        if len(spread.places) == 1:
            return spread.places[0]
        return spread.place(mapping.slot_of_job(job))


def check_partitions(queue: str, partitions: int, servers: int) -> None:
    """Raises ConfigurationError for a number that no queue can have."""
    if isinstance(partitions, bool) or not isinstance(partitions, int) or not 1 <= partitions * servers <= MOST_SHARDS:
        raise ConfigurationError(
            f"partitions={partitions!r} of queue {queue!r}: give a whole number from 1 to {MOST_SHARDS // servers}"
        )
