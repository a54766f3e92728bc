"""``models calibrate``: what batches of a model need here, and which size is the fastest. No memory is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from omnimemory.cli.opening import current_settings
from omnimemory.cli.options import examples, json_option
from omnimemory.cli.output import format_bytes, note, print_json, print_table, wants_json
from omnimemory.cli.progress import progress_on_terminal

if TYPE_CHECKING:
    from omnimemory.calibration.calibrate import Calibration

__all__ = ["calibrate"]


@click.command(
    epilog=examples(
        "omnimemory models calibrate",
        "omnimemory models calibrate minilm --rounds 5",
        "omnimemory models calibrate static --json",
    ),
)
@click.argument("model", required=False)
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True, help="How often each size runs.")
@click.option(
    "--seconds", type=click.FloatRange(1, 86_400), default=120.0, show_default=True, help="Begin no size after these."
)
@json_option
def calibrate(model: str | None, rounds: int, seconds: float, as_json: bool) -> None:
    """Measure what batches of MODEL need on this machine, and which size is the fastest.

    Without MODEL it is the one of the settings. Texts of three lengths go through it in batches of every size, in a
    process of their own. What was measured takes the place of estimates, and the best size is used from then on.
    """
    from omnimemory.calibration.calibrate import calibrate as measure  # noqa: PLC0415 - keeps `--help` light

    with progress_on_terminal() as progress:
        found = measure(current_settings(), model, rounds=rounds, seconds=seconds, progress=progress)
    if wants_json(as_json):
        print_json(found.to_dict())
        return
    _print(found)


def _print(found: Calibration) -> None:
    columns = ("batch", "texts", "tokens each", "tokens a CPU second", "measured", "predicted")
    rows = [
        (
            "all" if point.budget is None else f"{point.budget:,} tokens",
            f"{point.texts:,}",
            str(point.length),
            f"{point.speed:,.0f}",
            format_bytes(max(0, point.need)),
            format_bytes(point.fit),
        )
        for point in found.points
    ]
    print_table(columns, rows, numbers=columns[1:])
    for line in found.skipped:
        note(f"Not tried: {line}")
    click.echo(f"{found.model} takes {format_bytes(found.loading)} to load.")
    if found.budget is not None:
        before = "" if found.before in (None, found.budget) else f" ({found.before:,} before)"
        click.echo(f"Batches of {found.budget:,} padded tokens are used from now on{before}.")
