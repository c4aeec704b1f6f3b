"""`duly jobs`: look at jobs, cancel them, run dead ones again or delete them, ask why one is where it is, fetch a result."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, cast

import click

from duly.cli.connection import with_store
from duly.cli.grouping import ListedGroup, json_option, queue_option
from duly.cli.lookup import find, known_queues
from duly.cli.output import Column, as_json, progress, show_json, show_record, show_table
from duly.errors import JobFailed
from duly.handle import JobHandle
from duly.scheduler import Scheduler
from duly.stores.base import MAX_BATCH
from duly.views.jobs import JobView
from duly.views.why import key_taken, sentence
from duly.views.words import absolute, both, counted, lasting, relative

STATES = ("leased", "pending", "dead")
PAGE = 500
STEP = 200
"""Jobs that are cancelled or revived in one call."""
IN_ANY_QUEUE = "The job's queue; without it, all are searched."


@click.group("jobs", cls=ListedGroup)
def command() -> None:
    """Look at jobs, cancel them, run dead ones again."""


@command.command("list")
@click.option("--state", type=click.Choice([*STATES, "all"]), default="all", show_default=True,
              help="leased: they run now.")  # fmt: skip
@queue_option("Only this queue.")
@click.option("--task", metavar="NAME", help="Only jobs of this task.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Show at most so many.")
@json_option
@with_store()
async def list_jobs(
    scheduler: Scheduler, state: str, queue: str | None, task: str | None, limit: int, json: bool
) -> None:
    """Jobs that run, wait or are dead; in each queue by priority and time."""
    queues = await known_queues(scheduler, queue)
    views: list[JobView] = []
    for one in STATES if state == "all" else (state,):
        for name in queues:
            if len(views) <= limit:
                views += await _jobs_of(scheduler, one, name, task, limit + 1 - len(views))
    shown = views[:limit]
    if json:
        show_json(shown)
        return
    now = (await scheduler.connected_store.registry()).now / 1000
    columns = (
        Column("id", lambda job: job.id, kind="id"),
        Column("state", lambda job: job.state),
        Column("task", lambda job: job.task, kind="text"),
        Column("queue", lambda job: job.queue, 2, kind="text"),
        Column("when", lambda job: _when(job, now), 1),
        Column("at", lambda job: absolute(job.at), 7),
        Column("attempts", lambda job: job.attempts or "", 4, right=True),
        Column("crashes", lambda job: job.crashes or "", 5, right=True),
        Column("node", lambda job: job.node[:8], 6),
        Column("reason", lambda job: job.reason or job.error, 3, kind="text"),
    )
    more = f"there are more: --limit {limit * 10} shows them" if len(views) > limit else ""
    show_table(shown, columns, "no jobs" + ("" if state == "all" else f" are {state}"), more)


async def _jobs_of(scheduler: Scheduler, state: str, queue: str, task: str | None, limit: int) -> list[JobView]:
    found: list[JobView] = []
    cursor = ""
    while True:
        size = min(PAGE, limit) if task is None else PAGE
        page, cursor = await scheduler.jobs.list(_state(state), queue=queue, limit=size, cursor=cursor)
        found += [job for job in page if task is None or job.task == task]
        if not cursor or len(found) >= limit:
            return found[:limit]


def _state(name: str) -> Literal["pending", "leased", "dead"]:
    return cast(Literal["pending", "leased", "dead"], name)


def _when(job: JobView, now: float) -> str:
    if job.state == "leased":
        return f"lease ends {relative(job.at, now)}"
    if job.state == "dead":
        return f"died {relative(job.at, now)}"
    return f"due {relative(job.at, now)}" if job.at > now else f"due, waits {lasting(now - job.at)}"


async def _find_job(scheduler: Scheduler, id: str, queue: str | None) -> tuple[str, JobView]:
    return await find(scheduler, queue, f"job {id!r}", lambda name: scheduler.jobs.get(id, queue=name))


@command.command("show")
@click.argument("id")
@queue_option(IN_ANY_QUEUE)
@json_option
@with_store()
async def show_job(scheduler: Scheduler, id: str, queue: str | None, json: bool) -> None:
    """Everything about a job: arguments, state, progress, last error and its trace."""
    _, job = await _find_job(scheduler, id, queue)
    if json:
        show_json(job)
        return
    now = (await scheduler.connected_store.registry()).now / 1000
    name = {"pending": "due", "leased": "lease ends", "dead": "died"}.get(job.state, "")
    show_record(
        [
            ("id", job.id),
            ("state", job.state + (", a cancel was asked" if job.cancel_asked else "")),
            ("queue", job.queue),
            ("task", job.task),
            ("args", as_json(job.args) if job.args else None),
            ("kwargs", as_json(job.kwargs) if job.kwargs else None),
            ("priority", job.priority if name else None),
            ("pushed", both(job.enqueued_at or None, now)),
            (name, both(job.at, now) if name else None),
            ("attempts", job.attempts or None),
            ("crashes", job.crashes or None),
            ("node", job.node),
            ("fence", job.fence or None),
            ("progress", f"{job.progress[0]:.0%} {job.progress[1]}" if job.progress else None),
            ("reason", job.reason),
            ("error", job.error if job.error != job.reason else None),
            ("trace", job.trace),
        ]
    )


@command.command("cancel")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@queue_option(IN_ANY_QUEUE)
@json_option
@with_store()
async def cancel_jobs(scheduler: Scheduler, ids: tuple[str, ...], queue: str | None, json: bool) -> None:
    """Cancel jobs: those that wait are gone at once, the nodes of those that run are told."""
    what: dict[str, str] = {
        "cancelled": "cancelled", "asked": "it runs; its node was asked to cancel it",
        "dead": "it is dead already", "ended": "it has ended already", "unknown": "there is no such job",
    }  # fmt: skip

    async def cancel(some: Sequence[str], name: str) -> Sequence[str]:
        return await scheduler.jobs.cancel(*some, queue=name)

    answers = await _apply(scheduler, ids, queue, cancel)
    _report(answers, what, ("cancelled", "asked"), json)


def dead_jobs_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The dead jobs that a command is about: some, by id, or all of them."""
    command = click.option("--all-dead", is_flag=True, help="All jobs that are dead now, of --queue or of all queues.")(
        command
    )
    return click.argument("ids", nargs=-1, metavar="[ID...]")(command)


def require_ids_or_all(ids: Sequence[str], all_dead: bool, verb: str) -> None:
    """Raises UsageError unless one of the two was given."""
    if bool(ids) == all_dead:
        raise click.UsageError(f"name the jobs to {verb}, or give --all-dead (one of the two)")


@command.command("retry")
@dead_jobs_options
@queue_option(IN_ANY_QUEUE)
@json_option
@with_store()
async def retry_jobs(scheduler: Scheduler, ids: tuple[str, ...], all_dead: bool, queue: str | None, json: bool) -> None:
    """Run dead jobs again, from their first attempt."""
    require_ids_or_all(ids, all_dead, "retry")
    if all_dead:
        count = await _retry_all(scheduler, await known_queues(scheduler, queue))
        if json:
            show_json({"retried": count})
        else:
            click.echo(f"{counted(count, 'dead job')} will run again")
        return

    async def retry(some: Sequence[str], name: str) -> Sequence[str]:
        done = await scheduler.jobs.retry(*some, queue=name)
        return ["retried" if answer else "not dead" for answer in done]

    what = {"retried": "it will run again", "not dead": "it is not dead", "unknown": "there is no such job"}
    _report(await _apply(scheduler, ids, queue, retry), what, ("retried",), json)


@command.command("delete")
@dead_jobs_options
@queue_option(IN_ANY_QUEUE)
@json_option
@with_store()
async def delete_jobs(
    scheduler: Scheduler, ids: tuple[str, ...], all_dead: bool, queue: str | None, json: bool
) -> None:
    """Delete dead jobs, as if they had never been pushed. Those that wait or run are cancelled instead (cancel)."""
    require_ids_or_all(ids, all_dead, "delete")
    if all_dead:
        queues = await known_queues(scheduler, queue)
        count = sum([await scheduler.jobs.delete_dead(queue=name) for name in queues])
        if json:
            show_json({"deleted": count})
        else:
            click.echo(f"{counted(count, 'dead job')} deleted")
        return

    async def delete(some: Sequence[str], name: str) -> Sequence[str]:
        await scheduler.jobs.delete(*some, queue=name)
        left = await scheduler.shard(name).get(some)
        return ["deleted" if record is None else record.state for record in left]

    what = {
        "deleted": "deleted", "pending": "it is not dead: cancel it", "leased": "it runs: cancel it",
        "dead": "it has died since", "ended": "it has ended already", "unknown": "there is no such job",
    }  # fmt: skip
    _report(await _apply(scheduler, ids, queue, delete), what, ("deleted",), json)


async def _retry_all(scheduler: Scheduler, queues: Sequence[str]) -> int:
    """What is dead when it begins: a job that dies again meanwhile stays dead."""
    sizes = await asyncio.gather(*(scheduler.queues.sizes(name) for name in queues))
    count = 0
    with progress("retrying", sum(size.dead for size in sizes)) as advance:
        for name, size in zip(queues, sizes, strict=True):
            while True:
                page, _ = await scheduler.jobs.list("dead", queue=name, limit=STEP)
                ids = [job.id for job in page if job.at <= size.now / 1000]
                done = sum(await scheduler.jobs.retry(*ids, queue=name)) if ids else 0
                count += done
                advance(done)
                if not done:  # none is left, or another is retrying the same
                    break
    return count


Verb = Callable[[Sequence[str], str], Awaitable[Sequence[str]]]


async def _apply(scheduler: Scheduler, ids: Sequence[str], queue: str | None, verb: Verb) -> list[dict[str, Any]]:
    """Each id with its queue and the answer of `verb`, in bounded calls; an id of several queues is refused beforehand."""
    ids = list(dict.fromkeys(ids))
    place: dict[str, str] = {}
    for name in await known_queues(scheduler, queue):
        for i in range(0, len(ids), MAX_BATCH):
            some = ids[i : i + MAX_BATCH]
            for id, record in zip(some, await scheduler.shard(name).get(some), strict=True):
                if record is not None and place.setdefault(id, name) != name:
                    raise click.ClickException(
                        f"there is a job {id!r} in several queues ({place[id]}, {name}); say which with --queue"
                    )
    answers: dict[str, str] = {}
    with progress("jobs", len(place)) as advance:
        for name in dict.fromkeys(place.values()):
            mine = [id for id in ids if place.get(id) == name]
            for i in range(0, len(mine), STEP):
                some = mine[i : i + STEP]
                answers.update(zip(some, await verb(some, name), strict=True))
                advance(len(some))
    return [{"id": id, "queue": place.get(id), "answer": answers.get(id, "unknown")} for id in ids]


def _report(answers: Sequence[dict[str, Any]], what: dict[str, str], good: tuple[str, ...], json: bool) -> None:
    """Show what became of each; exit code 1 if one of them was not done."""
    if json:
        show_json(answers)
    else:
        columns = (
            Column("id", lambda answer: answer["id"], kind="id"),
            Column("queue", lambda answer: answer["queue"], 1, kind="text"),
            Column("", lambda answer: what[answer["answer"]]),
        )
        show_table(answers, columns)
    counts = Counter(answer["answer"] in good for answer in answers)
    if counts[False]:
        raise click.exceptions.Exit(1)


@command.command("why")
@click.argument("id", required=False)
@click.option("--unique", "key", metavar="KEY", help="Instead of an ID: the job that holds this unique key.")
@queue_option(IN_ANY_QUEUE)
@json_option
@with_store()
async def why(scheduler: Scheduler, id: str | None, key: str | None, queue: str | None, json: bool) -> None:
    """Why a job is where it is: what holds it there, most decisive first, then what tells more of it."""
    if (id is None) == (key is None):
        raise click.UsageError("give the id of a job, or --unique KEY (one of the two)")
    if key is not None:
        what = f"job that holds the unique key {key!r}"
        name, held = await find(scheduler, queue, what, lambda name: scheduler.jobs.holder(key, queue=name))
        id = held[1]
        found = [key_taken(key, name, held), *await scheduler.jobs.reasons(id, queue=name)]
    else:
        name, _ = await _find_job(scheduler, str(id), queue)
        found = [*await scheduler.jobs.reasons(str(id), queue=name)]
    if json:
        show_json({"id": id, "queue": name, "why": sentence(found), "reasons": found})
    else:
        show_record([(str(id), "\n".join(reason.text for reason in found))])


@command.command("result")
@click.argument("id")
@click.option("--wait", type=click.FloatRange(0), default=0.0, metavar="SECONDS", help="Wait so long for its end.")
@queue_option(IN_ANY_QUEUE)
@json_option
@with_store()
async def result(scheduler: Scheduler, id: str, wait: float, queue: str | None, json: bool) -> None:
    """What a job returned, if it was pushed or declared with keep_result."""

    async def look(name: str) -> str | None:
        shard = scheduler.shard(name)
        if await shard.result(id) is not None:
            return "kept"
        record = (await shard.get([id]))[0]
        return record.state if record is not None else None

    name, state = await find(scheduler, queue, f"job or result {id!r}", look)
    if state in ("pending", "leased") and not wait:
        raise click.ClickException(f"job {id!r} has not ended, it is {state}; --wait SECONDS waits for it")
    await show_result(JobHandle(scheduler, name, id, "", None), wait or None, json)


async def show_result(job: JobHandle[Any], timeout: float | None, json: bool) -> None:
    """Print what a job returned. Raises ClickException if it failed, ResultTimeout if it has not ended in time."""
    try:
        value = await job.result(timeout)
    except JobFailed as error:
        if json:
            show_json({"id": job.id, "queue": job.queue, "reason": error.reason, "error": error.error})
        raise click.ClickException(str(error)) from error
    if json:
        show_json({"id": job.id, "queue": job.queue, "result": value})
    else:
        click.echo(as_json(value))
