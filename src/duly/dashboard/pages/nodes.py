"""The nodes that are alive, the rings among them, and what one of them runs."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from duly.dashboard.pages.drawing import Arc, arcs
from duly.dashboard.pages.rendering import page
from duly.dashboard.pages.seam import monitor_of
from duly.dashboard.problems import Refused
from duly.monitor import LOOKED, STEP, Monitor
from duly.views.jobs import JobView
from duly.views.nodes import NodeView
from duly.views.words import percent

MOST_RINGS = 6
OUTER, INNER, GAP = 100.0, 46.0, 3.0


async def show(request: Request) -> Response:
    """The table, and the map."""
    monitor = monitor_of(request)
    nodes, now = await monitor.nodes(), await monitor.now()
    queues = sorted({queue for view in nodes for queue in view.share})
    hues = {view.node.id: index for index, view in enumerate(nodes)}
    return page(
        request, "nodes.html", nav="nodes", nodes=nodes, now=now, queues=queues, hues=hues,
        rings=rings(nodes, queues[:MOST_RINGS], hues), left_out=queues[MOST_RINGS:],
    )  # fmt: skip


def rings(nodes: Sequence[NodeView], queues: Sequence[str], hues: dict[str, int]) -> list[Arc]:
    """The map: a circle for each queue, the first one outside; in it an arc for each node that serves it."""
    width = (OUTER - INNER) / max(1, len(queues))
    found = []
    for place, queue in enumerate(queues):
        outer = OUTER - place * width
        shares = {view.node.id: view.share[queue] for view in nodes if queue in view.share}
        hosts = {view.node.id: view.node.host for view in nodes}
        for id, arc in arcs(shares, hues, round(outer - width + GAP, 2), round(outer, 2)):
            found.append(arc._replace(title=f"{id[:8]} on {hosts[id]}: {percent(shares[id])} of queue {queue}"))
    return found


async def one(request: Request) -> Response:
    """One node."""
    id, monitor = request.query_params.get("id", ""), monitor_of(request)
    found = next((view for view in await monitor.nodes() if view.node.id == id), None) if id else None
    if found is None:
        raise Refused(404, f"no node {id!r} is alive: it has stopped, or died; a node has a new id at each start")
    jobs, is_all = await _runs(monitor, found)
    return page(
        request,
        "node.html",
        nav="nodes",
        view=found,
        node=found.node,
        jobs=jobs,
        is_all=is_all,
        now=await monitor.now(),
    )


async def _runs(monitor: Monitor, view: NodeView) -> tuple[list[JobView], bool]:
    """What it holds now, and whether that is all: so many leases are looked at."""
    found: list[JobView] = []
    looked = 0
    for queue in view.node.queues:
        cursor = ""
        while looked < LOOKED:
            page_ = await monitor.jobs("leased", queue=queue, limit=STEP, cursor=cursor)
            looked += page_.looked
            found += [job for job in page_.jobs if job.node == view.node.id]
            if not (cursor := page_.cursor):
                break
        else:
            return found, False
    return found, True
