"""Events of this process on their way to those who listen."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

from duly.core.events import NAMES, Event, known, matches
from duly.errors import InvalidOption, nearest

Listener = Callable[[Event], Any]


class Emitter:
    """Calls listeners in the order they came; a listener's error is logged and disturbs nobody."""

    def __init__(self, logger: logging.Logger) -> None:
        self.logger = logger
        self.listeners: list[tuple[str, Listener]] = []
        self._tasks: set[asyncio.Future[Any]] = set()

    def on(self, pattern: str, listener: Listener) -> None:
        """Hear events named `pattern`, or all that begin with it if it ends in `.*`. Raises InvalidOption."""
        if not known(pattern):
            raise InvalidOption(f"unknown event {pattern!r}; {nearest(pattern, NAMES)}")
        self.listeners.append((pattern, listener))

    def emit(self, name: str, **facts: Any) -> None:
        """Tell every listener. Async listeners run as tasks of the current loop."""
        if not self.listeners:
            return
        event = Event(name, facts)
        for pattern, listener in self.listeners:
            if matches(pattern, name):
                try:
                    answer = listener(event)
                    if inspect.isawaitable(answer):
                        task = asyncio.ensure_future(answer)
                        self._tasks.add(task)
                        task.add_done_callback(self._finished)
                except Exception:
                    self.logger.exception("a listener of %s failed", name)

    def _finished(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.logger.error("an async listener failed", exc_info=task.exception())

    async def drain(self) -> None:
        """Wait for async listeners that are still at work."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
