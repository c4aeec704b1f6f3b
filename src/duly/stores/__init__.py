"""Where state lives: one contract (`base`), its implementations, and the way from a URL to a store."""

from __future__ import annotations

import re

from duly.clock import SYSTEM_CLOCK, Clock
from duly.errors import InvalidURL
from duly.stores.base import Limits, Store

SCHEMES = ("memory://", "redis://", "rediss://", "valkey://", "valkeys://", "unix://")


def open_store(url: str, namespace: str = "duly", limits: Limits | None = None, clock: Clock | None = None) -> Store:
    """The store that a URL names, not yet connected. Raises InvalidURL, or ConfigurationError if an extra is missing."""
    if not isinstance(url, str):
        raise InvalidURL(f"{url!r} is not a URL; give one such as redis://localhost:6379/0")
    scheme = url.partition("://")[0]
    if scheme == "memory":
        from duly.stores.memory import open_memory

        return open_memory(url, limits or Limits(), clock or SYSTEM_CLOCK)
    if f"{scheme}://" in SCHEMES and "://" in url:
        from duly.stores.redis.store import RedisStore

        return RedisStore(url, namespace, limits, clock)
    shown = re.sub(r"//[^/@]*@", "//…@", url)  # without user and password
    raise InvalidURL(f"{shown!r} names no store; a URL begins with one of {', '.join(SCHEMES)}")
