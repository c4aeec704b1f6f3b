"""`duly nodes`: who is alive, where, how busy, and what part of the ring each has."""

from __future__ import annotations

from collections.abc import Mapping

import click

from duly.cli.connection import with_store
from duly.cli.grouping import json_option
from duly.cli.output import Column, show_json, show_table
from duly.scheduler import Scheduler
from duly.views.nodes import UNREADABLE, NodeView, node_views
from duly.views.words import percent, relative


@click.command("nodes")
@json_option
@with_store()
async def command(scheduler: Scheduler, json: bool) -> None:
    """The nodes that are alive."""
    registry = await scheduler.connected_store.registry()
    views = node_views(registry)
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


def _when(view: NodeView, now: int) -> str:
    return UNREADABLE if view.last_beat is None else relative(view.last_beat, now / 1000)


def shown_share(shares: Mapping[str, float]) -> str:
    """One number if it is that of all queues, else one for each."""
    if len(set(shares.values())) <= 1:
        return percent(next(iter(shares.values()))) if shares else ""
    return ", ".join(f"{queue} {percent(share)}" for queue, share in shares.items())
