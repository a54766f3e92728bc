"""``doctor``, ``repair`` and ``maintain``: looking after a memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from omnimemory.cli.opening import current_settings, open_memory
from omnimemory.cli.options import examples, json_option
from omnimemory.cli.output import format_bytes, format_seconds, note, print_json, print_table, visible, wants_json
from omnimemory.cli.progress import progress_on_terminal

if TYPE_CHECKING:
    from omnimemory.care.findings import Finding
    from omnimemory.care.outcome import Deed

__all__ = ["doctor", "maintain", "repair"]


@click.command(
    short_help="Say what is wrong with the memory, and what to do.",
    epilog=examples(
        "omnimemory doctor",
        "omnimemory --store ~/work.mem doctor --json | jq '.findings[].fix'",
    ),
)
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Say what is wrong with the memory, and what to do.

    Everything is looked at: every row and index of the catalog, the Chroma index (in a process of its own), the
    cache, who may read the files, the room on the disk. Nothing is changed. The exit code is 1 when something has to
    be mended; notices do not count.
    """
    from omnimemory.care.doctor import examine  # noqa: PLC0415 - keeps `--help` light

    settings = current_settings()
    with _steps() as progress:
        found = examine(settings, progress=progress)
    if wants_json(as_json):
        print_json(found.to_dict())
    else:
        _print_findings(found.findings)
        _name_skipped(found.skipped)
        if not found.findings:
            click.echo(f"{len(found.checks)} checks, nothing to complain about, {format_seconds(found.seconds)}")
    if not found.ok:
        ctx.exit(1)


@click.command(
    short_help="Mend the memory without embedding anything again.",
    epilog=examples(
        "omnimemory repair",
        "omnimemory repair --discard",
    ),
)
@click.option("--discard", is_flag=True, help="Go on without damaged rows of which there is no copy.")
@click.option("--yes", is_flag=True, help="Do not ask before discarding.")
@json_option
@click.pass_context
def repair(ctx: click.Context, discard: bool, yes: bool, as_json: bool) -> None:
    """Mend the memory without embedding anything again.

    Keyword indexes, the Chroma index, rows of the cache and modes are made anew from the catalog; damaged rows of the
    catalog are put back where there is a copy. What cannot be mended is left as it is and named, and the exit code
    is 1: restore a backup then, or discard it.
    """
    if discard and not yes:
        _confirm()
    from omnimemory.care.repair import repair as mend  # noqa: PLC0415 - keeps `--help` light

    settings = current_settings()
    with _steps() as progress:
        report = mend(settings, discard=discard, progress=progress)
    if wants_json(as_json):
        print_json(report.to_dict())
    else:
        _print_deeds(report.done)
        _print_findings(report.left)
        _name_skipped(report.skipped)
        if not report.done and not report.left:
            click.echo(f"nothing to mend, {format_seconds(report.seconds)}")
    if not report.ok:
        ctx.exit(1)


@click.command(
    short_help="Give back room that is not needed any more.",
    epilog=examples(
        "omnimemory maintain --dry-run",
        "omnimemory maintain",
    ),
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@json_option
def maintain(dry_run: bool, as_json: bool) -> None:
    """Give back room that is not needed any more.

    An index of which more than a fifth is deleted items is made anew, folders of old indexes and drafts of killed
    processes go, logs are folded in, files with many unused pages are written anew. What is in use is skipped.
    Transitions and sequences are brought in line with what was run; executions that another source tells more of go,
    and those of more than history.keep_days ago where that is set: they are forgotten for good.
    """
    from omnimemory.storage.store_folder import store_exists  # noqa: PLC0415 - keeps `--help` light

    settings = current_settings()
    if not store_exists(settings.store.path):
        note(f"There is no memory at {settings.store.path}.")
        return
    with open_memory(settings) as memory:
        report = memory.maintain(dry_run=dry_run)
    if wants_json(as_json):
        print_json(report.to_dict())
        return
    if dry_run:
        click.echo("Nothing was changed (--dry-run). It would be:")
    _print_deeds(report.done)
    _name_skipped(report.skipped)
    click.echo(f"{format_bytes(max(0, report.freed))} freed, {format_seconds(report.seconds)}")


def _confirm() -> None:
    import sys  # noqa: PLC0415 - only who discards

    if not sys.stdin.isatty():
        raise click.UsageError("--discard takes out what cannot be mended: say --yes as well.")
    click.confirm("Take out what is damaged and cannot be mended?", abort=True, err=True)


@contextmanager
def _steps() -> Iterator[Callable[[str], None] | None]:
    from omnimemory.records import Progress  # noqa: PLC0415 - keeps `--help` light

    with progress_on_terminal() as show:
        if show is None:
            yield None
            return
        count = 0

        def tell(name: str) -> None:
            nonlocal count
            count += 1
            show(Progress("checking", count, None, name))

        yield tell


def _print_findings(findings: tuple[Finding, ...]) -> None:
    if findings:
        rows = ((item.severity, item.check, (item.message, item.fix and f"-> {item.fix}")) for item in findings)
        print_table(("", "check", "finding"), rows)


def _print_deeds(deeds: tuple[Deed, ...]) -> None:
    for deed in deeds:
        click.echo(f"{visible(deed.part)}: {deed.count:,} {visible(deed.message, multiline=False)}")


def _name_skipped(skipped: tuple[str, ...]) -> None:
    for text in skipped:
        note(f"skipped: {text}")
