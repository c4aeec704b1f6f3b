"""From a URL to servers: what the URL may say, and how redis-py is told to leave retries to us.

redis-py retries commands by itself by default; a command whose reply was lost would then run twice. Ours never does:
every verb is safe to repeat, and is repeated by the caller who knows whether it should be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry as ClientRetry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from duly.config import masked
from duly.errors import InvalidURL, StoreError, StoreRefused
from duly.stores.redis.wire import Wire

PLAIN = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
SCHEMES = {**PLAIN, "unix": "unix", "redis+unix": "unix"}
SENTINEL = {f"{name}+sentinel": plain for name, plain in PLAIN.items()}
CLUSTER = {f"{name}+cluster": plain for name, plain in PLAIN.items()}
CONNECT_TIMEOUT = 5.0
PATIENCE = 0.5
"""Seconds after which an answer is enough, although most of those who were asked say nothing."""
LOST = (RedisError, OSError, EOFError, TypeError, AttributeError)
"""What a broken transport raises; some CPython releases raise the last two on a write to a reset connection."""

Address = tuple[str, int]
K = TypeVar("K")


class Server(Protocol):
    """Whoever can be dialled: one address, or whichever server is the primary by now."""

    url: str
    """As given, without a password."""

    async def dial(self, protocol: Wire) -> None:
        """Open a connection and hand its transport to `protocol`. Raises what is in LOST, or StoreRefused."""
        ...


class SingleServer:
    """One Redis or Valkey server named by a URL; makes connections, does not share them."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise InvalidURL(f"{masked(url)!r} is not a Redis URL; it begins with one of {', '.join(SCHEMES)}")
        try:
            _ = parts.port
            database = parts.path.strip("/")
            if SCHEMES[parts.scheme] != "unix" and database and not database.isdecimal():
                raise ValueError(f"the database {database!r} is not a number")
            plain = urlunsplit(parts._replace(scheme=SCHEMES[parts.scheme]))
            self._pool: ConnectionPool = ConnectionPool.from_url(
                plain,
                protocol=2,
                retry=ClientRetry(NoBackoff(), 0),
                socket_timeout=None,
                socket_connect_timeout=CONNECT_TIMEOUT,
                driver_info=None,
            )
            self._pool.make_connection()  # type: ignore[no-untyped-call]  # refuses parameters it does not know
        except (ValueError, TypeError) as error:
            raise InvalidURL(f"{masked(url)!r} cannot be used: {error}") from None
        self.url = masked(url)

    async def dial(self, protocol: Wire, *, primary: bool = False) -> None:
        """Open a connection (address, TLS, password, database) and hand its transport to `protocol`.

        Raises what is in LOST, also if it has to be the primary and is not; StoreRefused if the server does not take
        the user, the password or the database. redis-py's own reader and writer are put aside until `hang_up`.
        """
        connection = await self._connection()
        try:
            if primary:
                role = (await _answers(connection, [("ROLE",)]))[0][0].decode()
                if role != "master":
                    raise ConnectionError(f"{self.url} is a {role} and not the primary")
            writer = connection._writer
            assert writer is not None
        except BaseException as error:
            _drop(connection)
            raise self._refusal(error) or error from None
        protocol.keep = connection
        protocol.connection_made(writer.transport)
        writer.transport.set_protocol(protocol)

    async def ask(self, *commands: Sequence[str]) -> list[Any]:
        """The answers to some commands, over a connection of their own. Raises as `dial` does."""
        connection = await self._connection()
        try:
            return await _answers(connection, commands)
        except ResponseError as error:
            raise StoreRefused(f"{self.url} said: {error}") from None
        finally:
            _drop(connection)

    async def _connection(self) -> AbstractConnection:
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException as error:
            await connection.disconnect(nowait=True)
            raise self._refusal(error) or error from None
        return connection

    def _refusal(self, error: BaseException) -> StoreRefused | None:
        """A wrong password, a user without rights, a database that is not there: no use to try again."""
        if isinstance(error, (AuthenticationError, ResponseError)):
            return StoreRefused(f"{self.url} refused the connection: {error}; see to user, password and database")
        return None


async def _answers(connection: AbstractConnection, commands: Sequence[Sequence[str]]) -> list[Any]:
    for words in commands:
        await connection.send_command(*words)
    return [await connection.read_response() for _ in commands]


def _drop(connection: AbstractConnection) -> None:
    """Close a connection at once, TLS or not."""
    if connection._writer is not None:
        connection._writer.transport.abort()
    _forget(connection)


def _forget(connection: AbstractConnection) -> None:
    connection._writer = connection._reader = None
    connection._parser.on_disconnect()  # type: ignore[no-untyped-call]


def hang_up(protocol: Wire) -> None:
    """Let redis-py forget a connection whose transport is closed already."""
    connection, protocol.keep = protocol.keep, None
    if connection is not None:
        _forget(connection)


class Hosts:
    """A URL with several addresses, all reached with the same user, password, database and options.

    port: for addresses without one. apart: options in the query that are not for the servers; they are in `own`.
    """

    def __init__(self, url: str, port: int, apart: Sequence[str] = ()) -> None:
        self.url = masked(url)
        self._parts = parts = urlsplit(url)
        self._scheme = {**SENTINEL, **CLUSTER}[parts.scheme]
        self._login, _, hosts = parts.netloc.rpartition("@")
        self.addresses = [self._address(host, port) for host in hosts.split(",")]
        self.path = [part for part in parts.path.split("/") if part]
        options = parse_qsl(parts.query, keep_blank_values=True)
        self.own = {name: value for name, value in options if name in apart}
        self._query = urlencode([(name, value) for name, value in options if name not in apart])

    def _address(self, text: str, port: int) -> Address:
        parts = urlsplit(f"//{text}")
        try:
            host, given = parts.hostname, parts.port
        except ValueError as error:
            raise self.invalid(f"{text!r} is not an address: {error}") from None
        if not host:
            raise self.invalid(f"{text!r} names no host; give them as host:port,host:port")
        return host, given or port

    def invalid(self, why: str) -> InvalidURL:
        """The error about this URL."""
        return InvalidURL(f"{self.url!r} cannot be used: {why}")

    def server(self, address: Address, database: str = "", login: str | None = None) -> SingleServer:
        """One of them. login: `user:password` as in a URL; None for that of all."""
        host, port = address
        login = self._login if login is None else login
        netloc = (f"{login}@" if login else "") + (f"[{host}]" if ":" in host else host) + f":{port}"
        return SingleServer(urlunsplit(SplitResult(self._scheme, netloc, database, self._query, "")))


async def survey(servers: Mapping[K, SingleServer], *commands: Sequence[str]) -> dict[K, list[Any]]:
    """Ask all at once; the answers of most of them, or of those who answer before PATIENCE is at its end.

    If nobody answers, raises what somebody said or met: StoreRefused, or what is in LOST.
    """
    asked = {asyncio.ensure_future(server.ask(*commands)): name for name, server in servers.items()}
    waiting = set(asked)
    patience: float | None = PATIENCE
    answers: dict[K, list[Any]] = {}
    faults: list[BaseException] = []
    try:
        while waiting and len(answers) * 2 <= len(servers) and not (answers and patience is None):
            done, waiting = await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            patience = patience if done else None
            for task in done:
                fault = task.exception()
                if fault is None:
                    answers[asked[task]] = task.result()
                else:
                    faults.append(fault)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    if not answers:
        raise next((fault for fault in faults if isinstance(fault, StoreError)), faults[0])
    return answers
