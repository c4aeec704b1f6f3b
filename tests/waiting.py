"""Waiting for facts, with a bound."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable


async def eventually(predicate: Callable[[], bool | Awaitable[bool]], seconds: float = 10) -> None:
    """Return once the predicate is true; fail if it is not within `seconds`."""
    until = time.monotonic() + seconds
    while True:
        answer = predicate()
        if await answer if inspect.isawaitable(answer) else answer:
            return
        if time.monotonic() > until:
            raise AssertionError(f"not true within {seconds:g} s: {getattr(predicate, '__name__', predicate)}")
        await asyncio.sleep(0.005)
