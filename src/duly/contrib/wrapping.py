"""Something of a framework around each run of a handler, where the handler runs: in its thread, or its child process.

A scheduler's middleware runs in the event loop, which is the wrong place for what belongs to a thread, such as a database
connection. Only runs are wrapped: who calls a task as a function gets the function as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from duly.runtime.context import current
from duly.runtime.handler import Handler
from duly.runtime.locate import find
from duly.scheduler import Scheduler

Run = Callable[[], Any]
AsyncRun = Callable[[], Awaitable[Any]]


def wrap_handlers(
    scheduler: Scheduler,
    around: Callable[[Run], Any],
    around_async: Callable[[AsyncRun], Awaitable[Any]],
    target: Callable[[Handler], str] | None = None,
) -> None:
    """Run each handler of the scheduler through `around`, or `around_async` if it is async: they are given the call, make
    it, and return what it returned. Also handlers that are declared later.

    target: where a child process finds a handler with `executor="process"`, if not under its own name. One that is found
    there as a plain function, not as a task (`bind` does that), runs in the child as it is.
    """

    def prepare(handler: Handler) -> None:
        if not (handler.in_process and _is_plain_there(handler)):
            handler.fn = _wrapped(handler, around, around_async)
        if handler.in_process and target is not None:
            handler.target = target(handler)

    scheduler.prepare_handlers(prepare)


def _wrapped(
    handler: Handler, around: Callable[[Run], Any], around_async: Callable[[AsyncRun], Awaitable[Any]]
) -> Callable[..., Any]:
    fn = handler.fn
    if handler.is_async:

        @functools.wraps(fn)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            call = functools.partial(fn, *args, **kwargs)
            return await (around_async(call) if _is_in_run() else call())

        return call_async

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        call = functools.partial(fn, *args, **kwargs)
        return around(call) if _is_in_run() else call()

    return call


def _is_in_run() -> bool:
    try:
        current()
    except LookupError:
        return False
    return True


def _is_plain_there(handler: Handler) -> bool:
    """A decorator has not put its task there yet when it declares it; what is there already stays a function."""
    try:
        return find(handler.target) is handler.fn
    except (ImportError, AttributeError):
        return False
