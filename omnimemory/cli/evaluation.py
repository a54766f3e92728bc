"""``eval``: how good the predictions are on a history of your own. Nothing is stored."""

from __future__ import annotations

from pathlib import Path

import click

from omnimemory.cli.opening import current_settings
from omnimemory.cli.options import examples, json_option
from omnimemory.cli.output import note, print_json, print_table, wants_json

__all__ = ["evaluation"]

_LONG = 20_000


@click.group(
    "eval",
    short_help="Measure the predictions on a history of your own.",
    epilog=examples("omnimemory eval next ~/.zsh_history"),
)
def evaluation() -> None:
    """Measure how good the predictions are on a history of your own. Nothing is stored and nothing is run."""


@evaluation.command(
    "next",
    short_help="Measure the prediction of next commands.",
    epilog=examples(
        "omnimemory eval next ~/.zsh_history",
        "omnimemory eval next steps.jsonl --separate --json",
    ),
)
@click.argument("history", type=click.Path(path_type=Path))
@click.option("--shell", metavar="NAME", help="The format, when it is not to be guessed.")
@click.option("--separate", is_flag=True, help="Give each session a history of its own.")
@click.option("--last", type=click.IntRange(1), default=_LONG, show_default=True, help="Use the last so many steps.")
@json_option
def next_commands(*, history: Path, shell: str | None, separate: bool, last: int, as_json: bool) -> None:
    """Predict every step of HISTORY from those before it, and compare with what other tools would have said.

    top1, top3 and top5 are the shares of steps whose command was among the first so many; mrr10 is the mean of 1/rank,
    0 beyond the tenth. Means are over sessions, with 95 % intervals of what ours is better by. McFly ranks everything
    anew at each step: long histories take minutes.
    """
    from omnimemory.evaluation.loading import read_steps  # noqa: PLC0415 - as for all commands
    from omnimemory.evaluation.next_commands import METRICS, evaluate, table  # noqa: PLC0415 - as above

    steps = read_steps(history, shell, current_settings().history.session_gap)[-last:]
    if not steps:
        note(f"{history} holds no commands.")
        return
    outcomes = evaluate(steps, separate=separate)
    rows = table(outcomes)
    if wants_json(as_json):
        for row in rows:
            print_json(row)
    else:
        heads = ("predictor", *METRICS, "ours is better by (mrr10)")
        print_table(heads, ((str(row["predictor"]), *(f"{row[m]:.3f}" for m in METRICS), _better(row)) for row in rows))
    note(
        f"{len(steps):,} steps in {len(outcomes['ours'].steps):,} sessions; our probabilities are off by "
        f"{outcomes['ours'].calibration.error():.3f} on average"
    )


def _better(row: dict[str, object]) -> str:
    found = row.get("ours_better_by")
    if not isinstance(found, dict):
        return ""
    lower, mean, upper = found["mrr10"]
    return f"{mean:+.3f} ({lower:+.3f} to {upper:+.3f})"
