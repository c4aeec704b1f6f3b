"""What has happened to whom: whether a process may have lost a lease by something else than a fault of the product."""

from __future__ import annotations

from duly.testing.loop import VirtualLoop


class Trouble:
    """By the name of a process. A trouble excuses lost leases until its time is over; without end if it is a death."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._of: dict[str, tuple[float, str]] = {}

    def happened(self, process: str, what: str, seconds: float = float("inf")) -> None:
        """The longest one is kept: a death is never forgotten."""
        until = self._loop.now + seconds
        if until >= self._of.get(process, (0.0, ""))[0]:
            self._of[process] = (until, what)

    def of(self, process: str) -> str:
        """What excuses a lease that is lost now, or nothing."""
        until, what = self._of.get(process, (0.0, ""))
        return what if until >= self._loop.now else ""
