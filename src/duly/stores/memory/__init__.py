"""The memory store: `memory://` is private to who opens it, `memory://NAME` is shared by all of this process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from duly.clock import SYSTEM_CLOCK, Clock
from duly.errors import ConfigurationError, InvalidURL
from duly.stores.memory.store import LIMITS, Memory, MemoryStore

if TYPE_CHECKING:
    from duly.stores.base import Limits

__all__ = ["MemoryStore", "open_memory"]

SCHEME = "memory://"

_named: dict[str, Memory] = {}
_named_lock = threading.Lock()


def open_memory(url: str = SCHEME, limits: Limits = LIMITS, clock: Clock = SYSTEM_CLOCK) -> MemoryStore:
    """An unconnected store. What a named one keeps, stays until the process ends, also while nobody has it open.

    Raises InvalidURL for another scheme, ConfigurationError for a name that is in use with another clock.
    """
    if not url.startswith(SCHEME):
        raise InvalidURL(f"{url!r} is no memory store: write memory:// or memory://NAME")
    name = url.removeprefix(SCHEME)
    if not name:
        return MemoryStore(limits, clock, url)
    with _named_lock:
        memory = _named.setdefault(name, Memory(clock))
    if memory.clock is not clock:
        raise ConfigurationError(f"{url} is in use with another clock: take another name")
    return MemoryStore(limits, clock, url, memory)
