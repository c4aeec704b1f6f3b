"""A pool of nodes: who is in it, and which of them a name belongs to."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from duly.clock import Clock, SystemClock
from duly.cluster.members import BEATS_IN_A_TIMEOUT, Driver, Member, Members, Present
from duly.core.ring import Ring
from duly.errors import DulyError, InvalidOption
from duly.identity import new_name
from duly.runtime.loop import Backoff, Loop
from duly.version import __version__

if TYPE_CHECKING:
    from typing import Self


class NodePool:
    """This process's place among the nodes that meet by `driver`. weight: its part of the names, relative to the others'.

    A node that could not beat for the driver's time-out counts itself out: it owns nothing until it is in again. Two nodes
    may know different members for a moment, so that both or neither think that a name is theirs: what must happen once
    is claimed besides (`duly.cluster.Cron` does).
    """

    def __init__(
        self, driver: Driver, *, weight: float = 1.0, tags: Iterable[str] = (), logger: logging.Logger | None = None,
        clock: Clock | None = None,
    ) -> None:  # fmt: skip
        if not 0 < weight < float("inf"):
            raise InvalidOption(f"weight={weight!r}: give a positive number")
        self.driver, self.logger, self.clock = driver, logger or logging.getLogger("duly"), clock or SystemClock()
        self._weight, self._tags = float(weight), tuple(tags)
        self._beats = self._beating()
        self._tasks: list[asyncio.Task[None]] = []
        self._told = Present()
        self._ring = Ring([])
        self._known: Members = {}
        self._last_beat = float("-inf")
        self.me = Member("")

    async def start(self) -> None:
        """Join. Raises StoreError if the place where they meet cannot be reached."""
        if self._tasks:
            raise DulyError("this pool has been started already")
        self.me = Member(new_name(), socket.gethostname(), os.getpid(), __version__, self._tags, self._weight)
        try:
            await self.driver.start(self.me)
        except BaseException:
            await self.driver.stop()
            raise
        self._last_beat = self.clock.monotonic()
        self._tasks = [asyncio.create_task(self._beats.run()), asyncio.create_task(self._watch())]
        async for members in self.changes():
            if self.me.id in members:
                return

    async def stop(self) -> None:
        """Leave at once. Repeatable."""
        tasks, self._tasks = self._tasks, []
        self._beats.stop()
        for task in tasks[1:]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if tasks:
            self._beats = self._beating()
            await self.driver.stop()
        self._know({})

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # who is there

    @property
    def members(self) -> Members:
        """The nodes by their ids, this one among them; empty while it is out, or not started."""
        return {} if self._is_away else self._known

    def changes(self) -> AsyncIterator[Members]:
        """The members now, and after each change."""
        return self._told.read()

    @property
    def _is_away(self) -> bool:
        return self.clock.monotonic() - self._last_beat > self.driver.timeout

    # whose a name is

    def owner(self, name: str) -> Member | None:
        """The node that a name belongs to; None if this one is out."""
        return self._known[self._ring.owner(name)] if self.members else None

    def owns(self, name: str) -> bool:
        """Whether a name belongs to this node."""
        return self.owner(name) == self.me

    def ranked(self, name: str) -> list[Member]:
        """All nodes: the owner, then who takes the name over if those before are gone."""
        return [self._known[id] for id in self._ring.ranked(name)] if self.members else []

    # services

    @property
    def _beats_every(self) -> float:
        return self.driver.timeout / BEATS_IN_A_TIMEOUT

    def _beating(self) -> Loop:
        return Loop("node pool", self._beat, self.logger, self._beats_every)

    async def _beat(self) -> float:
        begun = self.clock.monotonic()
        was_known = await self.driver.beat()
        if not was_known:
            self.logger.warning("node %s had been forgotten by its pool, and has joined again", self.me.id[:8])
        self._last_beat = begun
        return self._beats_every

    async def _watch(self) -> None:
        """Keep what is known. A stream that ends with an error is opened again."""
        backoff = Backoff(self._beats_every)
        while True:
            try:
                async for members in self.driver.members():
                    backoff.reset()
                    self._know(members)
            except Exception as error:
                self.logger.warning("node pool: %s; looking again", error, exc_info=not isinstance(error, DulyError))
            await asyncio.sleep(backoff.pause())

    def _know(self, members: Members) -> None:
        before, self._known = self._known, members
        self._ring = Ring({id: member.weight for id, member in members.items()})
        if members and before.keys() != members.keys():
            self.logger.info("the pool has %d node(s): %s", len(members), ", ".join(id[:8] for id in members))
        self._told.tell(members.values())
