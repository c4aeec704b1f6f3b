"""The nodes that are alive, and what part of the ring each has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from duly.runtime.neighbours import ring_of
from duly.runtime.node import NodeRecord
from duly.stores.base import Registry

UNREADABLE = "?"


def nodes_of(registry: Registry) -> list[NodeRecord]:
    """What the live nodes publish of themselves; of one whose record this code cannot read, its id."""
    found = []
    for id, packed in registry.nodes.items():
        try:
            found.append(msgspec.msgpack.decode(packed, type=NodeRecord))
        except msgspec.MsgspecError:
            found.append(NodeRecord(id, UNREADABLE, 0, UNREADABLE, "", (), (), 0, 0))
    return sorted(found, key=lambda node: (node.host, node.pid, node.id))


class NodeView(msgspec.Struct, frozen=True):
    """A node as people look at it. last_beat: in epoch seconds, None if its record cannot be read. share: for each queue that it
    serves, its part of the queue's ring."""

    node: NodeRecord
    last_beat: float | None
    share: Mapping[str, float]

    def facts(self) -> dict[str, Any]:
        """All that is known, by name."""
        return msgspec.structs.asdict(self.node) | {"last_beat": self.last_beat, "share": self.share}


def node_views(registry: Registry) -> list[NodeView]:
    """All live nodes, with their parts of the rings."""
    nodes = nodes_of(registry)
    rings = {queue: ring_of(nodes, queue) for queue in {queue for node in nodes for queue in node.queues}}
    return [
        NodeView(node, _last_beat(node, registry), {queue: rings[queue].share(node.id) for queue in node.queues})
        for node in nodes
    ]


def _last_beat(node: NodeRecord, registry: Registry) -> float | None:
    until = registry.until.get(node.id)
    return None if until is None or node.host == UNREADABLE else (until - node.ttl) / 1000
