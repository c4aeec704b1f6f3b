"""`duly queues`: sizes, pauses and limits of queues, and emptying one."""

from __future__ import annotations

import sys
from typing import Any

import click

from duly.cli.connection import with_store
from duly.cli.grouping import ListedGroup, json_option
from duly.cli.lookup import known_queues
from duly.cli.output import Column, progress, show_json, show_record, show_table
from duly.handle import clear as clear_shard
from duly.monitor import Monitor
from duly.scheduler import Scheduler
from duly.views.words import counted


@click.group("queues", cls=ListedGroup)
def command() -> None:
    """Sizes, pauses and limits of queues."""


@command.command("list")
@json_option
@with_store()
async def list_queues(scheduler: Scheduler, json: bool) -> None:
    """Every queue that was ever pushed to or served."""
    views = await Monitor(scheduler).queues()
    if json:
        show_json(views)
        return
    columns = (
        Column("queue", lambda view: view.queue, kind="id"),
        Column("pending", lambda view: f"{view.pending:,}", right=True),
        Column("leased", lambda view: f"{view.leased:,}", right=True),
        Column("dead", lambda view: f"{view.dead:,}", 1, right=True),
        Column("schedules", lambda view: f"{view.schedules:,}", 5, right=True),
        Column("nodes", lambda view: len(view.nodes), 3, right=True),
        Column("limit", lambda view: "" if view.limit is None else f"{view.limit:,}", 4, right=True),
        Column("", lambda view: "paused" if view.paused else "", 2),
    )
    show_table(views, columns, "no queues: nothing was pushed, and no node was started")


def _done(queue: str, what: str, json: bool, **facts: Any) -> None:
    if json:
        show_json({"queue": queue, **facts})
    else:
        show_record([(queue, what)])


@command.command("pause")
@click.argument("queue")
@json_option
@with_store()
async def pause(scheduler: Scheduler, queue: str, json: bool) -> None:
    """No node takes jobs from QUEUE until it is resumed; what runs goes on."""
    await known_queues(scheduler, queue)
    await scheduler.queues.pause(queue)
    _done(queue, "paused", json, paused=True)


@command.command("resume")
@click.argument("queue")
@json_option
@with_store()
async def resume(scheduler: Scheduler, queue: str, json: bool) -> None:
    """Jobs of QUEUE are taken again."""
    await known_queues(scheduler, queue)
    await scheduler.queues.resume(queue)
    _done(queue, "resumed", json, paused=False)


def _parse_limit(_ctx: click.Context, _param: click.Parameter, text: str) -> int | None:
    if text == "none":
        return None
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise click.BadParameter(f"{text!r}: give a whole number from 1, or none; `duly queues pause` stops a queue")
    return int(text)


@command.command("limit")
@click.argument("queue")
@click.argument("limit", metavar="N|none", callback=_parse_limit)
@json_option
@with_store()
async def limit(scheduler: Scheduler, queue: str, limit: int | None, json: bool) -> None:
    """At most N jobs of QUEUE run at once in the whole cluster."""
    await known_queues(scheduler, queue)
    await scheduler.queues.limit(queue, limit)
    _done(queue, "no limit" if limit is None else f"at most {limit:,} at once", json, limit=limit)


@command.command("clear")
@click.argument("queue")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--schedules", is_flag=True, help="Remove its schedules too.")
@json_option
@with_store()
async def clear(scheduler: Scheduler, queue: str, yes: bool, schedules: bool, json: bool) -> None:
    """Remove the jobs of QUEUE that wait or are dead now. Those that run are left alone."""
    await known_queues(scheduler, queue)
    sizes = await scheduler.queues.sizes(queue)
    jobs = sizes.pending + sizes.dead
    if not yes:
        _confirm(queue, jobs, sizes.schedules if schedules else 0)
    removed_schedules = await scheduler.schedules.clear(queue=queue) if schedules else 0
    with progress(f"clearing {queue}", jobs) as advance:
        removed = await clear_shard(scheduler.shard(queue), until=sizes.now, removed=advance)
    words = (
        counted(removed, "job") + (f" and {counted(removed_schedules, 'schedule')}" if schedules else "") + " removed"
    )
    _done(queue, words, json, jobs=removed, schedules=removed_schedules)


def _confirm(queue: str, jobs: int, schedules: int) -> None:
    what = (
        counted(jobs, "job") + (f" and {counted(schedules, 'schedule')}" if schedules else "") + f" of queue {queue!r}"
    )
    if not sys.stdin.isatty():
        raise click.UsageError(f"this removes {what} for good: say --yes")
    click.confirm(f"Remove {what} for good?", abort=True, err=True)
