"""`duly nodes`: who is alive, where, how busy, and what part of the ring each has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
import msgspec

from duly.cli.connection import with_store
from duly.cli.grouping import json_option
from duly.cli.moments import relative
from duly.cli.output import Column, show_json, show_table
from duly.runtime.neighbours import ring_of
from duly.runtime.node import NodeRecord
from duly.scheduler import Scheduler
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


@click.command("nodes")
@json_option
@with_store()
async def command(scheduler: Scheduler, json: bool) -> None:
    """The nodes that are alive."""
    registry = await scheduler.connected_store.registry()
    views = _views(registry)
    if json:
        show_json([view.facts() for view in views])
        return
    columns = (
        Column("node", lambda view: view.node.id[:8]),
        Column("host", lambda view: view.node.host, 1, kind="text"),
        Column("pid", lambda view: view.node.pid, 3, right=True),
        Column("busy", lambda view: f"{view.node.running}/{view.node.concurrency}", right=True),
        Column("last beat", lambda view: _when(view, registry.now), 5, right=True),
        Column("share", lambda view: shown_share(view.share), 2, kind="text"),
        Column("queues", lambda view: ", ".join(view.node.queues), 4, kind="text"),
        Column("app", lambda view: view.node.app, 7, kind="text"),
        Column("tags", lambda view: ", ".join(view.node.tags), 8, kind="text"),
        Column("version", lambda view: view.node.version, 6),
        Column("python", lambda view: view.node.python, 9),
    )
    show_table(views, columns, "no node is alive: start one with `duly worker MODULE:ATTRIBUTE`")


def _views(registry: Registry) -> list[NodeView]:
    nodes = nodes_of(registry)
    rings = {queue: ring_of(nodes, queue) for queue in {queue for node in nodes for queue in node.queues}}
    return [
        NodeView(node, _last_beat(node, registry), {queue: rings[queue].share(node.id) for queue in node.queues})
        for node in nodes
    ]


def _last_beat(node: NodeRecord, registry: Registry) -> float | None:
    until = registry.until.get(node.id)
    return None if until is None or node.host == UNREADABLE else (until - node.ttl) / 1000


def _when(view: NodeView, now: int) -> str:
    return UNREADABLE if view.last_beat is None else relative(view.last_beat, now / 1000)


def shown_share(shares: Mapping[str, float]) -> str:
    """One number if it is that of all queues, else one for each."""
    if len(set(shares.values())) <= 1:
        return percent(next(iter(shares.values()))) if shares else ""
    return ", ".join(f"{queue} {percent(share)}" for queue, share in shares.items())


def percent(share: float) -> str:
    """ "33.3%"."""
    return f"{100 * share:.3g}%"
