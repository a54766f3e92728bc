"""``search``: find documents and commands by meaning."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omnimemory.cli.opening import current_settings, open_memory
from omnimemory.cli.options import examples, json_option, null_option
from omnimemory.cli.output import (
    EMPTY,
    Cell,
    flat,
    is_empty,
    note,
    print_json,
    print_null,
    print_table,
    shorten,
    visible,
    wants_json,
)

if TYPE_CHECKING:
    from omnimemory.records import Hit, Hits

__all__ = ["place", "search"]

_MOST_LINES = 6
_MOST_CHARACTERS = 280
_MOST_BYTES = 32 * 2**20


@click.command(
    short_help="Find documents and commands by meaning.",
    epilog=examples(
        "omnimemory search undo the last commit --kind commands",
        'omnimemory search "why is the deploy slow" -k 3',
        "omnimemory search backup --where '{\"exit_code\": 0}' --json | jq .text",
    ),
)
@click.argument("query", nargs=-1, required=True)
@click.option("-k", "--top-k", "k", type=click.IntRange(1, 10_000), help="How many hits; search.k when omitted.")
@click.option("--kind", type=click.Choice(["documents", "commands"]), help="Only one kind; both when omitted.")
@click.option("--mode", type=click.Choice(["hybrid", "vector", "keyword"]), help="search.mode when omitted.")
@click.option("--where", metavar="JSON", help='Filter on metadata, in Chroma\'s syntax or as {"key": value}.')
@click.option("--min-score", type=click.FloatRange(-1, 1), help="Leave out hits less similar than this.")
@click.option("--explain", is_flag=True, help="Say how each hit was found, and how long it took.")
@null_option
@json_option
def search(
    *, query: tuple[str, ...], where: str | None, explain: bool, null: bool, as_json: bool, **options: Any
) -> None:
    """Find documents and commands by meaning. The score is a cosine similarity: 1 is the same, 0 is unrelated."""
    words = " ".join(query).strip()
    if not words:
        raise click.UsageError("the query is empty: say what to search for.")
    wanted = _where(where)
    settings = current_settings()
    from omnimemory.sources.spool_folder import spool_folder, spool_waits  # noqa: PLC0415 - keeps `--help` light
    from omnimemory.storage.store_folder import store_exists  # noqa: PLC0415 - as above

    path = settings.store.path
    if not store_exists(path) and not spool_waits(
        spool_folder(path)
    ):  # opening it would make it, also where the path is a slip of the pen
        note(f"There is no memory at {settings.store.path}. {EMPTY}")
        return
    with open_memory(settings) as memory:
        hits = memory.search(words, where=wanted, explain=explain, **options)
        empty = not hits and is_empty(memory.status())
    if null:
        print_null(hit.text for hit in hits)
    else:
        _print_hits(hits, wants_json(as_json), explain)
    if not hits:
        note(EMPTY if empty else "Nothing found.")
    if hits.degraded:
        note(f"degraded: {hits.degraded}")
    if hits.explain is not None:
        note("\n".join(f"{key}: {value}" for key, value in flat(hits.explain)))


def _where(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        where = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"{text!r} is not JSON: {error}.", param_hint="'--where'") from error
    if not isinstance(where, dict):
        raise click.BadParameter('it must be a JSON object such as {"exit_code": 0}.', param_hint="'--where'")
    return where


def _print_hits(hits: Hits, as_json: bool, explain: bool) -> None:
    if as_json:
        for hit in hits:
            print_json(hit.to_dict())
    elif hits:
        print_table(("score", "text"), (_row(hit, explain) for hit in hits), numbers=("score",))


def _row(hit: Hit, explain: bool) -> tuple[Cell, ...]:
    score = "-" if hit.score is None else f"{hit.score:.3f}"
    ranks = ", ".join(f"{name} rank {rank}" for name, rank in hit.ranks.items()) if explain else ""
    return (score, (_shown(hit), "; ".join(part for part in (place(hit), ranks) if part)))


def _shown(hit: Hit) -> str:
    if hit.kind != "commands":
        return shorten(hit.snippet or hit.text, _MOST_CHARACTERS)
    lines = visible(hit.text).split("\n")
    return "\n".join(lines[:_MOST_LINES] + ["…"] * (len(lines) > _MOST_LINES))


def place(hit: Hit) -> str:
    """Say where a hit is from: a file and line, or how often, and when and where last, a command ran."""
    if hit.kind == "commands":
        count, last = hit.metadata.get("count"), hit.metadata.get("last")
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(last)) if last else ""
        folder = visible(_short_path(hit.metadata.get("cwd") or ""), multiline=False)
        return ", ".join(part for part in (f"{count:,}x" if count else "", when, folder) if part)
    if not hit.source:
        return ""
    line = _line(hit)
    return visible(_short_path(hit.source), multiline=False) + (f":{line}" if line else "")


def _short_path(source: str) -> str:
    for base, prefix in ((Path.cwd(), ""), (Path.home(), "~/")):
        if source.startswith(f"{base}/"):
            return prefix + source[len(str(base)) + 1 :]
    return source


def _line(hit: Hit) -> int | None:
    # A line is told only while the file still holds the hit there: the offsets of a page's text are not the page's.
    path = Path(hit.source or "")
    try:
        if hit.start is None or not path.is_absolute() or not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return None
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        return None
    if text[hit.start : hit.start + len(hit.text)] != hit.text:
        return None
    return text.count("\n", 0, hit.start) + 1
