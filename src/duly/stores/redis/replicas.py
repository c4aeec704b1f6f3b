"""Waits until writes have reached replicas (`durability="replicated"`), for all callers of a moment together.

The confirmation is a write of its own, over a connection of its own, followed by WAIT: when a replica has that write it has
all that the server had written before it. The caller compares which server process has answered it and which has confirmed:
after a failover in between, what the former one had answered may be gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import hiredis

from duly.errors import StoreError, StoreUncertain
from duly.stores.redis.topology import LOST
from duly.stores.redis.wire import ConnectionLost, Wire

WAIT_MS = 1_000
"""How long one confirmation waits for the replica; who is not confirmed repeats its call."""

Dial = Callable[[], Awaitable[tuple[Wire, str]]]
"""Opens a connection, and says which server process is at its other end."""


class Replicas:
    """Confirmations of one server's writes."""

    def __init__(self, dial: Dial, url: str) -> None:
        self._dial, self._url = dial, url
        self._waiting: list[tuple[str, int, asyncio.Future[str]]] = []
        self._task: asyncio.Task[None] | None = None
        self._wire: tuple[Wire, str] | None = None

    def confirm(self, key: str, count: int) -> asyncio.Future[str]:
        """Once `count` replicas have all that is written now: which server process it was. key: a hash to write to.

        Raises StoreUncertain if they did not say so within WAIT_MS.
        """
        confirmed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, count, confirmed))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        return confirmed

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                most = max(count for _, count, _ in batch)
                answer = await self._confirmed(batch[0][0], most)
                for _, _, confirmed in batch:
                    if confirmed.done():
                        continue
                    if isinstance(answer, StoreUncertain):
                        confirmed.set_exception(StoreUncertain(str(answer)))
                    else:
                        confirmed.set_result(answer)
        finally:
            self._task = None

    async def _confirmed(self, key: str, count: int) -> str | StoreUncertain:
        try:
            if self._wire is None or not self._wire[0].is_open:
                self._wire = await self._dial()
            wire, server = self._wire
            written, reached = await asyncio.gather(
                wire.ask(b"HINCRBY", key, b"waits", 1), wire.ask(b"WAIT", count, WAIT_MS)
            )
        except (*LOST, ConnectionLost, StoreError) as error:
            self.lost()
            return StoreUncertain(f"{self._url} did not say whether a replica has it: {error}")
        for reply in (written, reached):
            if isinstance(reply, hiredis.ReplyError):
                self.lost()
                return StoreUncertain(f"{self._url} did not say whether a replica has it: {reply}")
        if reached < count:
            return StoreUncertain(f"{reached} of {count} replica(s) of {self._url} had it within {WAIT_MS} ms")
        return server

    def lost(self) -> None:
        """Give the connection up."""
        if self._wire is not None:
            self._wire[0].lose("what it says is not believed any more")
            self._wire = None
