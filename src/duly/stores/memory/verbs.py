"""What the verbs of a memory shard have in common: the state, the lock, the clock, the limits."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from duly.errors import StoreUnavailable
from duly.stores.base import Limits

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from duly.clock import Clock
    from duly.stores.memory.state import ShardState


class Connection:
    """One store object's way to state that it may share with others."""

    def __init__(self, url: str, limits: Limits, clock: Clock, lock: threading.Lock) -> None:
        self.url, self.limits, self.clock, self.lock = url, limits, clock, lock
        self.is_open = False

    @contextmanager
    def step(self) -> Iterator[int]:
        """One atomic step: nobody else reads or writes meanwhile. Gives the store's time in microseconds."""
        if not self.is_open:
            raise StoreUnavailable(f"{self.url} is not connected: await store.connect() first")
        with self.lock:
            yield self.clock.epoch_us()


class Verbs:
    """A shard's state, seen through a connection."""

    def __init__(self, queue: str, state: ShardState, connection: Connection) -> None:
        self.queue = queue
        self._state, self._connection = state, connection

    @contextmanager
    def _step(self) -> Iterator[int]:
        """As `Connection.step`, but gives the time in ms."""
        with self._connection.step() as now_us:
            yield now_us // 1000

    @property
    def _limits(self) -> Limits:
        return self._connection.limits
