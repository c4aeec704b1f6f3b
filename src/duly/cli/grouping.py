"""Commands of commands: a bare `duly jobs` lists, and a name that is not there is answered with the nearest one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from duly.errors import nearest

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "json", is_flag=True, help="One JSON document; moments in epoch seconds.")


def queue_option(help: str) -> Callable[[F], F]:
    """`--queue`, not given by default."""
    return click.option("-q", "--queue", metavar="NAME", help=help)


class ListedGroup(click.Group):
    """A group whose command `list` runs if no other is named: `duly jobs --state dead` is `duly jobs list --state dead`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = args[0] if args else "-"
        # Not while the shell completes: `duly jobs <TAB>` asks for the commands of the group.
        if not ctx.resilient_parsing and first.startswith("-") and first not in ctx.help_option_names:
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not ctx.resilient_parsing and args[0] not in self.commands:
            raise click.UsageError(f"there is no command {args[0]!r}; {nearest(args[0], self.commands)}", ctx)
        return super().resolve_command(ctx, args)
