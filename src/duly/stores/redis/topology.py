"""From a URL to connections: what the URL may say, and how redis-py is told to leave retries to us.

redis-py retries commands by itself by default; a command whose reply was lost would then run twice. Ours never does:
every verb is safe to repeat, and is repeated by the caller who knows whether it should be.
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry as ClientRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from duly.config import masked
from duly.errors import InvalidURL
from duly.stores.redis.wire import Wire

SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "unix": "unix",
    "redis+unix": "unix",
}
CONNECT_TIMEOUT = 5.0
LOST = (RedisError, OSError, EOFError, TypeError, AttributeError)
"""What a broken transport raises; some CPython releases raise the last two on a write to a reset connection."""


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

    async def dial(self, protocol: Wire) -> None:
        """Open a connection (address, TLS, password, database) and hand its transport to `protocol`.

        Raises what is in LOST. redis-py's own reader and writer are put aside until `hang_up`.
        """
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            writer = connection._writer
            assert writer is not None
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        protocol.keep = connection
        protocol.connection_made(writer.transport)
        writer.transport.set_protocol(protocol)

    @staticmethod
    def hang_up(protocol: Wire) -> None:
        """Let redis-py forget a connection whose transport is closed already."""
        connection, protocol.keep = protocol.keep, None
        if connection is not None:
            connection._writer = connection._reader = None
            connection._parser.on_disconnect()
