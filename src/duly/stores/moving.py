"""Brings what lies in a shard that it does not belong to any more to where it belongs (DESIGN §8): after the map of shards
has changed, while nodes run. Every step may be repeated, by any process, after any other's death.

A batch departs from its shard, where it then counts as leased, to somebody who never runs it; it arrives, known by the name
of the sender and its number, so that a second arrival writes nothing; then it has departed. What cannot be moved yet, a job
that runs or a schedule with such a job, is left for a later pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from duly.core import shards as mapping
from duly.core.job import NewJob
from duly.core.shards import Former, Place, ShardMap, Spread, place_of, slot_of, slot_of_key
from duly.errors import ConfigurationError, StoreError, StoreRefused
from duly.identity import new_name
from duly.stores.base import Sizes
from duly.stores.capabilities import Departure, Mapped, Movable
from duly.stores.whole import WholeQueue

if TYPE_CHECKING:
    from duly.stores.shards import Shards

STEP = 250
"""Jobs in a batch: some carry tracebacks, and no step may keep a server busy for long."""
SCHEDULES = 50
"""Schedules in a batch; each brings the jobs of its runs that have not begun."""


class Mover:
    """What moves things between the shards of queues. moved: told of each batch that has arrived, with its size."""

    def __init__(self, shards: Shards, moved: Callable[[int], None] = lambda _count: None) -> None:
        self._shards, self._moved = shards, moved

    async def sweep(self, queue: str) -> int:
        """One pass through all shards of a queue: moves what can be moved; how many had to stay where they do not belong."""
        return sum([await self._sweep_place(place) for place in self._shards.places(queue)])

    async def lasts(self, queue: str) -> int:
        """Until when (ms) something that outlives its job may be kept in a place of the queue."""
        return max([await self._movable(place).lasts() for place in self._shards.places(queue)])

    async def _sweep_place(self, place: Place) -> int:
        await self.finish(place)
        left = 0
        rooms: tuple[Literal["schedules", "jobs"], ...] = ("schedules", "jobs")  # a schedule takes its jobs along
        for what in rooms:
            cursor = ""
            while True:
                page = await self._movable(place).kept(what, cursor, STEP if what == "jobs" else SCHEDULES)
                targets: dict[Place, list[str]] = {}
                for id, key in page.items:
                    home = self._home(place.queue, what, id, key)
                    if home != place:
                        targets.setdefault(home, []).append(id)
                for home, ids in targets.items():
                    left += await self.move(place, home, what, ids)
                cursor = page.cursor
                if not cursor:
                    break
        return left

    def _home(self, queue: str, what: str, id: str, key: str) -> Place:
        slot = slot_of_key(key or id) if what == "schedules" or key else slot_of(id)
        return self._shards.spread(queue).place(slot)

    async def move(self, place: Place, home: Place, what: Literal["jobs", "schedules"], ids: Sequence[str]) -> int:
        """Bring some from one place to another; how many of them stayed, as a run of theirs is under way."""
        source, stayed = self._movable(place), 0
        for first in range(0, len(ids), STEP):
            some = list(ids[first : first + STEP])
            while some:
                given = {"ids": some} if what == "jobs" else {"schedules": some}
                departure = await source.depart(home.name, new_name(), **given)
                if departure is None:
                    stayed += len(some)
                    break
                await self._deliver(source, departure)  # it may be what somebody else has left on its way
                some = [id for id in some if id not in departure.ids]
        return stayed

    async def finish(self, place: Place) -> None:
        """Bring on its way what somebody has left on its way."""
        source = self._movable(place)
        while (departure := await source.depart("", "")) is not None:
            await self._deliver(source, departure)

    async def _deliver(self, source: Movable, departure: Departure) -> None:
        target = place_of(departure.to)
        await self._movable(target).arrive(departure)
        cancelled: list[str] = []
        while asked := await source.departed(departure.n, cancelled):
            await self._shards.at(target).cancel(asked)
            cancelled.extend(asked)
        self._moved(len(departure.ids))

    def _movable(self, place: Place) -> Movable:
        shard = self._shards.at(place)
        if not isinstance(shard, Movable):
            raise StoreRefused(f"what lies in {self._shards.store.url} cannot be moved to other shards")
        return shard

    async def before(self, queue: str, job: NewJob) -> tuple[str, str] | None:
        """While things move: what is known of a job with an id or a key of the user's where it lay before, as `enqueue`
        answers it. None if nothing is, and if it has come to where it belongs meanwhile: then it may be pushed there. One
        that is to be replaced is brought there first.
        """
        for former in self._shards.former(queue, job):
            known = await self._known_at(former, queue, job)
            if known is not None:
                return known
        return None

    async def _known_at(self, former: Place, queue: str, job: NewJob) -> tuple[str, str] | None:
        shard, movable = self._shards.at(former), self._movable(former)

        async def found() -> tuple[str, str] | None:
            record = (await shard.get([job.id]))[0] if job.named else None
            if record is not None:
                return record.state, job.id
            return await movable.holder(job.unique.key) if job.unique is not None else None

        known = await found()
        if known is not None and known[0] == "leased":  # it may be on its way
            await self.finish(former)
            known = await found()
        if job.replace and known == ("pending", job.id):  # it takes the key, and so the place, of what replaces it
            await self.move(former, self._shards.place_of_job(queue, job), "jobs", [job.id])
            known = await found()
        return known


async def change_map(shards: Shards, servers: int, partitions: Mapping[str, int]) -> None:
    """Publish another map, by which everything belongs elsewhere from now on; then things are to be moved (`move_all`).

    First every shard of the map as it is refuses what is pushed by it: until the new one is published, an instant later,
    pushes wait. Interrupted in between it is to be called again. If it is published already, nothing is done. The new
    shards are paused, and divide the limit, as the former did. Raises ConfigurationError if another change is not finished;
    StoreError, and nothing is changed, if a shard does not answer.
    """
    store = shards.store
    if not isinstance(store, Mapped):
        raise ConfigurationError(f"{store.url} keeps every queue in one place: there is nothing to spread")
    while True:
        text = await store.shard_map("", 1)
        present = mapping.decode(text) if text else ShardMap(servers=1)
        wanted = {queue: count for queue, count in {**present.partitions, **partitions}.items() if count > 1}
        if (present.servers, present.partitions) == (servers, wanted):
            return
        if store.servers < present.servers:
            raise ConfigurationError(
                f"this list has {store.servers} server(s), the shard map {present.servers}: what lies on the others would be "
                "left behind; list them all, and say how many are to be used"
            )
        if present.is_moving:
            raise ConfigurationError(
                f"the change to {present.servers} server(s) and {present.partitions} is not finished: rebalance to that first"
            )
        was = (*present.was, Former(present.servers, present.partitions))
        following = ShardMap(present.epoch + 1, servers, wanted, was)
        changes = [
            await _Change.of(shards, queue, present, following) for queue in (await store.registry()).queues
        ]  # all answer
        try:
            for change in changes:
                await change.close()
            if await store.change_map(text, mapping.encode(following)):  # else somebody else has written it meanwhile
                return
        except StoreError as error:
            raise type(error)(
                f"{error}; pushes wait until the map has changed: call it again when it can be"
            ) from error


class _Change:
    """What becomes of one queue."""

    def __init__(self, former: WholeQueue, later: WholeQueue, sizes: Sizes, epoch: int) -> None:
        self._former, self._later, self._sizes, self._epoch = former, later, sizes, epoch

    @classmethod
    async def of(cls, shards: Shards, queue: str, present: ShardMap, following: ShardMap) -> _Change:
        servers = shards.store.servers if isinstance(shards.store, Mapped) else 1
        before = Spread(queue, min(present.servers, servers), present.partitions.get(queue, 1))
        after = Spread(queue, following.servers, following.partitions.get(queue, 1))
        former, later = (WholeQueue(queue, spread, spread.places, shards.at) for spread in (before, after))
        sizes, _ = await asyncio.gather(former.sizes(), later.sizes())
        if sizes.limit is not None and sizes.limit < len(after.places):
            raise ConfigurationError(
                f"the limit of queue {queue!r} is {sizes.limit}, and {len(after.places)} shards cannot divide it: raise it first"
            )
        return cls(former, later, sizes, following.epoch)

    async def close(self) -> None:
        """Nothing is pushed to the former shards any more; the later ones have their switches."""
        for shard in self._former.shards:
            if not isinstance(shard, Movable):
                raise ConfigurationError(f"what lies in queue {self._former.queue!r} cannot be moved to other shards")
            await shard.remapped(self._epoch)
        if self._sizes.paused or self._sizes.limit is not None:
            await self._later.configure(paused=self._sizes.paused or None, limit=self._sizes.limit)


async def move_all(shards: Shards, remember_ms: int, moved: Callable[[int], None] = lambda _count: None) -> int:
    """One pass through everything, if the map has changed; how much had to stay, for another pass. When nothing does, the
    map says so; and when what outlives its job is over in former places, too, it forgets those, after another pass."""
    store = shards.store
    if not isinstance(store, Mapped):
        return 0
    await shards.refresh()
    text = await store.shard_map("", 1)
    present = mapping.decode(text) if text else ShardMap()
    if not present.was or text is None:
        return 0
    if present.epoch != shards.map.epoch:  # changed in between: what is swept now is not what that asks for
        return 1
    registry = await store.registry()
    if any(not former.until and former.servers > store.servers for former in present.was):
        return 1  # some of it lies on servers that this list does not have: who has them is to move it
    remembered = [former for former in present.was if not 0 < former.until <= registry.now]
    if len(remembered) == len(present.was) and not present.is_moving:
        return 0
    mover = Mover(shards, moved)
    left = sum([await mover.sweep(queue) for queue in registry.queues])
    if left:
        return left
    until = max(registry.now + remember_ms + 1, *[await mover.lasts(queue) for queue in registry.queues], 0)
    following = tuple(each if each.until else msgspec.structs.replace(each, until=until) for each in remembered)
    if await store.change_map(text, mapping.encode(msgspec.structs.replace(present, was=following))):
        await shards.refresh()
    return 0
