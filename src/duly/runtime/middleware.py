"""Functions around every handler, the first one outermost."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from duly.runtime.context import Context

Next = Callable[[], Awaitable[Any]]
Middleware = Callable[[Context, Next], Awaitable[Any]]
"""`async def middleware(ctx, call_next)`: what it returns or raises is what the run returns or raises."""


async def call_through(middleware: Sequence[Middleware], context: Context, handler: Next) -> Any:
    """Call the handler through all of them."""
    step = handler
    for one in reversed(middleware):
        step = functools.partial(one, context, step)
    return await step()
