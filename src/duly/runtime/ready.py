"""Whether a node can claim jobs now: what its `/ready` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duly.runtime.node import Node

ASKED_WITHIN = 5.0
"""Seconds, beyond a lease, after which a node that has not asked for jobs is stuck; an idle one asks at least each two polls."""


def why_not_ready(node: Node | None) -> str:
    """Why it cannot, as one clause; empty if it can. From any thread: also while a handler blocks the node's loop."""
    if node is None:
        return "it is not started, or is stopping"
    worker = node.worker
    if not worker.claiming:
        return "it takes no jobs: stop_executing() was called, or it is stopping"
    away = worker.reporter.away
    lines = [line for line in list(worker.lines) if line.place.server not in away]
    if not lines:
        return "the store does not answer"
    silent = worker.clock.monotonic() - max(line.asked_at for line in lines)
    config = worker.config
    if silent > max(config.lease, 2 * config.poll) + ASKED_WITHIN:
        return f"it has not asked for jobs for {silent:.0f} s: a handler blocks its event loop, or the store hangs"
    return ""
