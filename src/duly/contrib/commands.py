"""The command line inside that of a framework: `manage.py duly …`, `flask duly …`, with the application's own scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import click

from duly.cli import commands, main


def run_command(arguments: Sequence[str], target: str, **context: Any) -> NoReturn:
    """`duly ARGUMENTS…`, with the scheduler `target` (MODULE:ATTRIBUTE) wherever none is named. Ends the process, as
    `duly` does. context: see `duly.cli.main`."""
    name = next(iter(arguments), "")
    command = commands.get_command(click.Context(commands), name)
    defaults = {} if command is None else {name: _defaults(command, target)}
    main(list(arguments), default_map=defaults, **context)


def _defaults(command: click.Command, target: str) -> dict[str, Any]:
    """The default of the parameter `target`, for a command or all those of a group."""
    if isinstance(command, click.Group):
        return {name: _defaults(one, target) for name, one in command.commands.items()}
    return {"target": target}
