"""The only module that reads clocks: monotonic seconds for durations, epoch milliseconds for moments.

The store's clock decides (DESIGN §2.7). A node reads its own wall clock for display only.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where durations and, for stores that live in this process, moments come from."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    def epoch_us(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)  # itself, not a function around it: it is read for each job

    @staticmethod
    def epoch_us() -> int:
        return time.time_ns() // 1_000


SYSTEM_CLOCK = SystemClock()
