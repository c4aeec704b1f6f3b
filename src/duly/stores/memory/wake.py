"""The token for which idle nodes sleep: at most one per shard, given to one sleeper in whatever thread or loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading


class Sleeper:
    """One `wait` under way. given: the token is its own, also if its time ran out in the same moment."""

    __slots__ = ("future", "given", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()
        self.given = False

    def rouse(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Wake:
    """A token or the queue of those who wait for one. `leave_token` is called under the store's lock."""

    def __init__(self) -> None:
        self._token = False
        self._sleepers: deque[Sleeper] = deque()

    def leave_token(self) -> None:
        """Give the token to the first sleeper, or leave it for the next; nothing if one lies there."""
        while self._sleepers:
            sleeper = self._sleepers.popleft()
            try:
                sleeper.loop.call_soon_threadsafe(sleeper.rouse)
            except RuntimeError:  # its loop was closed: it will never take the token
                continue
            sleeper.given = True
            return
        self._token = True

    async def wait(self, seconds: float, lock: threading.Lock) -> bool:
        """Take the token, or wait for it for at most `seconds`."""
        with lock:
            if self._token:
                self._token = False
                return True
            if seconds <= 0:
                return False
            sleeper = Sleeper()
            self._sleepers.append(sleeper)
        try:
            async with asyncio.timeout(seconds):
                await sleeper.future
        except TimeoutError:
            return self._leave(sleeper, lock)
        except BaseException:
            with lock:
                if sleeper.given:
                    self.leave_token()  # it was given to one who is gone: the next one shall have it
                else:
                    self._sleepers.remove(sleeper)
            raise
        return True

    def _leave(self, sleeper: Sleeper, lock: threading.Lock) -> bool:
        with lock:
            if not sleeper.given:
                self._sleepers.remove(sleeper)
            return sleeper.given


class Calls:
    """Who waits for which name. Every method is called under the store's lock."""

    def __init__(self) -> None:
        self._callers: dict[str, list[Sleeper]] = {}

    def add(self, name: str) -> Sleeper:
        """Wait for `name`: the sleeper's future is done when it is rung."""
        caller = Sleeper()
        self._callers.setdefault(name, []).append(caller)
        return caller

    def ring(self, name: str) -> None:
        """Rouse everybody who waits for `name`."""
        for caller in self._callers.pop(name, ()):
            with contextlib.suppress(RuntimeError):  # its loop was closed
                caller.loop.call_soon_threadsafe(caller.rouse)

    def leave(self, name: str, caller: Sleeper) -> None:
        """Wait no longer."""
        callers = self._callers.get(name, [])
        if caller in callers:
            callers.remove(caller)
            if not callers:
                del self._callers[name]
