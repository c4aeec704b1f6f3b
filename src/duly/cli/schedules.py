"""`duly schedules`: look at recurring work, see its next moments, pause, trigger and remove it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click
import msgspec

from duly.cli.connection import Work, with_store
from duly.cli.grouping import ListedGroup, json_option, queue_option
from duly.cli.lookup import find, known_queues
from duly.cli.output import Column, progress, show_json, show_record, show_table
from duly.cli.push import parse_moment
from duly.scheduler import Scheduler
from duly.views.schedules import ScheduleView
from duly.views.words import absolute, both, counted, relative

SHOWN = 10
IN_ANY_QUEUE = "The schedule's queue; without it, all are searched."


@click.group("schedules", cls=ListedGroup, short_help="Look at recurring work, steer it.")
def command() -> None:
    """Look at recurring work, see its next moments, pause, trigger and remove it."""


def _plain(value: Any) -> Any:
    """A trigger by the names of its fields; the wire has them by place."""
    if isinstance(value, msgspec.Struct):
        fields = {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
        return {"kind": type(value).__name__.lower(), **fields}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _as_data(view: ScheduleView) -> dict[str, Any]:
    data = {name: getattr(view, name) for name in view.__struct_fields__}
    return {**data, "trigger": _plain(view.trigger), "words": view.trigger.describe()}


def _zone(view: ScheduleView) -> str:
    return str(getattr(view.trigger, "timezone", "UTC"))


def _skipped(view: ScheduleView) -> str:
    return ", ".join(f"{count:,} {why}" for why, count in view.skipped.items() if count)


@command.command("list")
@queue_option("Only this queue.")
@click.option("--prefix", default="", metavar="TEXT", help="Only ids that begin with it.")
@click.option("--app", metavar="NAME", help="Only what the code of this app declares.")
@json_option
@with_store()
async def list_schedules(scheduler: Scheduler, queue: str | None, prefix: str, app: str | None, json: bool) -> None:
    """All schedules, by queue and id."""
    views = [
        view
        for name in await known_queues(scheduler, queue)
        async for view in scheduler.schedules.list(queue=name, prefix=prefix)
        if app is None or view.app == app
    ]
    views.sort(key=lambda view: (view.queue, view.id))
    if json:
        show_json([_as_data(view) for view in views])
        return
    now = (await scheduler.connected_store.registry()).now / 1000
    columns = (
        Column("id", lambda view: view.id, kind="id"),
        Column("when", lambda view: view.trigger.describe(), 1, kind="text"),
        Column("next", lambda view: _next(view, now)),
        Column("last", lambda view: relative(view.last, now) if view.last else "", 3),
        Column("task", lambda view: view.task, 4, kind="text"),
        Column("queue", lambda view: view.queue, 5, kind="text"),
        Column("fired", lambda view: f"{view.fired:,}", 6, right=True),
        Column("skipped", _skipped, 7),
        Column("app", lambda view: view.app, 9, kind="text"),
        Column("note", lambda view: view.paused, 2, kind="text"),
    )
    show_table(views, columns, "no schedules")


def _next(view: ScheduleView, now: float) -> str:
    if view.paused is not None:
        return "paused"
    return relative(view.next, now) if view.next else "none planned"


async def _find(scheduler: Scheduler, id: str, queue: str | None) -> tuple[str, ScheduleView]:
    return await find(scheduler, queue, f"schedule {id!r}", lambda name: scheduler.schedules.get(id, queue=name))


@command.command("show")
@click.argument("id")
@queue_option(IN_ANY_QUEUE)
@json_option
@with_store()
async def show_schedule(scheduler: Scheduler, id: str, queue: str | None, json: bool) -> None:
    """Everything about a schedule."""
    _, view = await _find(scheduler, id, queue)
    if json:
        show_json(_as_data(view))
        return
    now = (await scheduler.connected_store.registry()).now / 1000
    show_record(
        [
            ("id", view.id),
            ("queue", view.queue),
            ("task", view.task),
            ("trigger", getattr(view.trigger, "expression", None)),
            ("when", view.trigger.describe()),
            ("zone", _zone(view)),
            ("paused", view.paused),
            ("next", both(view.next, now)),
            ("last", both(view.last, now)),
            ("fired", f"{view.fired:,}"),
            ("late", f"{view.late:,}" if view.late else None),
            ("skipped", _skipped(view)),
            ("last run", f"{view.outcome}, {both(view.ended, now)}" if view.outcome else None),
            ("failures", view.failures or None),
            ("running", view.living or None),
            ("app", view.app),
            ("revision", view.revision),
        ]
    )


@command.command("preview")
@click.argument("id")
@click.option("-n", "count", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many moments.")
@queue_option(IN_ANY_QUEUE)
@json_option
@with_store()
async def preview(scheduler: Scheduler, id: str, count: int, queue: str | None, json: bool) -> None:
    """The next moments, in the schedule's zone."""
    name, _ = await _find(scheduler, id, queue)
    now = (await scheduler.connected_store.registry()).now / 1000
    show_moments(await scheduler.schedules.preview(id, count, queue=name), now, json)


def show_moments(moments: Any, now: float, json: bool) -> None:
    """Print datetimes with how far away they are."""
    if json:
        show_json([{"at": moment.timestamp(), "local": moment.isoformat()} for moment in moments])
        return
    columns = (
        Column("moment", lambda moment: moment.isoformat(" ", "milliseconds" if moment.microsecond else "seconds")),
        Column("day", lambda moment: f"{moment:%a}", 2),
        Column("", lambda moment: relative(moment.timestamp(), now), 1),
    )
    show_table(moments, columns, "no more moments")


def _steering(work: Work) -> click.Command:
    """A command about one schedule, named after its function, with what all of them take."""
    wrapped = with_store()(work)
    for option in (json_option, queue_option(IN_ANY_QUEUE), click.argument("id")):
        wrapped = option(wrapped)
    return command.command(work.__name__)(wrapped)


def _done(id: str, queue: str, what: str, there: bool, json: bool) -> None:
    if not there:
        raise click.ClickException(f"schedule {id!r} was removed from queue {queue!r} a moment ago")
    if json:
        show_json({"id": id, "queue": queue, "answer": what})
    else:
        show_record([(id, what)])


@_steering
@click.option("--note", default="", metavar="TEXT", help="Why; shown to whoever looks.")
async def pause(scheduler: Scheduler, id: str, note: str, queue: str | None, json: bool) -> None:
    """No more ticks until it is resumed."""
    name, _ = await _find(scheduler, id, queue)
    _done(id, name, "paused", await scheduler.schedules.pause(id, note, queue=name), json)


@_steering
async def resume(scheduler: Scheduler, id: str, queue: str | None, json: bool) -> None:
    """Ticks again, from now on; what it missed is not made up for."""
    name, _ = await _find(scheduler, id, queue)
    _done(id, name, "resumed", await scheduler.schedules.resume(id, queue=name), json)


@_steering
async def remove(scheduler: Scheduler, id: str, queue: str | None, json: bool) -> None:
    """Remove it, with its job that has not started. What an app's code declares comes back with its next node."""
    name, _ = await _find(scheduler, id, queue)
    _done(id, name, "removed", await scheduler.schedules.remove(id, queue=name), json)


@_steering
async def trigger(scheduler: Scheduler, id: str, queue: str | None, json: bool) -> None:
    """One run now, beside the ticks; prints the id of its job."""
    name, _ = await _find(scheduler, id, queue)
    job = await scheduler.schedules.trigger(id, queue=name)
    if json:
        show_json({"id": id, "queue": name, "job": job})
    else:
        click.echo(job)


@_steering
@click.option("--from", "start", required=True, metavar="MOMENT", callback=parse_moment,
              help="The first moment: ISO date and time with zone, or epoch seconds.")  # fmt: skip
@click.option("--until", "end", required=True, metavar="MOMENT", callback=parse_moment, help="The first one beyond.")
async def backfill(scheduler: Scheduler, id: str, start: float | datetime, end: float | datetime, queue: str | None,
                   json: bool) -> None:  # fmt: skip
    """One run for each moment from --from on and before --until; run a second time, it adds what is not known yet."""
    name, _ = await _find(scheduler, id, queue)
    with progress(f"backfilling {id}") as advance:
        count = await scheduler.schedules.backfill(id, start, end, queue=name, pushed=advance)
    if json:
        show_json({"id": id, "queue": name, "moments": count})
    else:
        show_record([(id, f"{counted(count, 'moment')} pushed")])


@_steering
@click.option("--since", metavar="MOMENT", callback=parse_moment,
              help="From then on: ISO date and time with zone, or epoch seconds.")  # fmt: skip
async def audit(scheduler: Scheduler, id: str, since: float | datetime | None, queue: str | None, json: bool) -> None:
    """Hold what was fired against what should have been: missing, doubled and late ticks.

    Reaches back as far as the tick log does (the setting `history`), and to the last edit. Ends with 1 if a tick is
    missing or was fired twice.
    """
    name, _ = await _find(scheduler, id, queue)
    found = await scheduler.schedules.audit(id, queue=name, since=since)
    if json:
        show_json({**msgspec.structs.asdict(found), "is_clean": found.is_clean})
    else:
        moments = [("missing", found.missing), ("doubled", found.doubled), ("overdue", found.overdue)]
        show_record(
            [
                ("since", absolute(found.since)),
                ("expected", f"{found.expected:,}"),
                ("fired", f"{found.fired:,}"),
                ("skipped", ", ".join(f"{count:,} {why}" for why, count in found.skipped.items())),
                *((what, _some([absolute(at) for at in ats])) for what, ats in moments),
                ("late", _some([f"{absolute(at)} by {seconds:.1f} s" for at, seconds in found.late])),
                ("verdict", "each tick once" if found.is_clean else "ticks are missing or doubled"),
            ]
        )
    if not found.is_clean:
        raise click.exceptions.Exit(1)


def _some(lines: list[str]) -> str:
    """The first few, and how many more there are."""
    return "\n".join(lines[:SHOWN]) + (f"\nand {len(lines) - SHOWN:,} more" if len(lines) > SHOWN else "")
