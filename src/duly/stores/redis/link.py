"""The narrow seam to a server: `call(script, keys, args)` and `pop(key, seconds)`.

Calls made in one turn of the event loop travel in one write and are answered in order: that is how settle and the next
claim share a round trip. Calls go through one connection, as the server takes one at a time anyway; blocking pops have
connections of their own. A caller who goes away disturbs nobody; a connection on which anything went wrong is given up.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import hiredis

from duly.errors import StaleMap, StoreError, StoreFull, StoreRefused, StoreUnavailable, StoreUncertain
from duly.stores.redis.listener import Listener, Message
from duly.stores.redis.replicas import Replicas
from duly.stores.redis.scripts import Script
from duly.stores.redis.topology import LOST, Server, hang_up
from duly.stores.redis.wire import ConnectionLost, Wire, pack

CALL_TIMEOUT = 5.0
LEAST_DIAL = 1.0
"""What dialling gets at least: several round trips with TLS and a password."""
UNTOLD = "-"
"""Who answers, where both are kept from us, or INFO is forbidden."""
POP_TIMEOUT = 120.0
"""Longer than any wait for a token; a pop has a time-out of its own."""
REFUSALS = ("MISCONF", "DULY", "NOAUTH", "NOPERM")
"""Nothing was applied, and nothing will be until somebody does something."""
NOT_READY = ("TRYAGAIN", "BUSY", "NOREPLICAS")
"""Nothing was applied; it passes."""
NOT_THE_SERVER = ("READONLY", "LOADING", "MASTERDOWN", "UNBLOCKED", "CLUSTERDOWN")
"""It passes too, but perhaps elsewhere: behind the same address there may be another server by now."""
ELSEWHERE = ("MOVED", "ASK")
"""What a node of a cluster says of a slot that it does not serve."""
MOST_TRIES = 5
"""How often a call that was not applied is sent again before it fails."""
IDENTITIES = ((b"server", b"run_id"), (b"replication", b"master_replid"))
"""Sections and fields of INFO that tell one server from another."""


class Call(NamedTuple):
    """A command on its way. tries: how often it was sent again. asking: the server serves its slot only if asked."""

    packed: bytes
    answer: asyncio.Future[Any]
    script: Script | None = None
    tries: int = 0
    asking: bool = False

    def steps(self) -> list[Call]:
        """The commands that make this one: itself, and what has to be right before it."""
        return [unheard(b"ASKING"), self] if self.asking else [self]


def unheard(*words: Any) -> Call:
    """A command whose answer nobody wants."""
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    answer.cancel()
    return Call(pack(words), answer)


def explain(error: Exception | str) -> StoreError:
    """The server's refusal in our words."""
    text = str(error)
    if "OOM " in text and "maxmemory" in text:
        return StoreFull("the store has reached its maxmemory and takes no new data; give it more, or remove jobs")
    if text.startswith((*NOT_READY, *NOT_THE_SERVER)):
        return StoreUnavailable(f"the store is not ready: {text}")
    if text.startswith(ELSEWHERE):
        return StoreRefused(f"the store is a node of a cluster ({text}): begin the URL with redis+cluster://")
    if text.startswith("DULYMAP"):
        return StaleMap(f"the store refused: {text}")
    if text.startswith(REFUSALS):
        return StoreRefused(f"the store refused: {text}")
    return StoreError(f"the store failed: {text}")


class Link:
    """Connections to one server, for one event loop."""

    server_id = ""
    """Which server process answers calls: its run id, or its replication id where that is kept from us, or UNTOLD. Empty
    while there is no connection: what is sent then may be heard by another one."""

    def __init__(self, server: Server, timeout: float = CALL_TIMEOUT) -> None:
        self.server, self.timeout = server, timeout
        self._waiting: list[Call] = []
        self._scheduled = self._closed = False
        self._wire: Wire | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._open: set[Wire] = set()
        self._poppers: list[Wire] = []
        self._listener = Listener(self._open_wire, self._forget, timeout)
        self._replicas = Replicas(self._dial_identified, server.url)

    def call(self, script: Script, keys: Sequence[str], args: Iterable[Any]) -> asyncio.Future[Any]:
        """Run a script. Raises StoreUnavailable (not sent), StoreUncertain (sent, no answer), StoreRefused."""
        return self._submit(pack((b"EVALSHA", script.digest, len(keys), *keys, *args)), script)

    def command(self, *words: Any) -> asyncio.Future[Any]:
        """Run a plain command."""
        return self._submit(pack(words), None)

    @property
    def connected(self) -> bool:
        """Whether there is a connection for calls by now."""
        return self._wire is not None

    def server_id_of(self, key: str) -> str:
        """The `server_id` of whoever serves a key."""
        return self.server_id

    def _submit(self, packed: bytes, script: Script | None) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        if self._closed:
            answer.set_exception(StoreUnavailable(f"the connection to {self.server.url} is closed"))
            return answer
        self._waiting.append(Call(packed, answer, script))
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self.flush)
        return answer

    def forward(self, call: Call) -> None:
        """Send what was submitted elsewhere, with the calls of this turn of the loop."""
        if self._closed:
            _fail([call], StoreUnavailable(f"the connection to {self.server.url} is closed"))
            return
        self._waiting += call.steps()
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.flush)

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

    def _send(self, wire: Wire, calls: list[Call]) -> None:
        wire.send([call.packed for call in calls], [functools.partial(self._replied, wire, call) for call in calls])

    def _replied(self, wire: Wire, call: Call, value: Any) -> None:
        if call.answer.done():
            return  # the caller went away
        if isinstance(value, ConnectionLost):
            call.answer.set_exception(StoreUncertain(f"{self.server.url} did not answer: {value}"))
        elif not isinstance(value, hiredis.ReplyError):
            call.answer.set_result(value)
        else:
            self._refused(wire, call, str(value))

    def _refused(self, wire: Wire, call: Call, said: str) -> None:
        """The server did not apply a call."""
        if call.script is not None and said.startswith("NOSCRIPT") and wire in self._open and call.tries < MOST_TRIES:
            # The server forgot its scripts (a restart): load, and run again what was not applied.
            again = call._replace(tries=call.tries + 1)
            self._send(wire, [unheard(b"SCRIPT", b"LOAD", call.script.text), *again.steps()])
            return
        call.answer.set_exception(self._explain(said))
        if said.startswith(NOT_THE_SERVER):
            wire.lose(f"the server said {said}")

    def _explain(self, said: str) -> StoreError:
        return explain(said)

    async def _dial(self) -> None:
        """Open the connection for calls. Every call that waits for it is sent, or fails."""
        fault: Exception | None = None
        try:
            wire = await self._connect()
            self.server_id = await self._identify(wire)
            self._wire = wire
        except (*LOST, ConnectionLost, StoreError) as error:
            fault = error
        finally:
            self._dialling = None
            calls, self._waiting = self._waiting, []
            if self._wire is not None:
                self._send(self._wire, calls)
            elif isinstance(fault, StoreRefused):
                _fail(calls, fault)
            else:
                _fail(calls, StoreUnavailable(f"no connection to {self.server.url}: {reason(fault)}"))
                self._abandon("there is no connection for calls")

    async def _identify(self, wire: Wire) -> str:
        for section, name in IDENTITIES:
            info = await wire.ask(b"INFO", section)
            if isinstance(info, hiredis.ReplyError):
                if str(info).startswith("NOPERM"):
                    return UNTOLD
                wire.lose(f"the server said {info}")
                raise explain(info)
            found = re.search(rb"^%s:(\S+)" % name, info, re.MULTILINE)
            if found and found[1].strip(b"0"):  # of some managed servers it is kept from us
                return found[1].decode()
        return UNTOLD

    def trouble(self) -> None:
        """The connection for calls was lost, or there is none."""

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

    async def replicated(self, key: str, count: int) -> str:
        """See `Replicas.confirm`."""
        return await self._replicas.confirm(key, count)

    async def _dial_identified(self) -> tuple[Wire, str]:
        wire = await self._connect()
        return wire, await self._identify(wire)

    def _forget(self, wire: Wire) -> None:
        """A connection was given up."""
        self._open.discard(wire)
        hang_up(wire)
        if wire in self._poppers:
            self._poppers.remove(wire)
        if self._wire is wire:
            self._wire, self.server_id = None, ""
            self._abandon("the connection for calls was lost")

    def _abandon(self, why: str) -> None:
        """Who waits on a server that is not there any more shall look elsewhere."""
        for wire in list(self._open):
            wire.lose(why)
        self.trouble()

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
            if isinstance(error, (*LOST, ConnectionLost)):
                self.trouble()
                raise StoreUnavailable(f"the wait on {self.server.url} broke: {reason(error)}") from None
            raise
        if isinstance(found, hiredis.ReplyError):  # a replica by now, say: what is behind the address may be another
            wire.lose(str(found))
            raise self._explain(str(found))
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
        _fail(self._waiting, StoreUnavailable("the connection was closed"))
        self._waiting = []
        for wire in list(self._open):
            wire.lose("the connection was closed")


def _receive(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _fail(calls: Iterable[Call], error: StoreError) -> None:
    for call in calls:
        if not call.answer.done():
            call.answer.set_exception(type(error)(str(error)))


def reason(error: BaseException | None) -> str:
    """One clause about a broken connection."""
    if isinstance(error, TimeoutError):
        return "it took too long"
    return f"{type(error).__name__}: {error}" if error is not None and str(error) else type(error).__name__
