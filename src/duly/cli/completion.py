"""`duly completion`: the script that lets a shell complete commands, options and their values."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print what makes SHELL complete duly's commands.

    \b
    bash:  eval "$(duly completion bash)"             in ~/.bashrc
    zsh:   eval "$(duly completion zsh)"              in ~/.zshrc
    fish:  duly completion fish > ~/.config/fish/completions/duly.fish
    """
    maker = get_completion_class(shell)
    assert maker is not None, shell
    root = ctx.find_root()
    click.echo(maker(root.command, {}, "duly", "_DULY_COMPLETE").source())
