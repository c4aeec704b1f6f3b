"""How many runs end while claims travel: so many jobs a line claims beyond the free slots, to be there when slots are."""

from __future__ import annotations

from duly.clock import Clock

CLAIMS_AHEAD = 4
"""For so many claims' time on their way there are jobs before there are slots: while one travels, what the last ones brought
runs. With 2 and 3, jobs of 10 ms leave slots empty (docs/decisions/0012)."""
MOST_AHEAD = 1
"""Times the slots: more is never claimed beyond the free ones."""
CALM_SECONDS = 0.05
"""What has ended earlier says nothing of what ends now."""


class Forecast:
    """Of one line, by what has ended between the answers to its claims."""

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic
        self._answered_at = self._monotonic()
        self.ended = 0
        """Runs since the last answer; whoever ends one counts it here."""
        self._expected = 0  # while a claim travels

    def answered(self, travelled: float) -> None:
        """A claim was answered after so many seconds. A sudden silence is not believed at once."""
        now = self._monotonic()
        since, self._answered_at = now - self._answered_at, now
        ended, self.ended = self.ended, 0
        if since > travelled:
            ended = int(ended * travelled / since)
        self._expected = max(ended, self._expected // 2 if since < CALM_SECONDS else 0)

    def failed(self) -> None:
        """What was claimed beyond the free slots has waited for one in vain."""
        self._expected = 0

    def ahead(self, slots: int) -> int:
        """How many jobs may wait for one of so many slots."""
        if not self._expected or self._monotonic() > self._answered_at + CALM_SECONDS:
            return 0
        return min(CLAIMS_AHEAD * self._expected, MOST_AHEAD * slots)
