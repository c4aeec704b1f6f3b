"""The events of a process: their names, and what each carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

NAMES = (
    "online",
    "offline",
    "disconnected",
    "reconnected",
    "job.started",
    "job.ended",
    "job.retried",
    "job.dead",
    "job.taken",
    "job.unfit",
    "tick.fired",
    "tick.skipped",
    "node.gap",
    "node.clock",
    "node.hung",
    "node.failover",
)


class Event(msgspec.Struct, frozen=True):
    """Something that happened in this process. `facts` are by name: id, task, queue, reason, …"""

    name: str
    facts: Mapping[str, Any]


def matches(pattern: str, name: str) -> bool:
    """Whether a listener for `pattern` (a name, or `job.*`) hears `name`."""
    return pattern in (name, "*") or (pattern.endswith(".*") and name.startswith(pattern[:-1]))


def known(pattern: str) -> bool:
    """Whether any event could match."""
    return any(matches(pattern, name) for name in NAMES)
