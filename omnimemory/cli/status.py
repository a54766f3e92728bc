"""``status`` and ``cache``: what there is, and where."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from omnimemory.cli.opening import current_settings, open_memory
from omnimemory.cli.options import examples, json_option
from omnimemory.cli.output import EMPTY, is_empty, note, print_json, print_record, wants_json

if TYPE_CHECKING:
    from omnimemory.config import Settings
    from omnimemory.storage.cache import EmbeddingCache

__all__ = ["cache", "status"]


@click.command(
    short_help="Show what the memory holds and where it is.",
    epilog=examples(
        "omnimemory status",
        "omnimemory --store ~/work.mem status --json",
        "omnimemory status --watch",
    ),
)
@click.option("--watch", "live", is_flag=True, help="Show memory, models and decisions as they are, until Ctrl-C.")
@click.option("--every", type=click.FloatRange(0.2, 3600), default=1.0, metavar="SECONDS", help="How often (1).")
@json_option
def status(live: bool, every: float, as_json: bool) -> None:
    """Show what the memory holds and where it is. One that is not there is not made.

    With --watch: memory and its pressure, the models of all processes, what they were promised, the last decisions; as
    one line of JSON, once, where there is no terminal.
    """
    from omnimemory.storage.store_folder import store_exists  # noqa: PLC0415 - keeps `--help` light

    settings = current_settings()
    if live:
        _watch(settings, every, as_json=as_json)
        return
    if store_exists(settings.store.path):
        with open_memory(settings) as memory:
            state = memory.status()
    else:
        state = _absent(settings)
    if wants_json(as_json):
        print_json(state)
        return
    print_record(state)
    if is_empty(state):
        note(EMPTY)


def _watch(settings: Settings, every: float, *, as_json: bool) -> None:
    from omnimemory.cli.watch import snapshot, watch  # noqa: PLC0415 - keeps `--help` light

    if wants_json(as_json):
        from omnimemory.scheduler.machine import Machine  # noqa: PLC0415 - as above

        print_json(snapshot(settings, Machine()))
    else:
        watch(settings, every)


def _absent(settings: Settings) -> dict[str, Any]:
    """Return the status of a memory that does not exist yet: that of an empty one, without a model."""
    from omnimemory.upkeep import state_of  # noqa: PLC0415 - keeps `--help` light
    from omnimemory.wiring import embedding_service  # noqa: PLC0415 - as above

    service = embedding_service(settings, None)
    counts = {"sources": 0, "pending": 0}
    index = {"enabled": settings.index.enabled, "generation": None, "waiting": 0, "open": False, "holder": None}
    store = {
        "path": str(settings.store.path),
        "model": None,
        "dim": None,
        "documents": {**counts, "chunks": 0},
        "commands": {**counts, "commands": 0, "events": 0},
        "index": index,
        "bytes": 0,
    }
    with closing(service):
        return state_of(settings, service, store)


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
    with _cache() as opened:
        figures = opened.stats()
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
    with _cache() as opened:
        removed = opened.clear()
    if wants_json(as_json):
        print_json({"removed": removed})
    else:
        click.echo(f"{removed:,} vectors removed")


def _cache() -> EmbeddingCache:
    from omnimemory.errors import ConfigError  # noqa: PLC0415 - keeps `--help` light
    from omnimemory.wiring import embedding_cache  # noqa: PLC0415 - as above

    found = embedding_cache(current_settings())
    if found is None:
        raise ConfigError("The cache is switched off (cache.enabled = false).")
    return found
