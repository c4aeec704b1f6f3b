"""Where state lives: one contract (`base`), its implementations, and the way from a URL to a store."""

from __future__ import annotations

from duly.clock import SYSTEM_CLOCK, Clock
from duly.config import masked
from duly.errors import ConfigurationError, InvalidURL
from duly.stores.base import Limits, Store

_SERVERS = tuple(
    name + kind for name in ("redis", "rediss", "valkey", "valkeys") for kind in ("", "+sentinel", "+cluster")
)
SCHEMES = ("memory://", "sqlite://", *(f"{name}://" for name in (*_SERVERS, "unix", "redis+unix")))


def open_store(url: str, namespace: str = "duly", limits: Limits | None = None, clock: Clock | None = None) -> Store:
    """The store that a URL names, not yet connected. Raises InvalidURL, or ConfigurationError if an extra is missing."""
    if not isinstance(url, str):
        raise InvalidURL(f"{url!r} is not a URL; give one such as redis://localhost:6379/0")
    scheme = url.partition("://")[0]
    if limits is not None and limits.replicas and scheme in ("memory", "sqlite"):
        raise ConfigurationError(f"durability='replicated': {masked(url)} has no replicas; it is for Redis and Valkey")
    if scheme == "memory":
        from duly.stores.memory import open_memory

        return open_memory(url, limits or Limits(), clock or SYSTEM_CLOCK)
    if scheme == "sqlite":
        from duly.stores.sqlite.store import SqliteStore

        return SqliteStore(url, namespace, limits, clock)
    if f"{scheme}://" in SCHEMES and "://" in url:
        try:
            from duly.stores.redis.store import RedisStore
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("redis", "hiredis"):
                raise
            raise ConfigurationError("the Redis store needs redis-py and hiredis: pip install 'duly[redis]'") from error

        return RedisStore(url, namespace, limits, clock)
    raise InvalidURL(
        f"{masked(url)!r} names no store; a URL begins with memory://, sqlite:///, unix://, redis://, redis+sentinel:// or "
        "redis+cluster:// (with TLS rediss, rediss+sentinel, rediss+cluster; or valkey, valkeys in their place)"
    )
