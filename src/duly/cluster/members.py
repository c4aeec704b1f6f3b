"""Who is there: the members of a pool, and the protocol of the drivers by which they know of each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

MEMBERS_TIMEOUT = 3.0
"""Seconds after which a member that has not been heard of is gone, by default."""
BEATS_IN_A_TIMEOUT = 3
MOST_CLAIMS = 100
CLAIM_KEPT_MS = 120_000
"""How long a claim of a tick is remembered, for a member that asks again because it got no answer."""

Members = Mapping[str, "Member"]


class Member(msgspec.Struct, frozen=True):
    """One process of a pool. weight: its part of the names, relative to the others'."""

    id: str
    host: str = ""
    pid: int = 0
    version: str = ""
    tags: tuple[str, ...] = ()
    weight: float = 1.0


class Claim(NamedTuple):
    """A tick is the caller's to run, and with it all moments after `before` (ms; None: nothing was claimed before)."""

    before: int | None


class Driver(Protocol):
    """Where the members of one pool meet. An object stands for one member; errors are StoreErrors, and none ends it: the
    next call dials again, and a beat registers again."""

    timeout: float
    """Seconds after which a member that does not beat is gone."""

    async def start(self, member: Member) -> None:
        """Join; the others see it at once, or with their next look."""
        ...

    async def stop(self) -> None:
        """Leave, so that the others see it at once or with their next look, and close what was opened. If the place cannot
        be reached, the time-out does it. Repeatable."""
        ...

    async def beat(self) -> bool:
        """Say that this member lives; False if it had been forgotten, and has joined anew."""
        ...

    async def look(self) -> Members:
        """Who is there now, by id. Changes nothing, and needs no start; who only looks calls `stop`, too."""
        ...

    def members(self) -> AsyncIterator[Members]:
        """Those who are there by their ids: as soon as that is known, and after each change. Who reads slowly misses what was
        true in between, never what is true now. It does not end."""
        ...

    async def claim(self, ticks: Sequence[tuple[str, int]], member: str = "") -> list[Claim | None]:
        """Take ticks, (name, moment in ms) each, every one in one step; at most MOST_CLAIMS. None for one that another member
        has, or after which a later one was taken. A repeat answers as before, for CLAIM_KEPT_MS. member: the id of one that is
        gone, and in whose place this one asks."""
        ...

    async def marks(self, names: Sequence[str]) -> dict[str, int]:
        """The last tick taken of each name, of which any was."""
        ...

    async def now(self) -> int:
        """The time (epoch ms) by which the members agree."""
        ...


def by_id(members: Iterable[Member]) -> Members:
    """The members by their ids, in the order of these."""
    return {member.id: member for member in sorted(members, key=lambda member: member.id)}


class Present:
    """The members as they are known now, for any number of readers."""

    def __init__(self) -> None:
        self._members: Members | None = None
        self._changed = asyncio.Event()

    def tell(self, members: Iterable[Member]) -> None:
        """What is known from now on."""
        found = by_id(members)
        if found != self._members:
            self._members = found
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    async def read(self) -> AsyncIterator[Members]:
        seen: Members | None = None
        while True:
            changed, members = self._changed, self._members
            if members is not None and members is not seen:
                seen = members
                yield members
            else:
                await changed.wait()


pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(Member).decode
