"""`duly push`: one job, or many from lines of JSON; with the options of tasks as flags."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import IO, Any, TypeVar

import click
import msgspec

from duly.cli.connection import with_store
from duly.cli.grouping import json_option
from duly.cli.jobs import show_result
from duly.cli.output import progress, show_json
from duly.core.job import OPTION_NAMES, Options, Unique, make_options
from duly.core.retry import Retry
from duly.errors import nearest
from duly.scheduler import Scheduler
from duly.task import Call, JobRequest
from duly.views.words import counted, printable

T = TypeVar("T")


def parse(text: str) -> Any:
    """JSON; what is not JSON is a text."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def parse_moment(_ctx: click.Context, _param: click.Parameter, text: str | None) -> float | datetime | None:
    """Epoch seconds, or an ISO date and time with its zone."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no moment: give 2026-03-01T09:00+01:00, or epoch seconds") from None
    if moment.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no zone: append its offset, such as +01:00, or Z for UTC")
    return moment


def _parse_kw(_ctx: click.Context, _param: click.Parameter, given: Sequence[str]) -> dict[str, Any]:
    kwargs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{text!r} is not NAME=VALUE")
        kwargs[name] = parse(value)
    return kwargs


def _parse_value(_ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
    """An option that takes a number, true, a text, or an object for the class of that name."""
    value = None if text is None else parse(text)
    kind = {"retry": Retry, "unique": Unique}.get(param.name or "")
    if not isinstance(value, Mapping) or kind is None:
        return value
    for name in value:
        if name not in kind.__struct_fields__:
            raise click.BadParameter(f"{kind.__name__} has no {name!r}; {nearest(name, kind.__struct_fields__)}")
    return kind(**value)


class PushCommand(click.Command):
    """Says how to push an argument that looks like an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if re.match(r"-\.?\d", error.option_name):
                raise click.UsageError(
                    f"{error.option_name} looks like an option; put -- before the arguments", ctx
                ) from error
            raise


FLAGS = (
    click.option("--kw", "kwargs", multiple=True, metavar="NAME=VALUE", callback=_parse_kw,
                 help="A named argument; may be given several times."),
    click.option("--delay", type=float, metavar="SECONDS", help="Run it so long after the push."),
    click.option("--at", metavar="MOMENT", callback=parse_moment,
                 help="Run it then: ISO date and time with zone, or epoch seconds."),
    click.option("--queue", "-q", metavar="NAME"),
    click.option("--priority", type=int, metavar="0-3", help="0 goes first."),
    click.option("--id", metavar="ID", help="An id of your own: a known one is not pushed twice."),
    click.option("--replace", is_flag=True, default=None, help="Replace a pending job of this --id."),
    click.option("--unique", metavar="KEY|SECONDS|true", callback=_parse_value,
                 help="No second job while the first lives: by key, for a time, or by task and arguments."),
    click.option("--retry", metavar="N|JSON", callback=_parse_value,
                 help='Retries after the first run, or an object such as {"limit": 3, "delay": 5}.'),
    click.option("--retry-timeout", type=float, metavar="SECONDS", help="A lease of this length, and retries without end."),
    click.option("--timeout", type=float, metavar="SECONDS", help="A run that takes longer has failed."),
    click.option("--lease", type=float, metavar="SECONDS"),
    click.option("--delivery", type=click.Choice(["at_least_once", "at_most_once"])),
    click.option("--expires", type=float, metavar="SECONDS", help="Do not run it later than this after the push."),
    click.option("--keep-result", metavar="SECONDS|true", callback=_parse_value, help="Keep what it returns."),
    click.option("--max-crashes", type=int, metavar="N"),
)  # fmt: skip


def _with_flags(function: Any) -> Any:
    for flag in reversed(FLAGS):
        function = flag(function)
    return function


@click.command("push", cls=PushCommand)
@click.argument("task")
@click.argument("args", nargs=-1, metavar="[ARG]...")
@_with_flags
@click.option(
    "--wait",
    is_flag=False,
    flag_value="inf",
    type=click.FloatRange(0),
    metavar="[SECONDS]",
    help="Wait for the end, at most so long, and print the result; keeps it. Put it last, or write --wait=30.",
)
@click.option("--many", type=click.File("rb"), metavar="FILE",
              help="A job for each line of FILE (- is stdin): a JSON list of arguments, or an object of named ones.")  # fmt: skip
@json_option
@with_store(creates=True)
async def command(scheduler: Scheduler, task: str, args: tuple[str, ...], kwargs: dict[str, Any],
                  wait: float | None, many: IO[bytes] | None, json: bool, **options: Any) -> None:  # fmt: skip
    """Push a job of TASK; prints its id.

    ARG is JSON; what is not JSON is a text: 42 is a number, '"42"' and order-42 are texts. Negative numbers come after
    --. With --scheduler the task must be known there and the arguments are checked; else any node may know it.
    """
    if wait is not None and options["keep_result"] is None:
        options["keep_result"] = True
    call = _call(scheduler, task, options)
    if many is not None:
        if args or kwargs or options["id"] or wait is not None:
            raise click.UsageError("--many takes its arguments from the lines: give no ARG, --kw, --id or --wait")
        await _push_many(scheduler, call, many, json)
        return
    job = await scheduler.push_request(call.job(*(parse(text) for text in args), **kwargs))
    if not job.created:
        click.echo(f"duly: nothing was written: job {printable(job.id)} is known, and {job.answer}", err=True)
    if wait is None:
        if json:
            show_json({"id": job.id, "queue": job.queue, "answer": job.answer})
        else:
            click.echo(printable(job.id))
        return
    await show_result(job, wait if math.isfinite(wait) else None, json)


def _call(scheduler: Scheduler, task: str, options: Mapping[str, Any]) -> Call[..., Any]:
    """The task with its options; without an application's scheduler, of any name."""
    remote = click.get_current_context().params["target"] is None
    name, handler = scheduler.resolve(task, remote=remote)
    declared = handler.options if handler is not None else Options()
    given = {option: options[option] for option in OPTION_NAMES if option in options}
    return Call(scheduler, name, handler, declared, make_options(given))


async def _push_many(scheduler: Scheduler, call: Call[..., Any], lines: IO[bytes], json: bool) -> None:
    with progress("pushing") as advance:

        def requests() -> Iterator[JobRequest]:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    args, kwargs = _arguments(number, line)
                    yield call.job(*args, **kwargs)
                    advance(1)

        ids = await scheduler.push_many(requests())
    if json:
        show_json({"pushed": len(ids), "ids": ids})
    else:
        click.echo(f"pushed {counted(len(ids), 'job')} of task {call.task!r} to queue {call.queue!r}")


def _arguments(number: int, line: bytes) -> tuple[list[Any], dict[str, Any]]:
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise click.UsageError(f"line {number} is not JSON: {error}") from None
    if not isinstance(found, list | dict):
        raise click.UsageError(f"line {number} is neither a list of arguments nor an object of named ones")
    return (found, {}) if isinstance(found, list) else ([], found)
