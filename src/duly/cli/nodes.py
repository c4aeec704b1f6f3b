"""`duly nodes`: who is alive, where, and how busy."""

from __future__ import annotations

import click
import msgspec

from duly.cli.connection import with_store
from duly.cli.grouping import json_option
from duly.cli.output import Column, show_json, show_table
from duly.runtime.node import NodeRecord
from duly.scheduler import Scheduler
from duly.stores.base import Registry


def nodes_of(registry: Registry) -> list[NodeRecord]:
    """What the live nodes publish of themselves; of one whose record this code cannot read, its id."""
    found = []
    for id, packed in registry.nodes.items():
        try:
            found.append(msgspec.msgpack.decode(packed, type=NodeRecord))
        except msgspec.MsgspecError:
            found.append(NodeRecord(id, "?", 0, "?", "", (), (), 0, 0))
    return sorted(found, key=lambda node: (node.host, node.pid, node.id))


@click.command("nodes")
@json_option
@with_store()
async def command(scheduler: Scheduler, json: bool) -> None:
    """The nodes that are alive."""
    nodes = nodes_of(await scheduler.connected_store.registry())
    if json:
        show_json(nodes)
        return
    columns = (
        Column("node", lambda node: node.id[:8]),
        Column("host", lambda node: node.host, 1, kind="text"),
        Column("pid", lambda node: node.pid, 2, right=True),
        Column("busy", lambda node: f"{node.running}/{node.concurrency}", right=True),
        Column("queues", lambda node: ", ".join(node.queues), 3, kind="text"),
        Column("app", lambda node: node.app, 5, kind="text"),
        Column("tags", lambda node: ", ".join(node.tags), 6, kind="text"),
        Column("version", lambda node: node.version, 4),
        Column("python", lambda node: node.python, 7),
    )
    show_table(nodes, columns, "no node is alive: start one with `duly worker MODULE:ATTRIBUTE`")
