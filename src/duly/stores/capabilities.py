"""What some stores can do beside the contract (`stores.base`); asked for with isinstance, never by a store's name."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import msgspec

from duly.core.measures import Counts
from duly.stores.base import Answer, Page


class Finding(msgspec.Struct, frozen=True):
    """One thing that an examination found. advice: what to do about it; empty if it is as it should be."""

    level: Literal["ok", "warning", "error"]
    what: str
    advice: str = ""


@runtime_checkable
class Examined(Protocol):
    """A store that can say how healthy its server or file is."""

    async def examine(self) -> list[Finding]:
        """What an operator should know, the good and the bad. Changes nothing; needs `connect` first."""
        ...


@runtime_checkable
class Mapped(Protocol):
    """A store whose queues may be spread over several shards.

    servers: how many it consists of. epoch: that of the map by which the caller chooses shards; a shard that has been told
    of a later one refuses what is pushed and put with it (StaleMap).
    """

    servers: int
    epoch: int

    async def shard_map(self, queue: str, partitions: int, servers: int = 0) -> bytes | None:
        """The map (`core.shards.ShardMap`, as JSON), None if there is none: then all is in one place. The queue becomes
        known, and if it was not, it is entered with so many partitions, in the same step; "" only looks. servers: for a
        map that is new (0: the store's own number)."""
        ...

    async def change_map(self, before: bytes | None, after: bytes) -> bool:
        """Write the map, if it still is `before`; whether it was."""
        ...


@runtime_checkable
class Numbered(Protocol):
    """A store that remembers which one of a list it is."""

    async def number(self, text: str) -> str:
        """What it was told first; from now on, this is."""
        ...


class LockPlace(NamedTuple):
    """One place of a lock, and who holds it. until: when that ends by itself, in ms of the store's clock."""

    owner: str
    fence: int
    until: int


class LockRecord(msgspec.Struct, frozen=True):
    """A lock that is held: by how many (`held`), and how many wait for it. places: those of its holders, at most PLACES_SHOWN,
    first the ones that end first."""

    name: str
    places: tuple[LockPlace, ...]
    held: int
    waiting: int


PLACES_SHOWN = 100


@runtime_checkable
class ListsLocks(Protocol):
    """A store that can say which locks are held."""

    async def locks(self, cursor: str, limit: int) -> Page:
        """A page of LockRecord, in no order; the first cursor is the empty string. What is held all the while is seen at
        least once, if the servers stay the same. limit: how much is looked at in one call, be it locks or, where they lie among
        other things, any keys: a page may be short, or empty, with a cursor that goes on."""
        ...


@runtime_checkable
class Calling(Protocol):
    """A store that calls who is next for a lock. Others are asked again."""

    def called(self, name: str, owner: str) -> AbstractAsyncContextManager[Future[None]]:
        """Inside, a future that is done when `owner`, who waits for the lock, should try: its turn may have come. A call
        may be lost, so it asks from time to time, too. Raises StoreError if the store cannot be listened to."""
        ...


@runtime_checkable
class Measured(Protocol):
    """A store that keeps what was counted of runs, by the minute (`core.measures`)."""

    async def measure(self, minute: int, counts: Mapping[str, Counts], keep: int) -> None:
        """Add to what was counted in a minute (since the epoch, by the store's clock): by task (`measures.key_of`) and
        counter. Beyond MOST_TASKS tasks a minute, all count as OTHERS. What is `keep` minutes old or older is forgotten.

        Not to be repeated, it would count twice: what was sent with a call that got no answer may be missing.
        """
        ...

    async def measured(self, first: int, last: int) -> Mapping[int, Mapping[str, Counts]]:
        """The minutes from `first` to `last`, without those in which nothing was counted; of at most MOST_MINUTES, or
        raises ValueError. What ended in a minute may be added up to a minute later; then it changes no more."""
        ...


class Departure(msgspec.Struct, frozen=True):
    """What is on its way from one shard to another. name: who sends it; n: its number, growing; to: the target's name;
    ids: of jobs and schedules. load: what only the store reads."""

    name: str
    n: int
    to: str
    ids: frozenset[str]
    load: Any


class Ahead(NamedTuple):
    """How many jobs come before one. is_more: there may be more; they are counted up to AHEAD_MOST only."""

    jobs: int
    is_more: bool = False


AHEAD_MOST = 10_000
"""For stores that count one by one."""


@runtime_checkable
class Lined(Protocol):
    """A shard that can say where in its line a job stands."""

    async def ahead(self, id: str) -> Ahead | None:
        """How many pending jobs are to be claimed before a pending one that is due: due ones of earlier priorities, and those
        of its own with an earlier due time. (Every eighth claim takes the priorities in reverse.) None if it is not
        pending. Bounded, whatever the number of jobs."""
        ...


@runtime_checkable
class Keyed(Protocol):
    """A shard that can say who holds a unique key."""

    async def holder(self, key: str) -> Answer | None:
        """(state, id) of who holds a unique key; None if it is free."""
        ...


@runtime_checkable
class Movable(Keyed, Protocol):
    """A shard whose jobs and schedules can be brought to another one.

    A batch departs, arrives, and has departed: three steps, of which each may be repeated, by anybody, at any time
    afterwards. A job is run from one of the two shards, never from both; between the steps it counts as leased where it
    was, a schedule is nowhere.
    """

    async def kept(self, what: Literal["jobs", "schedules"], cursor: str, limit: int) -> Page:
        """A page of (id, unique key or "") of all that is kept here, in no order; what stays is seen at least once."""
        ...

    async def lasts(self) -> int:
        """Until when (ms) something that outlives its job may be kept here: a key held for a time, a result; 0: nothing."""
        ...

    async def remapped(self, epoch: int) -> None:
        """Refuse from now on what is pushed or put by a map before `epoch` (StaleMap); so are ends with children that
        belong here by such a map (`settle`)."""
        ...

    async def depart(
        self, target: str, name: str, ids: Sequence[str] = (), schedules: Sequence[str] = ()
    ) -> Departure | None:
        """Take jobs that are pending or dead, and schedules without a claimed run together with their jobs, for the shard
        `target`; what else is named stays. If another batch is under way, nothing is taken: that one is the answer. None
        if there is nothing. name: unlike any other; only the first that a shard is told counts."""
        ...

    async def arrive(self, departure: Departure) -> int:
        """Keep a batch as it was, but what is known here already; the number kept. A repeat keeps nothing."""
        ...

    async def departed(self, n: int, cancelled: Sequence[str] = ()) -> Sequence[str]:
        """A batch has arrived: remove it here, if nobody has asked meanwhile for others of it to be cancelled than those in
        `cancelled`. If somebody has, nothing is removed, and these ids are the answer: cancel them where they are now."""
        ...


@runtime_checkable
class Forgetful(Protocol):
    """A store that can remove what `clear` leaves of a namespace."""

    async def forget(self) -> None:
        """Remove every key of this namespace's queues, nodes and streams. For namespaces made for a moment: nobody else
        may be using it."""
        ...
