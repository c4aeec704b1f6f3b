"""`duly worker app:scheduler`: a process that runs an application's jobs until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from duly.cli.application import find_scheduler
from duly.cli.reload import require_watchfiles
from duly.errors import ConfigurationError
from duly.runtime.logs import FORMATS, set_up_logging
from duly.runtime.recycling import MOST

F = TypeVar("F", bound=Callable[..., Any])
RELOAD_GRACE = 1.0
"""Seconds that running jobs get with --reload, unless --grace says otherwise."""
MOST_PORT = 65_535
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
FLAGS: tuple[tuple[str, Any, str], ...] = (
    ("url", str, "Where state lives, such as redis://localhost:6379/0."),
    ("namespace", str, "Separates applications that share a store."),
    ("queues", "a,b", "The queues to serve."),
    ("concurrency", int, "Jobs that one process runs at once."),
    ("threads", int, "Threads for sync handlers."),
    ("children", int, 'Child processes for handlers with executor="process".'),
    ("child_jobs", int, "Runs after which a child process is replaced."),
    ("child_memory", int, "Megabytes above which a child process is replaced."),
    ("lease", float, "Seconds after which the jobs of a silent node are run elsewhere."),
    ("grace", float, "Seconds that running jobs get at a stop."),
    ("poll", float, "Seconds between two looks of an idle node that nobody woke."),
    ("tags", "a,b", "Labels of this node."),
    ("app", str, "Whose schedules, among those declared in code, these are."),
    ("history", int, "Entries that the history streams keep."),
    ("remember", float, "Seconds that ids given by users stay known after their end."),
    ("unfit_for", float, "Seconds after which a job whose arguments fit no handler is dead."),
    ("push_timeout", float, "Seconds that a push waits for a store that is away."),
    ("master", int, "Which of several servers has locks and membership: an index from 0."),
    ("reconnect_interval", float, "Seconds between two tries to reach a server that is away, at most."),
    ("durability", str, "replicated: what is pushed, fired or started is on a replica first; else local."),
    ("start_timeout", float, "Seconds that the start waits for a store that is away; without, it fails at once."),
    ("measures", bool, "Whether runs are counted, for /metrics and the history of the last hours; they are."),
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
        elif kind is bool:
            command = click.option(f"{flag}/--no-{flag[2:]}", default=None, help=help)(command)
        else:
            command = click.option(flag, type=kind, help=help)(command)
    return command


@click.command("worker")
@click.argument("target", metavar="MODULE:ATTRIBUTE")
@with_settings
@click.option(
    "--processes",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Worker processes that this one starts and keeps running, each with --concurrency slots of its own.",
)
@click.option(
    "--max-jobs",
    type=click.IntRange(1, MOST),
    metavar="N",
    help="Jobs (10 % more or less) after which a worker process stops gracefully, to be started afresh.",
)
@click.option(
    "--max-memory",
    type=click.IntRange(1, MOST),
    metavar="MB",
    help="Megabytes above which a worker process stops gracefully, to be started afresh.",
)
@click.option(
    "--reload", is_flag=True, help="For development: start afresh when a *.py file below the current directory changes."
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, MOST_PORT),
    metavar="PORT",
    envvar="DULY_METRICS_PORT",
    help="Serve /metrics, /live and /ready there; with --processes, worker i (from 0) takes PORT + i. 0: any free one.",
)
@click.option(
    "--metrics-host",
    default="127.0.0.1",
    show_default=True,
    metavar="HOST",
    envvar="DULY_METRICS_HOST",
    help="The address for --metrics-port; 0.0.0.0 is every one.",
)
@click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="INFO",
    show_default=True,
    help="The least level that is logged; DEBUG shows where errors come from.",
)
@click.option(
    "--log-format",
    type=click.Choice(FORMATS, case_sensitive=False),
    default="text",
    show_default=True,
    envvar="DULY_LOG_FORMAT",
    help="json: one object a line, with the job that it is about.",
)
@click.option("--supervisor", type=int, hidden=True)  # the descriptor of the link, for `Scheduler.run`
def command(target: str, processes: int | None, reload: bool, log_level: str, log_format: str, max_jobs: int | None,
            max_memory: int | None, supervisor: int | None, metrics_port: int | None, metrics_host: str,
            **settings: Any) -> int:  # fmt: skip
    """Run the jobs of an application.

    MODULE:ATTRIBUTE names its scheduler, such as app:scheduler; the module is imported as from the current directory.
    Flags win over what its code says.

    SIGTERM or Ctrl-C stops gracefully: no new jobs, --grace seconds for those that run, and what is not done by then
    is handed back for other nodes. A second one ends at once.

    With --processes, this process is a supervisor: it starts a successor for each worker that ends, passes SIGTERM and
    Ctrl-C on, and replaces the workers one by one at SIGHUP. Should it die itself, its workers stop gracefully.
    Without, a process that --max-jobs or --max-memory stopped is started afresh by what runs it (systemd, Kubernetes).

    \b
    Exit codes:
      0      stopped as asked, or by --max-jobs or --max-memory
      1      failed: the application raised at its import, the store did not answer
      2      asked wrongly: no such module or scheduler, a value out of its range
      128+N  ended at once by a second signal, number N
    """
    is_parent = processes is not None or reload
    set_up_logging(log_level, log_format, with_pid=is_parent or supervisor is not None)
    limits = {"max_jobs": max_jobs, "max_memory": max_memory}
    if is_parent:
        logs = {"log_level": log_level, "log_format": log_format}
        where = {} if metrics_port is None else {"metrics_host": metrics_host}
        return supervise(target, processes or 1, reload, settings | limits | logs | where, metrics_port)
    scheduler = find_scheduler(target)
    try:
        scheduler.configure(**settings)
        if metrics_port is not None:
            from duly.cli.endpoints import Endpoints

            Endpoints(scheduler, metrics_host, metrics_port).start()
        scheduler.run(max_jobs=max_jobs, max_memory=max_memory, supervisor=supervisor)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    return 0


def supervise(target: str, processes: int, reload: bool, flags: dict[str, Any], metrics_port: int | None = None) -> int:
    """Be the parent of worker processes that get these flags, and each a port of its own; the exit code."""
    from duly.cli.supervisor import Supervisor, require_posix

    require_posix()
    if reload:
        require_watchfiles()
        flags = {**flags, "grace": RELOAD_GRACE if flags.get("grace") is None else flags["grace"]}
    arguments = [target]
    for name, value in flags.items():
        if value is not None:
            arguments.append(as_flag(name, value))
    if metrics_port and metrics_port + processes - 1 > MOST_PORT:
        raise click.UsageError(f"--metrics-port={metrics_port}: {processes} ports from there go beyond {MOST_PORT}")
    root = Path.cwd() if reload else None
    return asyncio.run(Supervisor(target, processes, arguments, root, metrics_port).run())


def as_flag(name: str, value: Any) -> str:
    """A setting as it is given on the command line."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag}={','.join(value) if isinstance(value, tuple) else value}"
