"""``next``: which command probably comes next. It prints suggestions and runs none."""

from __future__ import annotations

from pathlib import Path

import click

from omnimemory.cli.opening import current_settings, open_memory
from omnimemory.cli.options import examples, folder_meant, json_option, null_option
from omnimemory.cli.output import EMPTY, note, print_json, print_null, print_table, visible, wants_json

__all__ = ["next_command"]


@click.command(
    "next",
    short_help="Say which command probably comes next.",
    epilog=examples(
        "omnimemory next",
        'omnimemory next "git add ." --cwd ~/project',
        'omnimemory next "make test" --failed --json | jq -r .command',
    ),
)
@click.argument("context", nargs=-1, metavar="[COMMAND]...")
@click.option("-k", "--top-k", "k", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many.")
@click.option("--cwd", type=click.Path(path_type=Path), help="Where it will run; the current folder when omitted.")
@click.option("--worked/--failed", "ok", default=None, help="How the last command ended, if that is known.")
@null_option
@json_option
def next_command(
    *, context: tuple[str, ...], k: int, cwd: Path | None, ok: bool | None, null: bool, as_json: bool
) -> None:
    """Say which command probably comes next after the given ones, or after those that were recorded last.

    Each COMMAND is one argument, the last one last. It is learnt from your shell histories; nothing is run.
    """
    settings = current_settings()
    if not settings.store.path.exists():
        note(f"There is no memory at {settings.store.path}. {EMPTY}")
        return
    with open_memory(settings) as memory:
        found = memory.next_command(list(context) or None, cwd=folder_meant(cwd), ok=ok, k=k)
    if null:
        print_null(prediction.command for prediction in found)
    elif wants_json(as_json):
        for prediction in found:
            print_json(prediction.to_dict())
    elif found:
        rows = ((f"{one.probability:.0%}", (visible(one.command), visible(one.why))) for one in found)
        print_table(("likely", "command"), rows, numbers=("likely",))
    if not found:
        note("No shell history is stored yet. Begin with: omnimemory ingest-history")
