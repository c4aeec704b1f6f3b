"""The narrow seam to a server: `call(script, keys, args)` and `pop(key, seconds)`.

Calls made in one turn of the event loop travel in one write and come back in one read, in order: that is how settle and
the next claim share a round trip. A caller who goes away does not disturb the exchange; a connection on which anything
went wrong is thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import BusyLoadingError, NoScriptError, OutOfMemoryError, RedisError, ResponseError

from duly.errors import StoreError, StoreFull, StoreRefused, StoreUnavailable, StoreUncertain
from duly.stores.redis.scripts import Script
from duly.stores.redis.topology import SingleServer

MAX_EXCHANGES = 4
"""Exchanges under way at once, each on a connection of its own."""
CALL_TIMEOUT = 5.0
LOST = (RedisError, OSError, EOFError, TypeError, AttributeError)
"""What a broken transport raises; some CPython releases raise the last two on a write to a reset connection."""
REFUSALS = (
    "READONLY",
    "LOADING",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "BUSY",
    "MASTERDOWN",
    "MISCONF",
    "NOREPLICAS",
    "DULY",
    "NOAUTH",
    "NOPERM",
)


def _pack(words: tuple[Any, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(words)
    return packed


class _Call(NamedTuple):
    packed: bytes
    future: asyncio.Future[Any]
    script: Script | None


def explain(error: Exception) -> StoreError:
    """The server's refusal in our words."""
    text = str(error)
    if isinstance(error, OutOfMemoryError) or ("OOM" in text and "maxmemory" in text):
        return StoreFull("the store has reached its maxmemory and takes no new data; give it more, or remove jobs")
    if text.startswith(REFUSALS) or type(error).__name__ in ("ReadOnlyError", "NoPermissionError"):
        return StoreRefused(f"the store refused: {text}")
    return StoreError(f"the store failed: {text}")


class Link:
    """Connections to one server, for one event loop."""

    def __init__(self, server: SingleServer, timeout: float = CALL_TIMEOUT) -> None:
        self.server, self.timeout = server, timeout
        self._waiting: list[_Call] = []
        self._scheduled = False
        self._free: list[AbstractConnection] = []
        self._exchanges: set[asyncio.Task[None]] = set()
        self._poppers: list[AbstractConnection] = []
        self._open: set[AbstractConnection] = set()
        self._closed = False

    def call(self, script: Script, keys: Sequence[str], args: Iterable[Any]) -> asyncio.Future[Any]:
        """Run a script. The future raises StoreUnavailable (not sent), StoreUncertain (sent, no answer), StoreRefused."""
        packed = _pack((b"EVALSHA", script.digest, len(keys), *keys, *args))
        return self._submit(packed, script)

    def command(self, *words: Any) -> asyncio.Future[Any]:
        """Run a plain command."""
        return self._submit(_pack(words), None)

    def _submit(self, packed: bytes, script: Script | None) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if self._closed:
            future.set_exception(StoreUnavailable(f"the connection to {self.server.url} is closed"))
            return future
        self._waiting.append(_Call(packed, future, script))
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._flush)
        return future

    def _flush(self) -> None:
        self._scheduled = False
        if self._waiting and len(self._exchanges) < MAX_EXCHANGES:
            batch, self._waiting = self._waiting, []
            task = asyncio.get_running_loop().create_task(self._exchange(batch))
            self._exchanges.add(task)
            task.add_done_callback(self._exchanged)

    def _exchanged(self, task: asyncio.Task[None]) -> None:
        self._exchanges.discard(task)
        if self._waiting:
            self._flush()

    async def _exchange(self, batch: list[_Call]) -> None:
        """One write, one answer per call. Every future is resolved when this ends, whatever happens."""
        try:
            connection = self._free.pop() if self._free else await self._connect()
        except BaseException as error:
            fault = StoreUnavailable(f"no connection to {self.server.url}: {_reason(error)}")
            _fail(batch, fault if isinstance(error, Exception) else StoreUnavailable("the connection was closed"))
            if not isinstance(error, Exception):
                raise
            return
        answered = 0
        missing: list[_Call] = []
        try:
            async with asyncio.timeout(self.timeout):
                await connection.send_packed_command([call.packed for call in batch], check_health=False)
                for call in batch:
                    try:
                        reply = await connection.read_response()
                    except NoScriptError:
                        missing.append(call)
                    except ResponseError as error:
                        _resolve(call, explain(error))
                    else:
                        _resolve(call, reply)
                    answered += 1
                if missing:
                    await self._load_and_repeat(connection, missing)
                    missing = []
        except BaseException as error:
            await self._drop(connection)
            kind = StoreUnavailable if isinstance(error, BusyLoadingError) else StoreUncertain
            _fail([*missing, *batch[answered:]], kind(f"{self.server.url} did not answer: {_reason(error)}"))
            if not isinstance(error, (*LOST, TimeoutError)):
                raise
        else:
            self._free.append(connection)

    async def _load_and_repeat(self, connection: AbstractConnection, calls: list[_Call]) -> None:
        """The server forgot its scripts (a restart): load them, and run the calls again; none of them was applied."""
        texts = {call.script.text for call in calls if call.script}
        packed = [_pack((b"SCRIPT", b"LOAD", text)) for text in texts]
        await connection.send_packed_command([*packed, *(call.packed for call in calls)], check_health=False)
        for _ in texts:
            await connection.read_response()
        for call in calls:
            try:
                _resolve(call, await connection.read_response())
            except ResponseError as error:
                _resolve(call, explain(error))

    async def pop(self, key: str, seconds: float) -> bool:
        """Take the token from a list, waiting at most `seconds` for it."""
        connection = self._poppers.pop() if self._poppers else None
        try:
            if connection is None:
                connection = await self._connect()
            async with asyncio.timeout(seconds + self.timeout):
                await connection.send_packed_command(_pack((b"BLPOP", key, f"{seconds:.3f}")), check_health=False)
                reply = await connection.read_response()
        except BaseException as error:
            if connection is not None:
                await self._drop(connection)
            if isinstance(error, (*LOST, TimeoutError)):
                raise StoreUnavailable(f"the wait on {self.server.url} broke: {_reason(error)}") from None
            raise
        self._poppers.append(connection)
        return reply is not None

    async def _connect(self) -> AbstractConnection:
        connection = self.server.connection()
        self._open.add(connection)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await self._drop(connection)
            raise
        return connection

    async def _drop(self, connection: AbstractConnection) -> None:
        self._open.discard(connection)
        with contextlib.suppress(*LOST):  # it is broken already
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Let exchanges under way end, then give back every connection."""
        self._closed = True
        while self._exchanges:
            await asyncio.wait(self._exchanges)
        _fail(self._waiting, StoreUnavailable("the connection was closed"))
        self._waiting = []
        for connection in list(self._open):
            await self._drop(connection)
        self._free.clear()
        self._poppers.clear()


def _resolve(call: _Call, reply: Any) -> None:
    if call.future.done():
        return  # the caller went away
    if isinstance(reply, Exception):
        call.future.set_exception(reply)
    else:
        call.future.set_result(reply)


def _fail(calls: Iterable[_Call], error: StoreError) -> None:
    for call in calls:
        if not call.future.done():
            call.future.set_exception(type(error)(str(error)))


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
