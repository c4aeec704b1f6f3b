"""A name that ticks, and the function behind it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from duly.core.trigger import Trigger
from duly.errors import InvalidOption


class Tick(NamedTuple):
    """What a function that takes an argument is given. nominal: when it was due, in epoch seconds."""

    name: str
    nominal: float


@dataclass(eq=False)
class CronJob:
    """A name and what is known of its ticks, in ms. mark: the last that was taken; doubt: one whose claim was not answered."""

    name: str
    trigger: Trigger
    run: Callable[[Tick, int], Awaitable[None]]
    mark: int
    doubt: int | None = None
    runs: set[asyncio.Task[None]] = field(default_factory=set)

    def latest(self, now: int) -> int | None:
        """The last moment that is due and was not taken, as far as is known here."""
        moment = self.trigger.before(now + 1, 0)
        return moment if moment is not None and moment > self.mark else None


def takes_argument(fn: Callable[..., Any]) -> bool:
    """Whether a function can be given the tick. Raises InvalidOption if it needs more."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # written in C: without one
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(needed) > 1 or any(p.kind is p.KEYWORD_ONLY for p in needed):
        raise InvalidOption(f"{fn!r} needs {len(needed)} arguments: a job is given its Tick, or nothing")
    return bool(needed) or (bool(positional) and positional[0].name == "tick")
