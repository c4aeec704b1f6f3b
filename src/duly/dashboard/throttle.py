"""How often somebody may try to log in: few times per address, and not too often in all, in bounded memory."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque

from duly.clock import Clock

WINDOW = 60.0
"""Seconds over which failures count."""
PER_ADDRESS, IN_TOTAL = 5, 50
MOST_ADDRESSES = 1_000


class Throttle:
    """Counts failures. In total too: who has many addresses is slowed down, at the price that while they try, others cannot
    log in; whoever has a session, or a token, is not concerned."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._all: deque[float] = deque()

    def wait(self, address: str) -> int:
        """Seconds until this address may try; 0: now."""
        now = self._clock.monotonic()
        own = self._failures.get(network(address), deque())
        waits = [_wait(own, PER_ADDRESS, now), _wait(self._all, IN_TOTAL, now)]
        return max(waits)

    def failed(self, address: str) -> None:
        """A try with a wrong password."""
        now, name = self._clock.monotonic(), network(address)
        own = self._failures.setdefault(name, deque(maxlen=PER_ADDRESS))
        own.append(now)
        self._failures.move_to_end(name)
        if len(self._failures) > MOST_ADDRESSES:
            self._failures.popitem(last=False)
        self._all.append(now)
        if len(self._all) > IN_TOTAL:
            self._all.popleft()

    def succeeded(self, address: str) -> None:
        """A try with a right one."""
        self._failures.pop(network(address), None)


def network(address: str) -> str:
    """What counts as one address: of IPv6, who has one has 2^64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _wait(failures: deque[float], most: int, now: float) -> int:
    """Seconds until fewer than `most` lie in the window."""
    recent = [at for at in failures if at > now - WINDOW]
    return 0 if len(recent) < most else max(1, round(recent[-most] + WINDOW - now + 0.5))
