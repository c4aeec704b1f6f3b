"""A clock that moves only when it is told to: years of schedules, the end of a lease, in no time."""

from __future__ import annotations

import threading

from duly.errors import ConfigurationError

START_US = 1_750_000_000_000_000
"""2025-06-15 15:06:40 UTC."""


class ManualClock:
    """A `duly.clock.Clock` for tests; may be read and moved from any thread."""

    def __init__(self, start_us: int = START_US) -> None:
        self._lock = threading.Lock()
        self._epoch_us = start_us
        self._elapsed_us = 0

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed_us / 1e6

    def epoch_us(self) -> int:
        """The wall clock, in microseconds since 1970."""
        return self._epoch_us

    def advance(self, seconds: float) -> None:
        """Let time pass. Raises ConfigurationError if `seconds` is negative: only clocks go back (`shift`)."""
        if seconds < 0:
            raise ConfigurationError(f"advance({seconds!r}): only clocks go back: use shift()")
        with self._lock:
            us = round(seconds * 1e6)
            self._elapsed_us += us
            self._epoch_us += us

    def shift(self, seconds: float) -> None:
        """Turn the wall clock alone, forwards or back, as an administrator or NTP does."""
        with self._lock:
            self._epoch_us += round(seconds * 1e6)
