"""``reembed``: the memory moves to another embedding model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from omnimemory.cli.opening import current_settings
from omnimemory.cli.options import examples, json_option
from omnimemory.cli.output import format_bytes, format_seconds, note, print_json, visible, wants_json
from omnimemory.cli.progress import progress_on_terminal

if TYPE_CHECKING:
    from omnimemory.config import Settings
    from omnimemory.memory import Memory
    from omnimemory.reembedding.report import ReembedReport

__all__ = ["reembed"]


@click.command(
    short_help="Move the memory to another embedding model.",
    epilog=examples(
        "omnimemory reembed --model minilm --dry-run",
        "omnimemory reembed --model minilm",
        "omnimemory reembed --dim 128",
        "omnimemory reembed --confirm",
        "omnimemory reembed --undo",
    ),
)
@click.option("--model", metavar="NAME", help="The model to move to; see omnimemory models list.")
@click.option("--dim", type=click.IntRange(1), help="Components of its vectors; as many as it has when omitted.")
@click.option("--dry-run", is_flag=True, help="Say how long it would take and how much room, and do nothing.")
@click.option("--confirm", is_flag=True, help="Delete the vectors of the model before.")
@click.option("--undo", is_flag=True, help="Go back to the model before, or give up a move that was begun.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before deleting.")
@json_option
@click.pass_context
def reembed(
    ctx: click.Context,
    *,
    model: str | None,
    dim: int | None,
    dry_run: bool,
    confirm: bool,
    undo: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Move the memory to another embedding model, or to another size of vectors.

    It is searched with the old model until every text has its new vector, also by other programs; then with the new
    one. Run it again after an interruption: it goes on. The old vectors are kept until you say --confirm; --undo goes
    back to them. Cached vectors of the old model stay.
    """
    if confirm + undo + bool(model or dim) != 1:
        raise click.UsageError("say --model (or --dim), or --confirm, or --undo.")
    if dry_run and (confirm or undo):
        raise click.UsageError("--dry-run is for --model and --dim.")
    if (confirm or undo) and not yes:
        _ask(f"Delete the vectors of the {'model before' if confirm else 'other model'}")
    settings = current_settings()
    with _memory(settings) as memory, progress_on_terminal() as progress:
        report = memory.reembed(model, dim=dim, confirm=confirm, undo=undo, dry_run=dry_run, progress=progress)
        outdated = report.state in ("moved", "undone", "unchanged") and _names_another(settings, memory)
    if wants_json(as_json):
        print_json(report.to_dict())
    else:
        _tell(report)
    if outdated:
        named = f"{settings.origin('embedding.model')} names another model ({settings.embedding.model})"
        note(f"{named}: set embedding.model to auto, or to {report.after}")
    if report.degraded:
        note(report.degraded)
        ctx.exit(1)


def _memory(settings: Settings) -> Memory:
    """Open the memory with the model it has, which need not be here, whatever the settings name."""
    from omnimemory.embedders.absent import AbsentEmbedder  # noqa: PLC0415 - keeps `--help` light
    from omnimemory.errors import StoreError  # noqa: PLC0415 - as above
    from omnimemory.memory import Memory  # noqa: PLC0415 - as above
    from omnimemory.storage.recorded_space import recorded_space  # noqa: PLC0415 - as above
    from omnimemory.storage.store_folder import store_exists  # noqa: PLC0415 - as above

    space = recorded_space(settings.store.path)
    if space is None:
        if store_exists(settings.store.path):
            return Memory(settings=settings)  # which says what is wrong with it
        raise StoreError(f"There is no memory at {settings.store.path} yet. Make it with: omnimemory ingest PATH")
    reason = f"the memory is open to be moved, not to be searched by {space.model}"
    return Memory(settings=settings, embedder=AbsentEmbedder(space.model, space.dim, space.fingerprint, reason))


def _names_another(settings: Settings, memory: Memory) -> bool:
    """Return whether what the settings name is not the model that the memory has now."""
    from omnimemory.errors import OmniMemoryError  # noqa: PLC0415 - as above
    from omnimemory.model_choice import choose_embedder  # noqa: PLC0415 - as above

    try:
        return choose_embedder(settings).fingerprint != memory.store.documents.collection.fingerprint
    except OmniMemoryError:
        return True


def _ask(what: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("this deletes vectors: say --yes as well.")
    click.confirm(f"{what}?", abort=True, err=True)


def _tell(report: ReembedReport) -> None:
    before, after = (visible(name, multiline=False) for name in (report.before, report.after))
    took = format_seconds(report.seconds)
    if report.state == "estimated":
        seconds, size = report.estimated_seconds or 0.0, report.estimated_bytes or 0
        click.echo("Nothing was changed (--dry-run).")
        click.echo(f"{before} -> {after}: {report.texts - report.resumed:,} of {report.texts:,} texts to embed")
        click.echo(f"about {format_seconds(seconds)}, and {format_bytes(size)} on the disk")
    elif report.state == "unchanged":
        click.echo(f"the memory is of {after} already, {took}")
    elif report.state == "confirmed":
        click.echo(f"{report.dropped:,} vectors of the model before deleted, {took}")
        note("omnimemory maintain gives their room back")
    elif report.state == "given up":
        click.echo(f"the move to {before} was given up: {report.dropped:,} vectors deleted, {took}")
    elif report.state == "undone":
        click.echo(f"{before} -> {after}: {report.dropped:,} vectors deleted, {took}")
    else:
        click.echo(f"{before} -> {after}: {_counts(report)}, {took}")
        note("The old vectors are kept: omnimemory reembed --confirm deletes them, --undo goes back to them.")


def _counts(report: ReembedReport) -> str:
    counts = {
        "moved before": report.resumed,
        "from the cache": report.cache_hits,
        "without a vector": report.refused,
        "pending": report.pending,
    }
    told = [f"{count:,} {name}" for name, count in counts.items() if count]
    return ", ".join([f"{report.texts:,} texts", f"{report.embedded:,} embedded", *told])
