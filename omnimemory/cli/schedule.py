"""``schedule``: which batches ran, waited or were refused for memory, and why. No memory is opened."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from omnimemory.cli.opening import current_settings
from omnimemory.cli.options import examples, json_option
from omnimemory.cli.output import format_bytes, format_seconds, note, print_json, print_table, visible, wants_json

if TYPE_CHECKING:
    from omnimemory.scheduler.traces import Trace

__all__ = ["schedule"]


@click.group(
    short_help="Show what the scheduler decided, and why.",
    epilog=examples(
        "omnimemory schedule log",
        "omnimemory schedule explain last",
    ),
)
def schedule() -> None:
    """Show what the scheduler decided, and why.

    Every batch asks for memory before it runs. What was decided is kept on this machine, without any text of yours
    (`omnimemory config get schedule.log_bytes`).
    """


@schedule.command(
    epilog=examples(
        "omnimemory schedule log",
        "omnimemory schedule log -n 100 --troubled --json",
    )
)
@click.option("-n", "count", type=click.IntRange(1), default=20, metavar="N", help="How many, the last ones (20).")
@click.option("--troubled", is_flag=True, help="Only those that waited, were cut down, refused, or failed.")
@json_option
def log(count: int, troubled: bool, as_json: bool) -> None:
    """Show the last requests of all processes, oldest first."""
    found = [one for one in _recorded() if not troubled or _is_troubled(one)][-count:]
    if wants_json(as_json):
        for trace in found:
            print_json(trace.to_dict())
        return
    if not found:
        note("No decision is recorded." if not troubled else "No request had any trouble.")
        return
    columns = ("id", "when", "model", "texts", "need", "room", "waited", "outcome")
    print_table(columns, [_row(trace) for trace in found], numbers=("texts", "need", "room", "waited"))


@schedule.command(
    epilog=examples(
        "omnimemory schedule explain last",
        "omnimemory schedule explain 5f0c21aa-7 --json",
    )
)
@click.argument("name", metavar="ID")
@json_option
def explain(name: str, as_json: bool) -> None:
    """Say what happened to the request ID (`last`: the last one), with all figures that decided it."""
    from omnimemory.errors import ConfigError  # noqa: PLC0415 - keeps `--help` light
    from omnimemory.scheduler.explanation import explain as told_of  # noqa: PLC0415 - as above

    found = next((trace for trace in reversed(_recorded()) if name in (trace.id, "last")), None)
    if found is None:
        raise ConfigError(f"There is no decision {name!r:.80}: `omnimemory schedule log` shows those that are kept.")
    told = told_of(found)
    if wants_json(as_json):
        print_json({**found.to_dict(), "explanation": told})
    else:
        click.echo(visible(told))


def _recorded() -> list[Trace]:
    from omnimemory.scheduler.journal import read_journal  # noqa: PLC0415 - keeps `--help` light

    return read_journal(current_settings().schedule.folder)


def _is_troubled(trace: Trace) -> bool:
    return trace.last.action != "grant" or len(trace.steps) > 1 or trace.outcome not in ("done", "running")


def _row(trace: Trace) -> tuple[str, ...]:
    last = trace.last
    asked = last.request.items
    return (
        trace.id,
        time.strftime("%m-%d %H:%M:%S", time.localtime(last.time)),
        last.request.model,
        str(asked) if last.items == asked else f"{last.items} of {asked}",
        format_bytes(last.need),
        format_bytes(last.room),
        format_seconds(last.turn.waited) if last.turn.waited >= 0.001 else "-",
        trace.outcome,
    )
