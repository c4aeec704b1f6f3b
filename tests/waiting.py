"""Waiting for facts: a test says what must become true and within how long, and never sleeps for luck."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
LOOK_EVERY = 0.005  # seconds between two looks


async def eventually(predicate: Callable[[], T | Awaitable[T]], seconds: float = 10.0) -> T:
    """What `predicate` (plain or async) says once it is true; fails when that takes longer than `seconds`."""
    until = time.monotonic() + seconds
    while True:
        found = predicate()
        value: T = await found if inspect.isawaitable(found) else found
        if value:
            return value
        if time.monotonic() > until:
            source = inspect.getsource(predicate).strip() if inspect.isfunction(predicate) else repr(predicate)
            raise AssertionError(f"not true within {seconds:g} s, last seen as {value!r}: {source}")
        await asyncio.sleep(LOOK_EVERY)
