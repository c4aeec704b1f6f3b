"""Members of one process: for tests, and for an application that runs once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from duly.clock import Clock, SystemClock
from duly.cluster.members import CLAIM_KEPT_MS, MEMBERS_TIMEOUT, Claim, Member, Members, Present, by_id


class Group:
    """Where several local drivers meet."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.members: dict[str, tuple[Member, int]] = {}  # and until when, in ms
        self.drivers: set[LocalDriver] = set()
        self.marks: dict[str, int] = {}
        self.ticks: dict[tuple[str, int], tuple[str, int | None, int]] = {}  # who took it, the mark before, and when

    def now(self) -> int:
        return self.clock.epoch_us() // 1000

    def look(self) -> None:
        """Forget those whose time is over, and tell everybody."""
        now = self.now()
        self.members = {id: each for id, each in self.members.items() if each[1] > now}
        self.ticks = {tick: each for tick, each in self.ticks.items() if each[2] > now - CLAIM_KEPT_MS}
        for driver in self.drivers:
            driver.present.tell(member for member, _ in self.members.values())


class LocalDriver:
    """`Driver` without a server. group: others of this process that belong to the pool; by default it is alone."""

    def __init__(self, group: Group | None = None, *, timeout: float = MEMBERS_TIMEOUT) -> None:
        self.group, self.timeout = group or Group(), timeout
        self.present = Present()
        self._member: Member | None = None

    async def start(self, member: Member) -> None:
        self._member = member
        self.group.drivers.add(self)
        await self.beat()

    async def stop(self) -> None:
        if self._member is not None:
            self.group.members.pop(self._member.id, None)
            self.group.look()
        self.group.drivers.discard(self)

    async def beat(self) -> bool:
        assert self._member is not None, "start it first"
        self.group.look()
        was_known = self._member.id in self.group.members
        self.group.members[self._member.id] = (self._member, self.group.now() + int(self.timeout * 1000))
        self.group.look()
        return was_known

    async def look(self) -> Members:
        now = self.group.now()
        return by_id(member for member, until in self.group.members.values() if until > now)

    def members(self) -> AsyncIterator[Members]:
        return self.present.read()

    async def claim(self, ticks: Sequence[tuple[str, int]], member: str = "") -> list[Claim | None]:
        assert self._member is not None, "start it first"
        return [self._claim(name, moment, member or self._member.id) for name, moment in ticks]

    def _claim(self, name: str, moment: int, member: str) -> Claim | None:
        holder, before, _ = self.group.ticks.get((name, moment), ("", None, 0))
        if holder:
            return Claim(before) if holder == member else None
        mark = self.group.marks.get(name)
        if mark is not None and mark >= moment:
            return None
        self.group.marks[name] = moment
        self.group.ticks[name, moment] = (member, mark, self.group.now())
        return Claim(mark)

    async def marks(self, names: Sequence[str]) -> dict[str, int]:
        return {name: self.group.marks[name] for name in names if name in self.group.marks}

    async def now(self) -> int:
        return self.group.now()
