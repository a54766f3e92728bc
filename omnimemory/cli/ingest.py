"""``ingest``, ``ingest-history`` and ``add``: what goes into the memory."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from omnimemory.cli.opening import current_settings, open_memory
from omnimemory.cli.options import examples, json_option
from omnimemory.cli.output import format_seconds, note, print_json, visible, wants_json
from omnimemory.cli.progress import progress_on_terminal

if TYPE_CHECKING:
    from omnimemory.records import IngestReport

__all__ = ["add", "ingest", "ingest_history", "name_failures", "report_lines"]

SHELLS = ("bash", "zsh", "fish", "nushell", "powershell", "atuin", "ipython", "jsonl")
_MOST_NAMED = 20
_INTERVAL = 2.0


@click.command(
    short_help="Read files and folders into the memory.",
    epilog=examples(
        "omnimemory ingest ~/notes",
        "omnimemory ingest README.md docs --no-prune",
        "omnimemory ingest . --dry-run",
    ),
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(), metavar="PATH...")
@click.option("--no-prune", is_flag=True, help="Keep what is stored of files that are gone.")
@click.option("--prune-all", is_flag=True, help="Forget files that are gone even when a whole folder is.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--restore", is_flag=True, help="Bring back what was forgotten of these files.")
@json_option
@click.pass_context
def ingest(
    ctx: click.Context,
    *,
    paths: tuple[str, ...],
    no_prune: bool,
    prune_all: bool,
    dry_run: bool,
    restore: bool,
    as_json: bool,
) -> None:
    """Read files and folders into the memory.

    Text, Markdown, reStructuredText, HTML, notebooks and source code. What is unchanged since the last time costs
    next to nothing, so run it as often as you like. Files that are gone are forgotten, unless a whole folder is.
    """
    if no_prune and prune_all:
        raise click.UsageError("--no-prune and --prune-all contradict each other.")
    with open_memory() as memory, progress_on_terminal() as progress:
        report = memory.ingest(
            *paths, progress=progress, prune=not no_prune, prune_all=prune_all, dry_run=dry_run, restore=restore
        )
    _tell(ctx, report, "chunks", as_json, dry_run=dry_run)


@click.command(
    "ingest-history",
    short_help="Read shell history into the memory.",
    epilog=examples(
        "omnimemory ingest-history",
        "omnimemory ingest-history --shell fish",
        "omnimemory ingest-history --all",
        "omnimemory ingest-history server/.bash_history",
        "omnimemory ingest-history --watch",
        "ssh server cat .bash_history | omnimemory ingest-history - --name server",
    ),
)
@click.argument("file", required=False, type=click.Path(allow_dash=True))
@click.option("--all", "every", is_flag=True, help="Read every history on this machine, and say which there are.")
@click.option("--shell", type=click.Choice(SHELLS), help="Format of the history; detected when omitted.")
@click.option("--name", help="By which name to remember a history from standard input (FILE is -).")
@click.option("--keep-secrets", is_flag=True, help="Store passwords and tokens as they are. Think twice.")
@click.option("--restore", is_flag=True, help="Bring back what was forgotten of this history.")
@click.option("--watch", is_flag=True, help="Go on with what is added, until Ctrl-C.")
@click.option("--interval", type=click.FloatRange(0.1, 3600), metavar="SECONDS", help="Time between two looks (2).")
@json_option
@click.pass_context
def ingest_history(
    ctx: click.Context,
    *,
    file: str | None,
    every: bool,
    shell: str | None,
    name: str | None,
    keep_secrets: bool,
    restore: bool,
    watch: bool,
    interval: float | None,
    as_json: bool,
) -> None:
    """Read shell history into the memory: FILE, or your own history, or (-) what is piped in.

    Passwords and tokens are taken out first. Only what is new since the last time is read.
    """
    if watch and (file == "-" or restore):
        raise click.UsageError("--watch follows files: leave out - and --restore.")
    if interval is not None and not watch:
        raise click.UsageError("--interval is the pause between two looks of --watch.")
    if every and (file or shell):
        raise click.UsageError("--all finds the files and their shells by itself: leave out FILE and --shell.")
    if name is not None and file != "-":
        raise click.UsageError("--name is for a history from standard input: omnimemory ingest-history - --name NAME")
    settings = current_settings({"history.keep_secrets": keep_secrets or None})
    if watch:
        from omnimemory.cli.watch_history import watch_history  # noqa: PLC0415 - only on request

        watch_history(settings, file, every=every, shell=shell, interval=interval or _INTERVAL, as_json=as_json)
        return
    keep = settings.history.keep_secrets
    with open_memory(settings) as memory, progress_on_terminal() as progress:
        report = memory.ingest_history(
            sys.stdin.buffer if file == "-" else file,
            shell=shell,
            name=name or "stdin",
            every=every,
            keep_secrets=keep,
            restore=restore,
            progress=progress,
        )
    for found in report.histories if not as_json else ():
        note(f"found {found.shell}: {found.source} ({found.events:,} new events)")
    _tell(ctx, report, "commands", as_json)


@click.command(
    short_help="Store short notes.",
    epilog=examples(
        'omnimemory add "the staging database is on port 5433"',
        'omnimemory add "call Ada on Mondays" --meta topic=people --meta priority:=2',
        "git log -5 | omnimemory add - --id recent-work",
    ),
)
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...")
@click.option("--id", "ids", multiple=True, metavar="ID", help="Name of the note; once per TEXT, in order.")
@click.option("--meta", multiple=True, metavar="KEY=VALUE", help="Metadata for all; KEY:=JSON for numbers and such.")
@json_option
def add(texts: tuple[str, ...], ids: tuple[str, ...], meta: tuple[str, ...], as_json: bool) -> None:
    """Store short notes. A TEXT of - is read from standard input."""
    if ids and len(ids) != len(texts):
        raise click.UsageError(f"{len(texts)} texts need {len(texts)} --id options or none, not {len(ids)}.")
    if texts.count("-") > 1:
        raise click.UsageError("standard input can be read only once: give - only once.")
    notes = [_standard_input() if text == "-" else text for text in texts]
    if not all(text.strip() for text in notes):
        raise click.UsageError("a note must not be empty.")
    metadata = dict(_metadata(item) for item in meta)
    with open_memory() as memory:
        stored = memory.add(notes, ids=list(ids) or None, metadatas=[metadata] * len(notes) if metadata else None)
    if wants_json(as_json):
        print_json({"ids": stored})
    else:
        click.echo("\n".join(f"stored {visible(name, multiline=False)}" for name in stored))


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"standard input is not UTF-8 (byte {error.start}).") from error


def _metadata(item: str) -> tuple[str, Any]:
    key, sign, value = item.partition("=")
    if not sign or key in ("", ":"):
        raise click.BadParameter(f"{item!r} is not KEY=VALUE.", param_hint="'--meta'")
    if not key.endswith(":"):
        return key, value
    try:
        return key[:-1], json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not JSON: {error}.", param_hint="'--meta'") from error


def _tell(ctx: click.Context, report: IngestReport, items: str, as_json: bool, *, dry_run: bool = False) -> None:
    if wants_json(as_json):
        print_json(report.to_dict())
    else:
        click.echo(
            "\n".join(
                ("Nothing was changed (--dry-run). It would be:" * dry_run, *report_lines(report, items))
            ).lstrip()
        )
    if not as_json:
        name_failures(report)
    if report.failed:
        ctx.exit(1)


def name_failures(report: IngestReport) -> None:
    """Tell on standard error what failed or was skipped, and why."""
    worst_first = sorted(report.failures, key=lambda item: not item.error)
    for item in worst_first[:_MOST_NAMED]:
        note(f"{'failed' if item.error else 'skipped'}: {item.source}: {item.reason}")
    if len(worst_first) > _MOST_NAMED:
        note(f"... and {len(worst_first) - _MOST_NAMED:,} more; --json names them all")


def report_lines(report: IngestReport, items: str) -> list[str]:
    """Return what one ingest did, in words, a line per subject."""
    names = ("updated", "unchanged", "deleted", "failed", "skipped")
    counts = [f"{getattr(report, name):,} {name}" for name in names if getattr(report, name)]
    lines = [f"{', '.join((f'{report.added:,} {items} added', *counts))} in {format_seconds(report.seconds)}"]
    if report.events:
        lines.append(f"{report.events:,} history events")
    lines.append(f"{report.embedded:,} texts embedded, {report.cache_hits:,} taken from the cache")
    if report.redacted:
        rules = ", ".join(f"{visible(name)} {count:,}" for name, count in sorted(report.redactions.items()))
        lines.append(f"{report.redacted:,} {'secret' if report.redacted == 1 else 'secrets'} taken out ({rules})")
    if report.pending:
        lines.append(f"{report.pending:,} stored without a vector yet: run it again to complete them")
    if report.degraded:
        lines.append(f"degraded: {visible(report.degraded)}")
    return lines
