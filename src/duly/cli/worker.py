"""`duly worker app:scheduler`: a process that runs an application's jobs until it is told to stop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from duly.cli.application import find_scheduler
from duly.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
FLAGS: tuple[tuple[str, Any, str], ...] = (
    ("url", str, "Where state lives, such as redis://localhost:6379/0."),
    ("namespace", str, "Separates applications that share a store."),
    ("queues", "a,b", "The queues to serve."),
    ("concurrency", int, "Jobs run at once."),
    ("threads", int, "Threads for sync handlers."),
    ("lease", float, "Seconds after which the jobs of a silent node are run elsewhere."),
    ("grace", float, "Seconds that running jobs get at a stop."),
    ("poll", float, "Seconds between two looks of an idle node that nobody woke."),
    ("tags", "a,b", "Labels of this node."),
    ("app", str, "Whose schedules, among those declared in code, these are."),
    ("history", int, "Entries that the history streams keep."),
    ("remember", float, "Seconds that ids given by users stay known after their end."),
    ("unfit_for", float, "Seconds after which a job whose arguments fit no handler is dead."),
    ("push_timeout", float, "Seconds that a push waits for a store that is away."),
)
"""(setting, its type, help): the names are those of `duly.config.Config`."""


def split(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """The names in `a,b`."""
    return None if value is None else tuple(name.strip() for name in value.split(",") if name.strip())


def with_settings(command: F) -> F:
    """A flag for each of FLAGS; one that is not given leaves the setting as the code, or DULY_…, has it."""
    for name, kind, help in reversed(FLAGS):
        flag = f"--{name.replace('_', '-')}"
        if kind == "a,b":
            command = click.option(flag, metavar="A,B", callback=split, help=help)(command)
        else:
            command = click.option(flag, type=kind, help=help)(command)
    return command


@click.command("worker")
@click.argument("target", metavar="MODULE:ATTRIBUTE")
@with_settings
@click.option("--log-level", type=click.Choice(LEVELS, case_sensitive=False), default="INFO", show_default=True,
              help="The least level that is logged; DEBUG shows where errors come from.")  # fmt: skip
def command(target: str, log_level: str, **settings: Any) -> None:
    """Run the jobs of an application.

    MODULE:ATTRIBUTE names its scheduler, such as app:scheduler; the module is imported as from the current directory.
    Flags win over what its code says.

    SIGTERM or Ctrl-C stops gracefully: no new jobs, --grace seconds for those that run, and what is not done by then
    is handed back for other nodes. A second one ends at once.
    """
    set_up_logging(log_level)
    scheduler = find_scheduler(target)
    try:
        scheduler.configure(**settings)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    scheduler.run()


class IsoFormatter(logging.Formatter):
    """Moments as 2026-03-01T12:00:00.000+00:00, whatever the machine's zone."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802  the base's name
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def set_up_logging(level: str) -> None:
    """Everything that is logged goes to stderr; an application's own set-up, made at its import, comes after this one."""
    handler = logging.StreamHandler()
    handler.setFormatter(IsoFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
