"""``export``, ``import`` and ``backup``: a memory carried elsewhere and kept safe."""

from __future__ import annotations

import sys

import click

from omnimemory.cli.ingest import name_failures, report_lines
from omnimemory.cli.opening import current_settings, open_memory
from omnimemory.cli.options import examples, json_option
from omnimemory.cli.output import format_bytes, format_seconds, note, print_json, visible, wants_json
from omnimemory.cli.progress import progress_on_terminal

__all__ = ["backup", "export", "import_"]


@click.command(
    short_help="Write everything remembered as JSON Lines.",
    epilog=examples(
        "omnimemory export memory.jsonl",
        "omnimemory export memory.jsonl --vectors --overwrite",
        "omnimemory export - | gzip > memory.jsonl.gz",
    ),
)
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--vectors", is_flag=True, help="Write the vectors as well: an import then needs no model.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@json_option
def export(file: str, vectors: bool, overwrite: bool, as_json: bool) -> None:
    """Write everything remembered as JSON Lines to FILE, which only you can read, or to standard output (-).

    Equal memories have equal exports. Nothing is written under FILE's name before all of it is.
    """
    with open_memory() as memory, progress_on_terminal() as progress:
        target = sys.stdout.buffer if file == "-" else file
        report = memory.export(target, vectors=vectors, overwrite=overwrite, progress=progress)
    text = (
        f"{report.chunks:,} chunks, {report.commands:,} commands and {report.events:,} history events of "
        f"{report.sources:,} sources, {format_bytes(report.bytes)} in {format_seconds(report.seconds)}"
    )
    if file == "-":
        note(text)  # standard output has the export itself
    elif wants_json(as_json):
        print_json(report.to_dict())
    else:
        click.echo(f"{text}: {visible(str(report.path))}")


@click.command(
    "import",
    short_help="Read an export into the memory.",
    epilog=examples(
        "omnimemory import memory.jsonl",
        "omnimemory --store ~/new.mem import memory.jsonl",
        "gzip -dc memory.jsonl.gz | omnimemory import -",
    ),
)
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--keep-secrets", is_flag=True, help="Do not redact commands once more. Think twice.")
@json_option
@click.pass_context
def import_(ctx: click.Context, file: str, keep_secrets: bool, as_json: bool) -> None:
    """Read an export into the memory: FILE, or standard input (-).

    What is there already costs next to nothing, and what the memory knows otherwise stays as it is. A file that is
    damaged, cut off or something else changes nothing.
    """
    settings = current_settings({"history.keep_secrets": keep_secrets or None})
    with open_memory(settings) as memory, progress_on_terminal() as progress:
        report = memory.import_(sys.stdin.buffer if file == "-" else file, progress=progress)
    if wants_json(as_json):
        print_json(report.to_dict())
    else:
        lines = report_lines(report, "texts")
        if report.reused:
            lines.insert(1, f"{report.reused:,} vectors taken from the export")
        click.echo("\n".join(lines))
        name_failures(report)
    if report.failed:
        ctx.exit(1)


@click.command(
    short_help="Copy the memory while it is used.",
    epilog=examples(
        "omnimemory backup /media/disk/memory-2026-08",
        "omnimemory --store /media/disk/memory-2026-08 search 'undo the last commit'",
    ),
)
@click.argument("folder", type=click.Path())
@json_option
def backup(folder: str, as_json: bool) -> None:
    """Copy the memory into FOLDER, which must be new or empty, while others may go on using it.

    The copy is a memory itself: open it with --store FOLDER. Its index is not copied but made anew when it is used.
    `forget` reaches the backups that this command made.
    """
    with open_memory() as memory, progress_on_terminal() as progress:
        report = memory.backup(folder, progress=progress)
    if wants_json(as_json):
        print_json(report.to_dict())
    else:
        size, seconds = format_bytes(report.bytes), format_seconds(report.seconds)
        click.echo(
            f"{report.chunks:,} chunks, {report.commands:,} commands and {report.events:,} history events, "
            f"{size} in {seconds}: {visible(report.path)}"
        )
