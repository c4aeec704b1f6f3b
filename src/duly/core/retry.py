"""When a failed run is tried again: a value that turns (attempts so far, a random number) into a delay."""

from __future__ import annotations

import math

import msgspec

from duly.errors import InvalidOption


class Retry(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A retry policy.

    limit: retries after the first run; None for no end.
    delay: seconds before the first retry.
    backoff: factor by which the delay grows with each further retry (1.0: it stays).
    max_delay: seconds the delay never exceeds, before jitter.
    jitter: share of the delay added at random, 0 to 1, so that a herd spreads out.
    on_false: a handler that returns `False` counts as failed.
    """

    limit: int | None = 3
    delay: float = 5.0
    backoff: float = 1.0
    max_delay: float = 3600.0
    jitter: float = 0.1
    on_false: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None and (
            isinstance(self.limit, bool) or not isinstance(self.limit, int) or self.limit < 0
        ):
            raise InvalidOption(
                f"Retry(limit={self.limit!r}): give a whole number of retries from 0, or None for no end"
            )
        for name, least, most in (("delay", 0, 1e9), ("backoff", 1, 1e3), ("max_delay", 0, 1e9), ("jitter", 0, 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise InvalidOption(f"Retry({name}={value!r}): give a number from {least} to {most:g}")

    def allows(self, failures: int) -> bool:
        """Whether a job that has now failed `failures` times runs again."""
        return self.limit is None or failures <= self.limit

    def delay_ms(self, failures: int, roll: float) -> int:
        """Milliseconds until the run after the `failures`-th failure (from 1); `roll` is chance in [0, 1).

        delay * backoff^(failures - 1), at most max_delay, plus up to `jitter` of itself (so never earlier than said).
        """
        try:
            seconds = min(self.max_delay, self.delay * float(self.backoff) ** (failures - 1))
        except OverflowError:
            seconds = self.max_delay if self.delay else 0.0
        return math.ceil(seconds * (1 + self.jitter * roll) * 1000)


DEFAULT_RETRY = Retry()
NO_RETRY = Retry(limit=0)
