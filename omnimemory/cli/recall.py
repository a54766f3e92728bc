"""``sessions``, ``steps``, ``workflows`` and ``why-failed``: how it was done before. They print, and run nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omnimemory.cli.opening import current_settings, open_memory
from omnimemory.cli.options import examples, folder_meant, json_option
from omnimemory.cli.output import EMPTY, Cell, note, print_json, print_table, shorten, visible, wants_json

if TYPE_CHECKING:
    from omnimemory.config import Settings
    from omnimemory.procedure.records import Repair, SimilarSession, SimilarStep, Workflow

__all__ = ["sessions", "steps", "why_failed", "workflows"]

_WIDTH = 100
_NUMBERS = ("", "score", "seen", "worked", "times")
_top_k = click.option(
    "-k", "--top-k", "k", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many."
)


@click.command(
    short_help="Find where something like this was done before.",
    epilog=examples('omnimemory sessions "cd api" "make test"', "omnimemory sessions -k 3 --json"),
)
@click.argument("context", nargs=-1, metavar="[COMMAND]...")
@_top_k
@click.option("--cwd", type=click.Path(path_type=Path), help="Prefer what ran there; the current folder when omitted.")
@json_option
def sessions(*, context: tuple[str, ...], k: int, cwd: Path | None, as_json: bool) -> None:
    """Find where something like these commands was run before, and what came next.

    Each COMMAND is one argument, the last one last; without any, those that were recorded last. Nothing is run.
    """
    settings = _settings()
    if settings is None:
        return
    with open_memory(settings) as memory:
        found = memory.similar_sessions(list(context) or None, cwd=folder_meant(cwd), k=k)
    _show(found, as_json, ("score", "then came"), (_session(one) for one in found))


@click.command(
    short_help="Find steps like one, from a command to the next.",
    epilog=examples(
        'omnimemory steps "cd web"', 'omnimemory steps "cd web" "npm test"', 'omnimemory steps --to "git push"'
    ),
)
@click.argument("before", required=False)
@click.argument("after", required=False)
@click.option("--to", "goal", metavar="COMMAND", help="What it led to; the same as AFTER.")
@_top_k
@json_option
def steps(*, before: str | None, after: str | None, goal: str | None, k: int, as_json: bool) -> None:
    """Find what was run after something like BEFORE, or before something like AFTER. Nothing is run.

    With both, steps like that one. How much alike commands are is told by their vectors.
    """
    if after is not None and goal is not None:
        raise click.UsageError("AFTER and --to are the same: give one of them.")
    if before is None and goal is None:
        raise click.UsageError('say which step: omnimemory steps "cd web", or omnimemory steps --to "git push"')
    settings = _settings()
    if settings is None:
        return
    with open_memory(settings) as memory:
        found = memory.similar_steps(before, goal if after is None else after, k=k)
    _show(found, as_json, ("score", "times", "step"), (_step(one) for one in found))


@click.command(
    short_help="Show the routines in what you run.",
    epilog=examples("omnimemory workflows", "omnimemory workflows 1 --as script > release.sh"),
)
@click.argument("number", required=False, type=click.IntRange(1, 1000))
@click.option("-k", "--top-k", "k", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many.")
@click.option("--support", type=click.IntRange(2), help="How often one has to occur; 3 or more when omitted.")
@click.option("--as", "form", type=click.Choice(["script", "alias"]), help="Print routine NUMBER in this form.")
@json_option
def workflows(*, number: int | None, k: int, support: int | None, form: str | None, as_json: bool) -> None:
    """Show routines: steps that recur in the same order, how often, and how well they went.

    With NUMBER only that one. A script or alias is printed for you to look at; nothing is run.
    """
    if form is not None and number is None:
        raise click.UsageError("--as prints one routine: say which, as in: omnimemory workflows 1 --as script")
    settings = _settings()
    if settings is None:
        return
    with open_memory(settings) as memory:
        found = memory.workflows(k=max(k, number or 0), support=support)
    if number is not None:
        if number > len(found):
            raise click.UsageError(f"there is no routine {number}: {len(found)} were found.")
        found = found[number - 1 : number]
    if form is not None:
        from omnimemory.procedure.workflows import as_alias, as_script  # noqa: PLC0415 - keeps `--help` light

        click.echo(visible((as_script if form == "script" else as_alias)(found[0])), nl=False)
        return
    rows = (_workflow(place, one) for place, one in enumerate(found, number or 1))
    _show(found, as_json, ("", "seen", "worked", "routine"), rows)


@click.command(
    "why-failed",
    short_help="Say what helped when a command failed before.",
    epilog=examples("omnimemory why-failed", 'omnimemory why-failed "make test"'),
)
@click.argument("command", required=False)
@_top_k
@json_option
def why_failed(*, command: str | None, k: int, as_json: bool) -> None:
    """Say what helped when COMMAND, or the command that failed last, had failed before. Nothing is run.

    Only exit codes tell: those of hooks, record, atuin, nushell and JSON Lines.
    """
    settings = _settings()
    if settings is None:
        return
    with open_memory(settings) as memory:
        found = memory.why_failed(command, k=k)
    _show(found, as_json, ("times", "helped"), (_repair(one) for one in found))


def _settings() -> Settings | None:
    settings = current_settings()
    if settings.store.path.exists():
        return settings
    note(f"There is no memory at {settings.store.path}. {EMPTY}")
    return None


def _show(found: Sequence[Any], as_json: bool, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    if wants_json(as_json):
        for one in found:
            print_json(one.to_dict())
    elif found:
        print_table(columns, rows, numbers=[name for name in columns if name in _NUMBERS])
    if not found:
        note("Nothing found.")


def _session(one: SimilarSession) -> tuple[Cell, ...]:
    ended = {True: "worked", False: "something failed", None: ""}[one.worked]
    then = "\n".join(shorten(command, _WIDTH) for command in one.followed) or "(nothing)"
    after = "after: " + shorten("; ".join(one.commands), _WIDTH)
    return f"{one.score:.3f}", (then, ", ".join(part for part in (after, _where(one), ended) if part))


def _step(one: SimilarStep) -> tuple[Cell, ...]:
    ended = {True: "worked", False: "failed", None: ""}[one.worked]
    then = f"{shorten(one.before, _WIDTH)}\n-> {shorten(one.after, _WIDTH)}"
    return f"{one.score:.3f}", f"{one.times:,}x", (then, ", ".join(part for part in (_where(one), ended) if part))


def _workflow(place: int, one: Workflow) -> tuple[Cell, ...]:
    rate = "-" if one.success_rate is None else f"{one.success_rate:.0%}"
    steps = "\n".join(shorten(step, _WIDTH) for step in one.steps)
    return str(place), f"{one.support:,}x", rate, (steps, _where(one))


def _repair(one: Repair) -> tuple[Cell, ...]:
    said = "\n".join(shorten(command, _WIDTH) for command in one.commands)
    return f"{one.times:,}", (said, ", ".join(part for part in (visible(one.why), _where(one)) if part))


def _where(one: SimilarSession | SimilarStep | Workflow | Repair) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.timestamp)) if one.timestamp else ""
    return ", ".join(part for part in (when, visible(one.cwd or "", multiline=False)) if part)
