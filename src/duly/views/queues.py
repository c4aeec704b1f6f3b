"""A queue as people look at it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from duly.runtime.node import NodeRecord
from duly.stores.base import Sizes


class QueueView(msgspec.Struct, frozen=True):
    """A queue as people look at it. limit: None for none. nodes: the ids of those that serve it."""

    queue: str
    pending: int
    leased: int
    dead: int
    schedules: int
    paused: bool
    limit: int | None
    nodes: list[str]


def view(name: str, sizes: Sizes, nodes: Iterable[NodeRecord]) -> QueueView:
    """The queue, and who of `nodes` serves it."""
    serving = [node.id for node in nodes if name in node.queues]
    return QueueView(name, sizes.pending, sizes.leased, sizes.dead, sizes.schedules, sizes.paused, sizes.limit, serving)
