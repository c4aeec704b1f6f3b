"""`duly shards`: where the parts of queues lie, and bringing everything to where it belongs by another map."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import click
import msgspec

from duly.cli.connection import with_store
from duly.cli.grouping import ListedGroup, json_option
from duly.cli.output import Column, progress, show_json, show_record, show_table
from duly.core.shards import Place
from duly.errors import StoreError
from duly.scheduler import Scheduler
from duly.stores.base import Sizes
from duly.stores.moving import change_map, move_all
from duly.stores.several import SeveralStores
from duly.stores.shards import check_partitions
from duly.views.words import counted

PAUSE = 0.5
"""Seconds between two passes: what could not be moved runs."""


@click.group("shards", cls=ListedGroup)
def command() -> None:
    """Where the parts of queues lie, and moving them."""


class ShardView(msgspec.Struct, frozen=True):
    """A shard as people look at it; `away` says why its server does not answer, and then there are no sizes."""

    queue: str
    partition: int
    server: int
    url: str
    pending: int = 0
    leased: int = 0
    dead: int = 0
    schedules: int = 0
    away: str = ""


@command.command("list")
@json_option
@with_store()
async def list_shards(scheduler: Scheduler, json: bool) -> None:
    """Every shard of every queue, with its server and sizes."""
    places = [place for queue in await scheduler.queues.list() for place in scheduler.shards.places(queue)]
    sizes = await asyncio.gather(*(_sizes(scheduler, place) for place in places))
    urls = [store.url for store in _stores(scheduler)]
    views = [_view(place, size, urls[place.server]) for place, size in zip(places, sizes, strict=True)]
    if json:
        show_json({"epoch": scheduler.shards.map.epoch, "moving": scheduler.shards.map.is_moving, "shards": views})
        return
    columns = (
        Column("queue", lambda view: view.queue, kind="id"),
        Column("partition", lambda view: view.partition, right=True),
        Column("server", lambda view: f"{view.server} {view.url}", 1),
        Column("pending", lambda view: "" if view.away else f"{view.pending:,}", right=True),
        Column("leased", lambda view: "" if view.away else f"{view.leased:,}", right=True),
        Column("dead", lambda view: "" if view.away else f"{view.dead:,}", 3, right=True),
        Column("schedules", lambda view: "" if view.away else f"{view.schedules:,}", 4, right=True),
        Column("", lambda view: view.away, 2),
    )
    show_table(views, columns, "no queues: nothing was pushed, and no node was started")
    if scheduler.shards.map.is_moving:
        click.echo("things are being moved to where they belong; `duly shards rebalance` finishes it", err=True)


async def _sizes(scheduler: Scheduler, place: Place) -> Sizes | StoreError:
    try:
        return await scheduler.shards.at(place).sizes()
    except StoreError as error:
        return error


def _stores(scheduler: Scheduler) -> tuple[Any, ...]:
    store = scheduler.store
    return store.stores if isinstance(store, SeveralStores) else (store,)


def _view(place: Place, size: Sizes | StoreError, url: str) -> ShardView:
    if isinstance(size, StoreError):
        return ShardView(place.queue, place.partition, place.server, url, away=str(size))
    return ShardView(*place, url, size.pending, size.leased, size.dead, size.schedules)


def _parse_partitions(_ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in texts:
        queue, equals, count = text.rpartition("=")
        if not equals or not queue or not count.isascii() or not count.isdecimal():
            raise click.BadParameter(f"{text!r}: give QUEUE=N, such as mail=6")
        found[queue] = int(count)
    return found


@command.command("rebalance")
@click.option(
    "--partitions",
    metavar="QUEUE=N",
    multiple=True,
    callback=_parse_partitions,
    help="How many partitions a queue has from now on; may be said several times.",
)
@click.option(
    "--servers",
    type=click.IntRange(1),
    metavar="N",
    help="Use the first N of the servers listed, and empty the others; by default all.",
)
@json_option
@with_store(connected=False)
async def rebalance(scheduler: Scheduler, partitions: Mapping[str, int], servers: int | None, json: bool) -> None:
    """Spread everything over the servers listed (--url, DULY_URL or --scheduler) and the partitions given.

    Nodes may run meanwhile. From the change of the map on, processes with another list of servers cannot push any more,
    and go on with what they have: restart them with the new list. Jobs that run, and schedules with a job that runs, are
    moved when that has ended; the command waits for it. Interrupted, it may be called again; nodes go on with it, too.
    """
    listed = len(_stores(scheduler))
    count = listed if servers is None else servers
    if count > listed:
        raise click.UsageError(f"--servers {count}: {counted(listed, 'server')} listed; list them all with --url")
    for queue, number in partitions.items():
        check_partitions(queue, number, count)
    if count <= scheduler.config.master:
        raise click.UsageError(f"--servers {count} would empty the master (server {scheduler.config.master})")
    await scheduler.store.connect()
    scheduler.shards.is_longer_list = count < listed
    try:
        await asyncio.shield(change_map(scheduler.shards, count, partitions))
        moved = await _move(scheduler)
    finally:
        await scheduler.store.close()
    if json:
        show_json({"epoch": scheduler.shards.map.epoch, "moved": moved})
    else:
        show_record([("moved", f"{moved:,}"), ("epoch", f"{scheduler.shards.map.epoch}")])


async def _move(scheduler: Scheduler) -> int:
    total = 0

    def moved(count: int) -> None:
        nonlocal total
        total += count
        advance(count)

    with progress("moving") as advance:
        while await move_all(scheduler.shards, int(scheduler.config.remember * 1000), moved):  # noqa: ASYNC110 - until jobs of other processes have ended
            await asyncio.sleep(PAUSE)
    return total
