"""Writes the pages of docs/reference that are made from the code: the command line, the settings, the options of tasks, the
events, the errors; `--check` only compares."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path

import click

from duly import config, errors
from duly.cli import COMMANDS, commands
from duly.cli.worker import FLAGS
from duly.config import Config
from duly.core.events import NAMES
from duly.core.job import DECLARED_OPTIONS, OPTION_NAMES, RUN_OPTIONS
from duly.recurring import FORBIDDEN, SCHEDULE_OPTIONS

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
WIDTH = 100
MADE = "<!-- Made by tools/reference.py: change the code, not this page. -->\n"

OPTIONS = {
    "name": ("text", "the task's name, by default its function's. Of `@scheduler.task` alone"),
    "queue": ("text", "the line in which the job waits; `default`"),
    "priority": ("0 to 3", "0 goes first; 1 if none is given. [Priorities](../priorities.md)"),
    "delay": ("seconds, timedelta", "run it so long after the push"),
    "at": ("aware datetime, epoch seconds", "run it then; instead of `delay`"),
    "id": ("text", "an id of your own: a known one is not pushed twice. [Unique jobs](../unique.md)"),
    "replace": ("bool", "with `id`: a pending job of this id is replaced"),
    "unique": ("True, key, seconds, `Unique(…)`", "no second job of this key while the first lives"),
    "retry": (
        "`Retry(…)`, number, bool",
        "when a failed run is tried again: `Retry(limit=3, delay=5)` if none is given",
    ),
    "retry_timeout": ("seconds", "stands for `lease` of this length and retries without end at this distance"),
    "timeout": ("seconds, timedelta", "a run that takes longer has failed; none if none is given"),
    "lease": ("seconds, timedelta", "how long a silent node keeps the job; the node's `lease` if none is given"),
    "delivery": ("text", '`"at_least_once"` (default) or `"at_most_once"`. [Retries](../retries.md#at-most-once)'),
    "expires": ("seconds, timedelta", "a job that has not begun so long after its push ends without a run"),
    "keep_result": ("bool, seconds", "keep what the handler returns; True is an hour. [Results](../results.md)"),
    "max_crashes": ("number", "nodes that may be lost with this job before it is dead; 3"),
    "executor": ("text", '`"thread"` (default) or `"process"`. [Running jobs](../running.md#where-handlers-run)'),
}
FACTS = {
    "online": "this node runs; the store is there (`node`, `url`)",
    "offline": "this node has stopped, or its master is away",
    "disconnected": "the store does not answer (`server` among several)",
    "reconnected": "it does again",
    "job.started": "a run begins here",
    "job.ended": "a job has ended",
    "job.retried": "a run has failed, and is tried again",
    "job.dead": "a job has failed for good",
    "job.taken": "the lease of a run here was taken: another node has the job",
    "job.unfit": "a job that this node cannot run was put back",
    "tick.fired": "a schedule has made a job",
    "tick.skipped": "a tick was left out, and why",
    "node.gap": "the store was away, or its clock jumped, for more than half a lease",
    "node.clock": "the store's clock went backwards",
    "node.hung": "threads that were abandoned keep their slots",
    "node.failover": "another process of the server answers",
}


def pages() -> dict[str, str]:
    """Text by file name."""
    return {
        "cli.md": "".join(command_line()),
        "settings.md": "".join(settings()),
        "options.md": "".join(options()),
        "events.md": "".join(events()),
        "errors.md": "".join(error_tree()),
    }


def command_line() -> Iterator[str]:
    """What `--help` says of each command."""
    yield f"{MADE}# Command line\n\nAs each command's `--help` says it. `python -m duly` is the same.\n"
    root = click.Context(commands, info_name="duly")
    yield f"\n```text\n{help_of(commands, root)}\n```\n"
    for name in COMMANDS:
        command = commands.get_command(root, name)
        assert command is not None
        yield from command_and_below(command, click.Context(command, info_name=name, parent=root), "##")


def command_and_below(command: click.Command, context: click.Context, marks: str) -> Iterator[str]:
    yield f"\n{marks} {context.command_path}\n\n```text\n{help_of(command, context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from command_and_below(inner, click.Context(inner, info_name=name, parent=context), f"{marks}#")


def help_of(command: click.Command, context: click.Context) -> str:
    formatter = click.HelpFormatter(width=WIDTH, max_width=WIDTH)
    command.format_help(context, formatter)
    return "\n".join(line.rstrip() for line in formatter.getvalue().rstrip().splitlines())


def settings() -> Iterator[str]:
    """A row for each field of Config; what it does is in the docstring of the class."""
    yield f"{MADE}# Settings\n\n"
    yield "Of a node: keywords of `Scheduler(…)`, variables of the environment, flags of `duly worker`.\n"
    yield "Flags win over keywords, keywords over variables. Durations are in seconds. `DULY_URL` names the store.\n\n"
    yield "| keyword | variable | flag | default | from, to | |\n|---|---|---|---|---|---|\n"
    told, ranges, flags = told_settings(), {n: (low, high) for n, low, high in config._RANGES}, {f[0] for f in FLAGS}
    for field in fields(Config):
        name = field.name
        default = "" if field.default is MISSING else f"`{field.default!r}`"
        allowed = "{:,} to {:,}".format(*ranges[name]) if name in ranges else ""
        variable = "" if name == "logger" else f"`DULY_{name.upper()}`"
        flag = f"`--{name.replace('_', '-')}`" if name in flags else ""
        yield f"| `{name}` | {variable} | {flag} | {default} | {allowed} | {told[name]} |\n"


def told_settings() -> dict[str, str]:
    """What the docstring of Config says of each setting. Raises SystemExit for one that it does not speak of."""
    names = "|".join(f.name for f in fields(Config))
    text = " ".join((inspect.getdoc(Config) or "").split())
    parts = re.split(rf"(?:^|(?<=[.)] ))({names}): ", text)
    told = {"logger": "a `logging.Logger`.", **dict(zip(parts[1::2], parts[2::2], strict=True))}
    missing = [f.name for f in fields(Config) if f.name not in told]
    if missing:
        raise SystemExit(f"the docstring of duly.config.Config does not say what these are: {', '.join(missing)}")
    return {name: said.strip().rstrip(".").replace("|", "\\|") for name, said in told.items()}


def options() -> Iterator[str]:
    """A row for each task option, and where it may stand."""
    require(OPTIONS, OPTION_NAMES, "options")
    yield f"{MADE}# Options of tasks\n\n"
    yield "The same names in `@scheduler.task(…)`, `task.options(…)`, `scheduler.push(…)`, schedules, and `duly push`.\n"
    yield "An unknown one is refused with the nearest known name. The job carries only what was set at its push; the rest\n"
    yield "is the declaration's of the node that runs it, but for queue and priority, which are fixed at the push.\n\n"
    yield "| option | value | | declared | at a push | in a schedule |\n|---|---|---|---|---|---|\n"
    for name in OPTION_NAMES:
        value, meaning = OPTIONS[name]
        declared = name not in ("id", "at", "replace")
        pushed = name not in (*DECLARED_OPTIONS, "name")
        scheduled = pushed and name not in FORBIDDEN
        marks = " | ".join("yes" if yes else "" for yes in (declared, pushed, scheduled))
        yield f"| `{name}` | {value} | {meaning} | {marks} |\n"
    yield f"\nKept in the job when set at its push: {listed(RUN_OPTIONS)}.\n"
    yield f"\nSchedules have these besides: {listed(SCHEDULE_OPTIONS)}; see [Recurring work](../schedules.md#policies).\n"


def events() -> Iterator[str]:
    """A row for each event."""
    require(FACTS, NAMES, "events")
    yield f"{MADE}# Events\n\n"
    yield '`@scheduler.on("job.*")` hears the events of its own process: a function, async or not, that is given a\n'
    yield "`duly.Event` with `name` and `facts`. What a listener raises is logged, and disturbs nothing.\n\n"
    yield "| event | when |\n|---|---|\n"
    for name in NAMES:
        yield f"| `{name}` | {FACTS[name]} |\n"


def error_tree() -> Iterator[str]:
    """The tree that stands in the module's docstring."""
    first, _, tree = (inspect.getdoc(errors) or "").partition("\n\n")
    yield f"{MADE}# Errors\n\n{first}\n\n```text\n{tree.strip()}\n```\n"
    for name, error in vars(errors).items():
        if inspect.isclass(error) and issubclass(error, errors.DulyError):
            yield f"\n## {name}\n\n{inspect.getdoc(error)}\n"


def require(known: Iterable[str], names: tuple[str, ...], what: str) -> None:
    if set(known) != set(names):
        raise SystemExit(f"tools/reference.py does not tell of these {what}: {sorted(set(known) ^ set(names))}")


def listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        page = FOLDER / name
        if not page.exists() or page.read_text() != text:
            if "--check" in sys.argv:
                raise SystemExit(f"docs/reference/{name} is behind the code: run python -m tools.reference")
            page.write_text(text)


if __name__ == "__main__":
    main()
