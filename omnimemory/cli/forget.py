"""``forget`` and ``scrub``: what is not to be remembered any more."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from omnimemory.cli.opening import open_memory
from omnimemory.cli.options import examples, json_option
from omnimemory.cli.output import format_seconds, note, print_json, print_table, shorten, visible, wants_json
from omnimemory.cli.progress import progress_on_terminal

if TYPE_CHECKING:
    from omnimemory.forgetting.report import ForgetReport, ScrubReport, Unpurged

__all__ = ["forget", "scrub"]

_BUSY = 75
_SHOWN = 20
_WIDTH = 200


@click.command(
    short_help="Forget documents and commands for good.",
    epilog=examples(
        "omnimemory forget --pattern - --dry-run",
        "omnimemory forget --source ~/notes/diary.md --yes",
        "omnimemory forget --after 2024-05-31T18:00 --before 2024-05-31T20:00",
        'omnimemory forget "the divorce" --min-score 0.5',
        "omnimemory forget --finish",
    ),
)
@click.argument("query", nargs=-1)
@click.option("--pattern", metavar="TEXT", help="What holds this text, or re:REGEX; - reads it from standard input.")
@click.option("--source", metavar="PATH", help="What came from this file or history, or from below this folder.")
@click.option("--after", metavar="TIME", help="What was run from this time on, such as 2024-05-31T18:00.")
@click.option("--before", metavar="TIME", help="What was run before this time.")
@click.option("--cwd", metavar="PATH", help="What was run in this folder or below it.")
@click.option("--id", "ids", multiple=True, metavar="ID", help="What has this id; may be given several times.")
@click.option("--kind", type=click.Choice(["documents", "commands"]), help="Only one kind; both when omitted.")
@click.option("-k", "--top-k", "k", type=click.IntRange(1, 10_000), help="For a QUERY: so many of its best hits.")
@click.option("--min-score", type=click.FloatRange(-1, 1), help="For a QUERY: only hits at least this similar.")
@click.option("--dry-run", is_flag=True, help="Say what would be forgotten, and do nothing.")
@click.option("--finish", is_flag=True, help="Purge what an earlier run could not.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def forget(
    ctx: click.Context,
    /,
    *,
    query: tuple[str, ...],
    ids: tuple[str, ...],
    pattern: str | None,
    finish: bool,
    yes: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Forget documents and commands for good: what fits the QUERY and all options.

    It goes from the catalog, the index, the cache and all backups, and the next ingest does not bring it back; your own
    files stay as they are. A pattern typed here is kept by your shell: with --pattern - it is not.
    """
    asks = not (yes or finish or options["dry_run"])
    if asks and not sys.stdin.isatty():
        raise click.UsageError("this deletes for good: say --yes, or look first with --dry-run.")
    if pattern == "-":
        pattern = _standard_input()
    # A line of progress and a question would write over each other.
    with open_memory() as memory, nullcontext() if asks else progress_on_terminal() as progress:
        report = memory.forget(
            " ".join(query).strip() or None,
            pattern=pattern,
            ids=list(ids) or None,
            finish=finish,
            confirm=_confirmed if asks else None,
            progress=progress,
            **options,
        )
    _tell_forgotten(report, as_json, asked=asks)
    _exit(ctx, report.unpurged)


def _standard_input() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("What is to be forgotten", hide_input=True, err=True))
    return sys.stdin.read().rstrip("\n")


def _confirmed(report: ForgetReport) -> bool:
    for item in report.items[:_SHOWN]:
        note(f"{item.kind}: {shorten(item.text, _WIDTH)}")
    _tell_more(report)
    if not report.items:
        return click.confirm(
            "Nothing matches. Rewrite the files all the same, so that nothing is left in them?", err=True
        )
    return click.confirm(f"Forget {_counts(report)} for good?", err=True)


def _show(report: ForgetReport) -> None:
    rows = [(item.kind, (shorten(item.text, _WIDTH), item.source or "")) for item in report.items[:_SHOWN]]
    if rows:
        print_table(("kind", "text"), rows)
    _tell_more(report)


def _tell_more(report: ForgetReport) -> None:
    if report.found > _SHOWN:
        note(f"... and {report.found - _SHOWN:,} more; --dry-run --json names {len(report.items):,}")


def _counts(report: ForgetReport) -> str:
    counts = {"source": report.sources, "chunk": report.chunks, "command": report.commands, "event": report.events}
    return ", ".join(f"{count:,} {name}{'s' * (count != 1)}" for name, count in counts.items() if count) or "nothing"


def _tell_forgotten(report: ForgetReport, as_json: bool, *, asked: bool) -> None:
    if wants_json(as_json):
        print_json(report.to_dict())
    elif report.dry_run and asked:
        click.echo("Nothing was changed.")
    elif report.dry_run:
        _show(report)
        click.echo(f"Nothing was changed (--dry-run). It would be: {_counts(report)}")
    else:
        click.echo(f"{_counts(report)} forgotten in {format_seconds(report.seconds)}")
        _tell_backups(report.backups)
    for line in report.notes:
        note(f"note: {visible(line)}")
    if report.still_in and not report.dry_run:
        some = ", ".join(visible(path, multiline=False) for path in report.still_in[:3])
        more = f" and {len(report.still_in) - 3:,} more" if len(report.still_in) > 3 else ""
        note(f"note: your own files may still hold it: {some}{more}; the next ingest leaves it out")


def _tell_backups(count: int) -> None:
    if count:
        click.echo(f"{count:,} backup{'s' * (count != 1)} rewritten")


def _exit(ctx: click.Context, unpurged: tuple[Unpurged, ...]) -> None:
    for item in unpurged:
        note(f"not purged yet: {item.place} {visible(item.path, multiline=False)}: {visible(item.reason)}")
    if unpurged:
        note("What was forgotten is found no more, but its bytes may be in there. Then run: omnimemory forget --finish")
        ctx.exit(_BUSY if all(item.busy for item in unpurged) else 1)


@click.command(
    short_help="Redact again what is stored, with the rules of today.",
    epilog=examples(
        "omnimemory scrub --dry-run",
        "omnimemory scrub --yes",
    ),
)
@click.option("--dry-run", is_flag=True, help="Say what would be replaced, and do nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def scrub(ctx: click.Context, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Redact again what is stored, with the rules of today: after an update that knows more secrets than before.

    What is found is replaced and embedded anew; the old texts go from index, cache and backups as with forget.
    """
    if not (yes or dry_run):
        if not sys.stdin.isatty():
            raise click.UsageError("this changes what is stored for good: say --yes, or look first with --dry-run.")
        click.confirm("Replace every secret that is found, for good?", err=True, abort=True)
    with open_memory() as memory, progress_on_terminal() as progress:
        report = memory.scrub(dry_run=dry_run, progress=progress)
    if wants_json(as_json):
        print_json(report.to_dict())
    else:
        click.echo("\n".join(_scrub_lines(report)))
    for line in report.notes:
        note(f"note: {visible(line)}")
    _exit(ctx, report.unpurged)


def _scrub_lines(report: ScrubReport) -> list[str]:
    lines = ["Nothing was changed (--dry-run). It would be:"] if report.dry_run else []
    lines.append(
        f"{report.chunks:,} chunks and {report.commands:,} commands redacted, {report.deleted:,} commands left out, in "
        f"{format_seconds(report.seconds)}"
    )
    if report.redactions:
        lines.append(", ".join(f"{visible(name)} {count:,}" for name, count in sorted(report.redactions.items())))
    if report.kept:
        lines.append(f"{report.kept:,} commands keep their secrets, as asked (history.keep_secrets)")
    if report.pending:
        lines.append(f"{report.pending:,} stored without a vector yet: the next ingest completes them")
    if report.backups:
        lines.append(f"{report.backups:,} backups rewritten")
    return lines
