"""How a run ended, before anything is decided or written; and the exceptions by which a handler says so."""

from __future__ import annotations

import enum
from datetime import timedelta
from typing import Any

import msgspec

from duly.core.job import duration


class Ending(enum.Enum):
    """Every way in which a node can be done with a claimed job."""

    RETURNED = "returned"
    RAISED = "raised"
    RETRY_IN = "retry in"
    SNOOZED = "snoozed"
    DISCARDED = "discarded"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    CANCELLED = "cancelled"
    HANDED_BACK = "handed back"
    INTERRUPTED = "interrupted"
    CRASHED = "crashed"
    DIED = "died"
    LOST = "lost"
    EXPIRED = "expired"
    ISOLATED = "isolated"
    UNFIT = "unfit"
    MISFIT = "misfit"


class Outcome(msgspec.Struct, frozen=True):
    """One ending with its particulars.

    value: what the handler returned. seconds: for RETRY_IN, SNOOZED, HANDED_BACK and ISOLATED.
    reason: one line. error: type and message. trace: the traceback, bounded.
    """

    ending: Ending
    value: Any = None
    seconds: float = 0.0
    reason: str = ""
    error: str = ""
    trace: str = ""


RETURNED_NONE = Outcome(Ending.RETURNED)


class ChildFailed(Exception):
    """How a run in a child process ended, where it neither returned nor raised a HandlerSignal.

    What middleware around such a handler catches: the exception itself stays in the child.
    """

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(outcome.reason)


class HandlerSignal(Exception):
    """Raised by a handler to say how its run ended; not an error of duly."""


class RetryIn(HandlerSignal):
    """Run this job again after `seconds` (a number or a timedelta); counts as a failure. Raises InvalidOption."""

    def __init__(self, seconds: float | timedelta, why: str = "") -> None:
        self.seconds, self.why = duration("seconds", seconds), why
        super().__init__(why or f"retry in {seconds} s")


class Snooze(HandlerSignal):
    """Run this job again after `seconds` (a number or a timedelta); does not count. Raises InvalidOption."""

    def __init__(self, seconds: float | timedelta, why: str = "") -> None:
        self.seconds, self.why = duration("seconds", seconds), why
        super().__init__(why or f"snooze {seconds} s")


class Discard(HandlerSignal):
    """End this job: it is not needed any more. Not a failure, not a result."""

    def __init__(self, why: str = "") -> None:
        self.why = why
        super().__init__(why or "discarded")


class Fail(HandlerSignal):
    """This job is dead: no more retries."""

    def __init__(self, why: str = "") -> None:
        self.why = why
        super().__init__(why or "failed")
