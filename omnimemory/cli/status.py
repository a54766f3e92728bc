"""``status`` and ``cache``: what there is, and where."""

from __future__ import annotations

import click

from omnimemory.cli.opening import open_memory
from omnimemory.cli.options import examples, json_option
from omnimemory.cli.output import EMPTY, is_empty, note, print_json, print_record, wants_json

__all__ = ["cache", "status"]


@click.command(
    short_help="Show what the memory holds and where it is.",
    epilog=examples(
        "omnimemory status",
        "omnimemory --store ~/work.mem status --json",
    ),
)
@json_option
def status(as_json: bool) -> None:
    """Show what the memory holds and where it is."""
    with open_memory() as memory:
        state = memory.status()
    if wants_json(as_json):
        print_json(state)
        return
    print_record(state)
    if is_empty(state):
        note(EMPTY)


@click.group(
    short_help="Look at the cache of vectors, or empty it.",
    epilog=examples(
        "omnimemory cache stats",
        "omnimemory cache clear",
    ),
)
def cache() -> None:
    """Look at the cache of vectors, or empty it.

    It keeps each vector that was ever computed, for all memories of this user. Losing it loses nothing but time.
    """


@cache.command(
    epilog=examples(
        "omnimemory cache stats",
        "omnimemory cache stats --json",
    )
)
@json_option
def stats(as_json: bool) -> None:
    """Show how many vectors the cache holds and how often it was used."""
    with open_memory() as memory:
        figures = memory.cache.stats()
    if wants_json(as_json):
        print_json(figures)
    else:
        print_record(figures)


@cache.command(
    epilog=examples(
        "omnimemory cache clear",
    )
)
@json_option
def clear(as_json: bool) -> None:
    """Empty the cache. Memories keep their own vectors; only new work becomes slower."""
    with open_memory() as memory:
        removed = memory.cache.clear()
    if wants_json(as_json):
        print_json({"removed": removed})
    else:
        click.echo(f"{removed:,} vectors removed")
