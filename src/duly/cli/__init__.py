"""The command line: one file per command, loaded when it is asked for; every failure is one line on stderr.

A command is a module of this package, named in COMMANDS, that holds a click command called `command`. It raises
click.UsageError for what was asked wrongly (exit code 2), and lets the errors of its work pass (exit code 1).
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

import duly
from duly.views.words import printable

COMMANDS = (
    "demo", "worker", "push", "jobs", "schedules", "queues", "shards", "nodes", "ring", "dashboard", "next",
    "doctor", "bench", "completion",
)  # fmt: skip
"""In the order in which the help shows them."""


class Commands(click.Group):
    """All commands, each imported when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"duly.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = ctx.resilient_parsing or args[0].startswith("-") or args[0] in COMMANDS  # a shell completes in silence
        if not known:
            raise click.UsageError(f"there is no command {args[0]!r}; {duly.errors.nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


EPILOG = """\b
Exit codes: 0 done, 1 failed (no such job, no answer from the store),
            2 asked wrongly, 130 interrupted.
Tables are for people; --json prints one document for programs.
To complete commands with the TAB key: duly completion --help"""


@click.group(
    cls=Commands,
    invoke_without_command=True,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(duly.__version__, message="%(prog)s %(version)s")
@click.pass_context
def commands(ctx: click.Context) -> None:
    """A distributed job scheduler: jobs now, later and on a schedule, on any number of equal nodes."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None, *, prog_name: str = "duly", **context: Any) -> NoReturn:
    """The console script. Ends the process: 0 done, 1 failed, 2 asked wrongly, 130 interrupted.

    context: settings of click's context, for a command line that holds this one (`manage.py duly`).
    """
    try:
        code = commands.main(arguments, prog_name=prog_name, standalone_mode=False, **context)
    except click.Abort:
        code = 130
    except click.ClickException as error:
        code = fail(error, error.format_message(), error.exit_code)
    except Exception as error:
        code = fail(error, str(error) or type(error).__name__, 1)
    sys.exit(code if isinstance(code, int) else 0)


def fail(error: Exception, sentence: str, code: int) -> int:
    """Says what is wrong in one line, whatever line breaks the sentence has; returns the code."""
    click.echo(f"duly: {printable(' '.join(sentence.split()))}", err=True)
    logging.getLogger("duly").debug("where that came from:", exc_info=error)
    return code
