"""A queue that lies in several shards, as one: what is asked by id goes to the shard it belongs to, the rest to all.

It has the verbs by which jobs and schedules are looked at and steered, with the promises of `Care` and `Schedules`, each
of them atomic within one shard. Cursors carry the number of the shard they are in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, TypeVar

from msgspec.structs import replace

from duly.core.shards import Place, Spread, slot_of, slot_of_key
from duly.errors import InvalidOption
from duly.stores.base import Due, Fired, Firing, JobRecord, NewSchedule, Page, Shard, Sizes

T = TypeVar("T")


FRESH = 1.0
"""Seconds for which what is unknown by a map that was just read is taken as such: ids that have ended are asked for often."""


class WholeQueue:
    """All shards of a queue. `belonging` says where things belong now; among `places` are those where some still lie.
    finish: while things are moved, brings what is on its way from a place to where it belongs. again: the queue as it lies by
    now, None if it lies as it did so many seconds ago; asked when something is unknown, and before what is for all of it."""

    def __init__(self, queue: str, belonging: Spread, places: Sequence[Place], at: Callable[[Place], Shard],
                 finish: Callable[[Place], Awaitable[None]] | None = None,
                 again: Callable[[float], Awaitable[WholeQueue | None]] | None = None) -> None:  # fmt: skip
        self.queue, self._belonging, self._places = queue, belonging, tuple(places)
        self._finish, self._again = finish, again
        self._at = {place: at(place) for place in self._places}

    @property
    def shards(self) -> Sequence[Shard]:
        return tuple(self._at.values())

    # by id

    async def _ask(
        self, ids: Sequence[str], slot: Callable[[str], int], call: Callable[[Shard, Sequence[str]], Awaitable[Sequence[T]]],
        is_unknown: Callable[[T], bool],
    ) -> list[T]:  # fmt: skip
        """What `call` answers for each id where it belongs; what is unknown there is asked for everywhere else. An id that
        was pushed together with a unique key, or that has not moved yet, is elsewhere."""
        homes = {id: self._belonging.place(slot(id)) for id in ids}
        answers: dict[str, T] = {}

        async def ask(place: Place, some: Sequence[str]) -> None:
            for id, answer in zip(some, await call(self._at[place], some), strict=True):
                if id not in answers or is_unknown(answers[id]):
                    answers[id] = answer

        async def ask_all(where: Callable[[str, Place], bool], asked: Sequence[str]) -> None:
            parts = [(place, [id for id in asked if where(id, place)]) for place in self._places]
            await asyncio.gather(*(ask(place, some) for place, some in parts if some))

        def unknown() -> list[str]:
            return [id for id in homes if is_unknown(answers[id])]

        await ask_all(lambda id, place: homes[id] == place, list(homes))
        if missing := unknown():
            await ask_all(lambda id, place: homes[id] != place, missing)
        if self._finish is not None and (missing := unknown()):  # it may be on its way, or have arrived meanwhile
            await asyncio.gather(*(self._finish(place) for place in self._places))
            await ask_all(lambda id, place: homes[id] == place, missing)
        if self._again is not None and (missing := unknown()) and (present := await self._again(FRESH)) is not None:
            answers.update(zip(missing, await present._ask(missing, slot, call, is_unknown), strict=True))
        return [answers[id] for id in ids]

    async def get(self, ids: Sequence[str]) -> list[JobRecord | None]:
        return await self._ask(ids, slot_of, lambda shard, some: shard.get(some), lambda record: record is None)

    async def cancel(self, ids: Sequence[str]) -> Sequence[str]:
        return await self._ask(ids, slot_of, lambda shard, some: shard.cancel(some), lambda answer: answer == "unknown")

    async def revive(self, ids: Sequence[str], *, waiting: bool = False) -> Sequence[bool]:
        async def revive(shard: Shard, some: Sequence[str]) -> Sequence[bool]:
            return await shard.revive(some, waiting=waiting)

        return await self._ask(ids, slot_of, revive, lambda answer: not answer)

    async def result(self, id: str, seconds: float = 0.0) -> bytes | None:
        home = self._at[self._belonging.place(slot_of(id))]
        found = await home.result(id, seconds)
        others = [shard for shard in self.shards if shard is not home] if found is None else []
        for result in await asyncio.gather(*(shard.result(id) for shard in others)):
            found = result if found is None else found
        return found

    # all of it

    async def _present(self) -> WholeQueue:
        return (None if self._again is None else await self._again(0.0)) or self

    async def _walk(self, cursor: str, step: Callable[[Shard, str], Awaitable[Page]]) -> Page:
        shards, number, inner = await self._stand(cursor)
        if number >= len(shards):
            return Page([])
        page = await step(shards[number], inner)
        return Page(page.items, _next(number, page.cursor, len(shards)))

    async def _stand(self, cursor: str) -> tuple[Sequence[Shard], int, str]:
        """Where a walk stands: the shards, the number of the one that it is in, past them all if there are fewer by now, and
        the cursor within it. A walk begins with the shards that there are."""
        number, _, inner = cursor.partition(" ")
        if not cursor:
            present = await self._present()
            self._belonging, self._places, self._at = present._belonging, present._places, present._at
        return self.shards, int(number or 0), inner

    async def sizes(self) -> Sizes:
        """Sums; paused if every shard is."""
        found = await asyncio.gather(*(shard.sizes() for shard in (await self._present()).shards))
        limits = [size.limit for size in found]
        return Sizes(
            max(size.now for size in found),
            sum(size.pending for size in found),
            sum(size.leased for size in found),
            sum(size.dead for size in found),
            sum(size.schedules for size in found),
            all(size.paused for size in found),
            None if None in limits else sum(limit or 0 for limit in limits),
            max(size.moved_at for size in found),
            max(size.paused_since for size in found) if all(size.paused for size in found) else 0,
        )

    async def clear(
        self, cursor: str, until: int | None, limit: int, ids: Sequence[str] | None = None, *, dead_only: bool = False
    ) -> tuple[int, str, int]:
        if ids is not None:
            shards = (await self._present()).shards
            parts = await asyncio.gather(*(shard.clear("", until, limit, ids, dead_only=dead_only) for shard in shards))
            return sum(count for count, _, _ in parts), "", max(stop for _, _, stop in parts)
        shards, number, inner = await self._stand(cursor)
        if number >= len(shards):
            return 0, "", until or 0
        removed, following, stop = await shards[number].clear(inner, until, limit, ids, dead_only=dead_only)
        return removed, _next(number, following, len(shards)), stop

    async def configure(self, *, paused: bool | None = None, limit: int | None = None) -> None:
        """Each shard gets its part of a limit: never more jobs run than it says, fewer if the shards are not equally busy."""
        shards = (await self._present()).shards
        count = len(shards)
        if limit and limit < count:
            raise InvalidOption(
                f"limit={limit} for queue {self.queue!r}, which lies in {count} shards: give at least {count}, or use a queue "
                "that lies in one"
            )
        parts = [None if limit is None else limit // count + (k < limit % count) for k in range(count)]
        calls = zip(shards, parts, strict=True)
        await asyncio.gather(*(shard.configure(paused=paused, limit=part) for shard, part in calls))

    async def reconcile(self, cursor: str, limit: int, *, repair: bool = True) -> tuple[str, dict[str, int]]:
        shards, number, inner = await self._stand(cursor)
        if number >= len(shards):
            return "", {}
        following, found = await shards[number].reconcile(inner, limit, repair=repair)
        return _next(number, following, len(shards)), found

    async def history(self, stream: Literal["history", "ticks"], after: str, limit: int) -> Page:
        """Entries of all shards, in the order of their ids."""
        shards = self.shards if after else (await self._present()).shards
        cursors = after.split(" ")[: len(shards)]
        cursors += [cursors[0] if cursors else ""] * (
            len(shards) - len(cursors)
        )  # of shards that have come: entries are ordered by time
        if len(shards) == 1:
            return await shards[0].history(stream, cursors[0], limit)
        calls = zip(shards, cursors, strict=True)
        pages = await asyncio.gather(*(shard.history(stream, cursor, limit) for shard, cursor in calls))
        entries = [(entry, number) for number, page in enumerate(pages) for entry in page.items]
        entries.sort(key=lambda found: [int(part) for part in found[0][0].split("-")])
        for entry, number in entries[:limit]:
            cursors[number] = entry[0]
        return Page([entry for entry, _ in entries[:limit]], " ".join(cursors))

    # schedules

    async def put(self, schedule: NewSchedule) -> tuple[str, int]:
        """An edit of one that has not moved yet is made where it is."""
        home = self._belonging.place(slot_of_key(schedule.id))
        if self._finish is not None:
            for place in self._places:
                if place != home and (answer := await self._edit(place, schedule)) is not None:
                    return answer
                await self._finish(place)  # what has left there meanwhile is at home now
        return await self._at[home].put(schedule)

    async def _edit(self, place: Place, schedule: NewSchedule) -> tuple[str, int] | None:
        """Put where it does not belong any more, if it is there: by the revision that is there, so that nothing is created
        if it leaves. None if it is not there."""
        shard, asked = self._at[place], schedule.revision
        while (found := (await shard.schedules([schedule.id], "", 1)).items[0]) is not None:
            what, revision = await shard.put(replace(schedule, revision=found.revision if asked is None else asked))
            if what != "conflict" or (asked is not None and revision):
                return what, revision
        return None

    async def schedules(self, ids: Sequence[str] | None, cursor: str, limit: int) -> Page:
        if ids is None:
            return await self._walk(cursor, lambda shard, inner: shard.schedules(None, inner, limit))

        async def look(shard: Shard, some: Sequence[str]) -> Sequence[Any]:
            return (await shard.schedules(some, "", limit)).items

        return Page(await self._ask(ids, slot_of_key, look, lambda record: record is None))

    async def steer(self, id: str, *, remove: bool = False, paused: str | None = None) -> bool:
        async def steer(shard: Shard, some: Sequence[str]) -> Sequence[bool]:
            return [await shard.steer(one, remove=remove, paused=paused) for one in some]

        return (await self._ask([id], slot_of_key, steer, lambda done: not done))[0]

    async def due(self, limit: int, until: int | None = None) -> Due:
        found = await asyncio.gather(*(shard.due(limit, until) for shard in self.shards))
        return Due(max(due.now for due in found), [record for due in found for record in due.schedules])

    async def fire(self, node: str, firings: Sequence[Firing]) -> list[Fired]:
        """Each where its schedule lies. At most one for each schedule."""
        planned = {firing.id: firing for firing in firings}

        async def fire(shard: Shard, some: Sequence[str]) -> Sequence[Fired]:
            return await shard.fire(node, [planned[id] for id in some])

        return await self._ask([*planned], slot_of_key, fire, lambda answer: answer == "stale")

    # last, for its name hides the type

    async def list(self, state: Literal["pending", "leased", "dead"], cursor: str, limit: int) -> Page:
        return await self._walk(cursor, lambda shard, inner: shard.list(state, inner, limit))


def _next(number: int, inner: str, count: int) -> str:
    """The cursor after a step in one of `count` shards; of the next shard, if this one is over."""
    if inner:
        return f"{number} {inner}"
    return f"{number + 1} " if number + 1 < count else ""
