"""``completion``: the script that completes commands, options and values in a shell."""

from __future__ import annotations

import os
from pathlib import Path

import click

from omnimemory.cli.options import examples

__all__ = ["completion"]

_SHELLS = ("bash", "zsh", "fish")


@click.command(
    short_help="Print the script that completes commands in your shell.",
    epilog=examples(
        "omnimemory completion bash >> ~/.bashrc",
        "omnimemory completion zsh >> ~/.zshrc",
        "omnimemory completion fish > ~/.config/fish/completions/omnimemory.fish",
    ),
)
@click.argument("shell", required=False, type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str | None) -> None:
    """Print the script that completes commands in your shell; SHELL is that of $SHELL when omitted."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - only this command needs it

    name = shell or Path(os.environ.get("SHELL", "")).name
    kind = get_completion_class(name) if name in _SHELLS else None
    if kind is None:
        raise click.UsageError(f"which shell? Say one of {', '.join(_SHELLS)}.")
    click.echo(kind(ctx.find_root().command, {}, "omnimemory", "_OMNIMEMORY_COMPLETE").source())
