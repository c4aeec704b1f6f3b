"""The narrow seam to a server: `call(script, keys, args)` and `pop(key, seconds)`.

Calls made in one turn of the event loop travel in one write and are answered in order: that is how settle and the next
claim share a round trip. Calls go through one connection, as the server takes one at a time anyway; blocking pops have
connections of their own. A caller who goes away disturbs nobody; a connection on which anything went wrong is given up.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import hiredis

from duly.errors import StoreError, StoreFull, StoreRefused, StoreUnavailable, StoreUncertain
from duly.stores.redis.listener import Listener, Message
from duly.stores.redis.scripts import Script
from duly.stores.redis.topology import LOST, SingleServer
from duly.stores.redis.wire import ConnectionLost, Wire, pack

CALL_TIMEOUT = 5.0
LEAST_DIAL = 1.0
"""What dialling gets at least: several round trips with TLS and a password."""
POP_TIMEOUT = 120.0
"""Longer than any wait for a token; a pop has a time-out of its own."""
REFUSALS = ("MISCONF", "DULY", "NOAUTH", "NOPERM")
"""Nothing was applied, and nothing will be until somebody does something."""
NOT_READY = ("CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS")
"""Nothing was applied; it passes."""
NOT_THE_SERVER = ("READONLY", "LOADING", "MASTERDOWN")
"""It passes too, but perhaps elsewhere: behind the same address there may be another server by now."""


class _Call(NamedTuple):
    packed: bytes
    answer: asyncio.Future[Any]
    script: Script | None


def explain(error: Exception) -> StoreError:
    """The server's refusal in our words."""
    text = str(error)
    if "OOM " in text and "maxmemory" in text:
        return StoreFull("the store has reached its maxmemory and takes no new data; give it more, or remove jobs")
    if text.startswith((*NOT_READY, *NOT_THE_SERVER)):
        return StoreUnavailable(f"the store is not ready: {text}")
    if text.startswith(REFUSALS):
        return StoreRefused(f"the store refused: {text}")
    return StoreError(f"the store failed: {text}")


class Link:
    """Connections to one server, for one event loop."""

    def __init__(self, server: SingleServer, timeout: float = CALL_TIMEOUT) -> None:
        self.server, self.timeout = server, timeout
        self._waiting: list[_Call] = []
        self._scheduled = self._closed = False
        self._wire: Wire | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._open: set[Wire] = set()
        self._poppers: list[Wire] = []
        self._listener = Listener(self._open_wire, self._forget, timeout)

    def call(self, script: Script, keys: Sequence[str], args: Iterable[Any]) -> asyncio.Future[Any]:
        """Run a script. Raises StoreUnavailable (not sent), StoreUncertain (sent, no answer), StoreRefused."""
        return self._submit(pack((b"EVALSHA", script.digest, len(keys), *keys, *args)), script)

    def command(self, *words: Any) -> asyncio.Future[Any]:
        """Run a plain command."""
        return self._submit(pack(words), None)

    def _submit(self, packed: bytes, script: Script | None) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        if self._closed:
            answer.set_exception(StoreUnavailable(f"the connection to {self.server.url} is closed"))
            return answer
        self._waiting.append(_Call(packed, answer, script))
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self.flush)
        return answer

    def flush(self) -> None:
        """Send what waits; without a connection, dial first."""
        self._scheduled = False
        if not self._waiting:
            return
        if self._wire is None:
            if self._dialling is None:
                self._dialling = asyncio.get_running_loop().create_task(self._dial())
            return
        calls, self._waiting = self._waiting, []
        self._send(self._wire, calls)

    def _send(self, wire: Wire, calls: list[_Call]) -> None:
        wire.send([call.packed for call in calls], [functools.partial(self._replied, wire, call) for call in calls])

    def _replied(self, wire: Wire, call: _Call, value: Any) -> None:
        if call.answer.done():
            return  # the caller went away
        if isinstance(value, ConnectionLost):
            call.answer.set_exception(StoreUncertain(f"{self.server.url} did not answer: {value}"))
        elif not isinstance(value, hiredis.ReplyError):
            call.answer.set_result(value)
        elif call.script is not None and str(value).startswith("NOSCRIPT") and wire in self._open:
            # The server forgot its scripts (a restart): load, and run again what was not applied.
            load = _Call(pack((b"SCRIPT", b"LOAD", call.script.text)), asyncio.get_running_loop().create_future(), None)
            self._send(wire, [load, call._replace(script=None)])
        else:
            call.answer.set_exception(explain(value))
            if str(value).startswith(NOT_THE_SERVER):
                wire.lose(f"the server said {value}")

    async def _dial(self) -> None:
        """Open the connection for calls. Every call that waits for it is sent, or fails."""
        fault: Exception | None = None
        try:
            self._wire = await self._connect()
        except LOST as error:
            fault = error
        finally:
            self._dialling = None
            calls, self._waiting = self._waiting, []
            if self._wire is not None:
                self._send(self._wire, calls)
            else:
                _fail(calls, f"no connection to {self.server.url}: {reason(fault)}")

    async def _connect(self, timeout: float | None = None) -> Wire:
        wire = Wire(timeout or self.timeout, self._forget)
        await self._open_wire(wire)
        return wire

    async def _open_wire(self, wire: Wire) -> None:
        self._require_open()
        async with asyncio.timeout(max(self.timeout, LEAST_DIAL)):
            await self.server.dial(wire)
        self._open.add(wire)
        if self._closed:
            wire.lose("the connection was closed")
            self._require_open()

    def _require_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"the connection to {self.server.url} is closed")

    def listening(self, channel: str) -> AbstractAsyncContextManager[Message]:
        """See `Listener.listening`."""
        return self._listener.listening(channel)

    def _forget(self, wire: Wire) -> None:
        """A connection was given up."""
        self._open.discard(wire)
        self.server.hang_up(wire)
        if self._wire is wire:
            self._wire = None
        if wire in self._poppers:
            self._poppers.remove(wire)

    async def pop(self, key: str, seconds: float) -> bool:
        """Take the token from a list, waiting at most `seconds` for it. Raises StoreUnavailable if the wait broke."""
        wire = self._poppers.pop() if self._poppers else None
        try:
            if wire is None:
                wire = await self._connect(POP_TIMEOUT)
            reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(seconds + self.timeout):
                wire.send([pack((b"BLPOP", key, f"{seconds:.3f}"))], [functools.partial(_receive, reply)])
                found = await reply
            if isinstance(found, ConnectionLost):
                raise found
        except BaseException as error:
            if wire is not None:
                wire.lose("the wait was ended")
            if isinstance(error, (*LOST, ConnectionLost, TimeoutError)):
                raise StoreUnavailable(f"the wait on {self.server.url} broke: {reason(error)}") from None
            raise
        if isinstance(found, hiredis.ReplyError):  # a replica by now, say: what is behind the address may be another
            wire.lose(str(found))
            raise explain(found)
        self._poppers.append(wire)
        return found is not None

    async def close(self) -> None:
        """Let calls under way be answered, then give back every connection."""
        while self._dialling is not None:
            await asyncio.wait([self._dialling])
        self.flush()
        self._closed = True
        if self._wire is not None:
            await self._wire.settled()
        _fail(self._waiting, "the connection was closed")
        self._waiting = []
        for wire in list(self._open):
            wire.lose("the connection was closed")


def _receive(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _fail(calls: Iterable[_Call], why: str) -> None:
    for call in calls:
        if not call.answer.done():
            call.answer.set_exception(StoreUnavailable(why))


def reason(error: BaseException | None) -> str:
    """One clause about a broken connection."""
    if isinstance(error, TimeoutError):
        return "it took too long"
    return f"{type(error).__name__}: {error}" if error is not None and str(error) else type(error).__name__
