"""Channels of the server, and who waits for a message on them.

One connection serves all of a link's listeners; it is dialled when the first one comes. Messages are not kept by the
server: whoever listens looks for what it wants after it is listening, and looks again from time to time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import hiredis

from duly.errors import StoreRefused, StoreUnavailable
from duly.stores.redis.topology import LOST
from duly.stores.redis.wire import Wire, pack

Message = asyncio.Future[None]
"""Done when a message has come, or when none can come any more."""
FORBIDDEN = ("NOPERM", "ERR unknown command")
"""What a server says that will never let us listen; anything else passes."""


class Ear(Wire):
    """A connection on which replies are not asked for: each is given to `heard`."""

    def __init__(self, timeout: float, on_lost: Callable[[Wire], None], heard: Callable[[Any], None]) -> None:
        super().__init__(timeout, on_lost)
        self._heard = heard

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                self._heard(reply)
        except hiredis.ProtocolError as error:
            self.lose(f"it does not speak the protocol: {error}")


class _Channel:
    """One subscription: the future of its confirmation, and those who listen."""

    def __init__(self) -> None:
        self.confirmed: Message = asyncio.get_running_loop().create_future()
        self.listeners: set[Message] = set()


class Listener:
    """Subscriptions over one connection. dial opens an Ear, or raises what is in LOST; forget is told that it was lost."""

    def __init__(self, dial: Callable[[Ear], Awaitable[None]], forget: Callable[[Wire], None], timeout: float) -> None:
        self._dial, self._forget, self._timeout = dial, forget, timeout
        self._channels: dict[bytes, _Channel] = {}
        self._ear: Ear | None = None
        self._dialling = asyncio.Lock()
        self.refused = ""
        """What the server said if it does not let us listen."""

    @asynccontextmanager
    async def listening(self, name: str) -> AsyncIterator[Message]:
        """Inside, every message on the channel `name` is heard; gives the future of the next.

        Raises StoreUnavailable, or StoreRefused if the server does not let us listen.
        """
        if self.refused:
            raise StoreRefused(f"the store does not let us listen: {self.refused}")
        key, message = name.encode(), asyncio.get_running_loop().create_future()
        ear, channel = await self._connected(), self._channels.get(key)
        if channel is None:
            channel = self._channels[key] = _Channel()
            ear.send([pack((b"SUBSCRIBE", key))], [])
        channel.listeners.add(message)
        try:
            await self._confirmation(ear, channel)
            yield message
        finally:
            channel.listeners.discard(message)
            if not channel.listeners and self._channels.get(key) is channel:
                del self._channels[key]
                ear.send([pack((b"UNSUBSCRIBE", key))], [])

    async def _connected(self) -> Ear:
        async with self._dialling:
            if self._ear is None:
                ear = Ear(self._timeout, self._lost, self._heard)
                try:
                    await self._dial(ear)
                except LOST as error:
                    raise StoreUnavailable(f"no connection to listen on: {error}") from None
                self._ear = ear
            return self._ear

    async def _confirmation(self, ear: Ear, channel: _Channel) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await asyncio.shield(channel.confirmed)
        except TimeoutError:
            ear.lose(f"no answer within {self._timeout:g} s")
        if self.refused:
            raise StoreRefused(f"the store does not let us listen: {self.refused}")
        if self._ear is not ear:
            raise StoreUnavailable("the connection to listen on was lost")

    def _heard(self, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            said = str(reply)
            if said.startswith(FORBIDDEN):
                self.refused = said
            if self._ear is not None:
                self._ear.lose(said)
            return
        kind, channel = reply[0], self._channels.get(reply[1])
        if channel is None:
            return
        if kind == b"subscribe":
            _resolve(channel.confirmed)
        elif kind == b"message":
            for message in channel.listeners:
                _resolve(message)

    def _lost(self, ear: Wire) -> None:
        """Nobody will hear anything any more: let them look for themselves."""
        self._forget(ear)
        if ear is not self._ear:
            return
        self._ear = None
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            _resolve(channel.confirmed)
            for message in channel.listeners:
                _resolve(message)


def _resolve(message: Message) -> None:
    if not message.done():
        message.set_result(None)
