"""``eval``: how good predictions and searches are on data of your own. Nothing is stored."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

from omnimemory.cli.opening import current_settings, open_memory
from omnimemory.cli.options import examples, json_option
from omnimemory.cli.output import note, print_json, print_table, wants_json
from omnimemory.cli.progress import progress_on_terminal

if TYPE_CHECKING:
    from omnimemory.evaluation.questions import Question
    from omnimemory.memory import Memory
    from omnimemory.procedure.likeness import VectorsOf

__all__ = ["evaluation"]

_LONG = 20_000
_MANY = 1000


@click.group(
    "eval",
    short_help="Measure predictions and searches on data of your own.",
    epilog=examples("omnimemory eval next ~/.zsh_history", "omnimemory eval search questions.tsv"),
)
def evaluation() -> None:
    """Measure how good predictions and searches are on data of your own. Nothing is stored and nothing is run."""


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
@click.option("--lengths", is_flag=True, help="Compare contexts of one to four commands as well.")
@click.option("--last", type=click.IntRange(1), default=_LONG, show_default=True, help="Use the last so many steps.")
@json_option
def next_commands(*, history: Path, shell: str | None, separate: bool, lengths: bool, last: int, as_json: bool) -> None:
    """Predict every step of HISTORY from those before it, and compare with what other tools would have said.

    top1, top3 and top5 are the shares of steps whose command was among the first so many; mrr10 is the mean of 1/rank,
    0 beyond the tenth, and mrr10_new that after commands that were never followed by anything before. Means are over
    sessions, with 95 % intervals of what ours is better by. McFly ranks everything anew at each step: long histories
    take minutes. Ours stands there as well without vectors, and with those of other commands.
    """
    from omnimemory.evaluation.loading import read_steps  # noqa: PLC0415 - as for all commands
    from omnimemory.evaluation.next_commands import METRICS, evaluate, table  # noqa: PLC0415 - as above

    steps = read_steps(history, shell, current_settings().history.session_gap)[-last:]
    if not steps:
        note(f"{history} holds no commands.")
        return
    with _vectors({observed.step.command for observed in steps}) as vectors_of:
        outcomes = evaluate(steps, separate=separate, lengths=lengths, vectors_of=vectors_of)
    rows = table(outcomes)
    if wants_json(as_json):
        for row in rows:
            print_json(row)
    else:
        columns = (*METRICS, "mrr10_new")
        heads = ("predictor", *columns, "ours is better by (mrr10)")
        print_table(
            heads,
            (
                (str(row["predictor"]), *(f"{row[m]:.3f}" for m in columns), _better(row, "ours_better_by"))
                for row in rows
            ),
        )
    sessions = len(outcomes["ours"].steps)
    note(
        f"{len(steps):,} steps in {sessions:,} session{'s' * (sessions != 1)}; our probabilities are off by "
        f"{outcomes['ours'].calibration.error():.3f} on average"
    )


@contextmanager
def _vectors(commands: set[str]) -> Iterator[VectorsOf]:
    """Embed the commands without secrets, and keep nothing of it; one without a vector is like nothing."""
    from omnimemory.wiring import embedding_service, redactor_of  # noqa: PLC0415 - as for all commands

    settings = current_settings().with_values({"cache.enabled": False})
    redactor = redactor_of(settings)
    texts = sorted(commands)
    service = embedding_service(settings, None)
    try:
        found = service.resolve([redactor.command(text).text for text in texts], "document")
        if found.error is not None:
            raise found.error
        place = {text: number for number, text in enumerate(texts)}
        yield lambda asked: found.vectors[[place[text] for text in asked]]
    finally:
        service.close()


def _better(row: dict[str, object], name: str) -> str:
    found = row.get(name)
    if not isinstance(found, dict):
        return ""
    lower, mean, upper = found["mrr10"]
    return f"{mean:+.3f} ({lower:+.3f} to {upper:+.3f})"


@evaluation.command(
    "search",
    short_help="Measure how commands are found by what they do.",
    epilog=examples(
        "omnimemory eval search questions.tsv",
        "omnimemory eval search questions.jsonl --questions 200 --json",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--questions",
    "most",
    type=click.IntRange(1),
    default=_MANY,
    show_default=True,
    help="Ask so many, drawn at random.",
)
@json_option
def searches(*, file: Path, most: int, as_json: bool) -> None:
    """Ask for each description of FILE and see whether its command is found, by keywords, by vectors and by both.

    FILE has lines of a description, a tab and a command (or more columns, if its first line names them), or JSON Lines
    with "description" and "command". All its commands go into a memory of their own, which is deleted at the end.

    recall10 is the share of the questions with a right command among the first ten answers, mrr10 the mean of 1/rank,
    0 beyond the tenth; both with 95 % intervals.
    """
    from omnimemory.evaluation.questions import DEEPEST, ask, read_pairs, table  # noqa: PLC0415 - as for all commands

    pairs = read_pairs(file)
    with _passing_memory() as memory:
        questions, stored = _questions(memory, pairs)
        if not questions:
            note(f"None of the commands of {file} can be stored: each begins with a space or is left out.")
            return
        asked = random.Random(0).sample(questions, min(most, len(questions)))
        rows = table(
            ask(asked, lambda text, mode: (h.text for h in memory.search(text, k=DEEPEST, kind="commands", mode=mode)))
        )
        model = memory.embeddings.embedder.name
    if wants_json(as_json):
        for row in rows:
            print_json(row)
    else:
        heads = ("mode", "recall10", "mrr10", "hybrid is better by (mrr10)")
        print_table(
            heads,
            (
                (str(row["mode"]), *(_measured(row, name) for name in heads[1:3]), _better(row, "hybrid_better_by"))
                for row in rows
            ),
        )
    note(f"{len(asked):,} of {len(questions):,} questions against {stored:,} commands, model {model}")


@contextmanager
def _passing_memory() -> Iterator[Memory]:
    """Give an empty memory with the settings of the user, and a cache of its own; both are deleted afterwards."""
    settings = current_settings()
    with tempfile.TemporaryDirectory(prefix="omnimemory-eval-") as folder:
        here = {
            "store.path": Path(folder, "store"),
            "cache.path": Path(folder, "cache"),
            "index.enabled": False,  # every command is looked at: what is measured is the model, not the index
            "history.steps": 0,
        }
        with open_memory(settings.with_values(here)) as memory:
            yield memory


def _questions(memory: Memory, pairs: list[tuple[str, str]]) -> tuple[list[Question], int]:
    """Store the commands; return the questions that have an answer there, and how many commands are stored."""
    from omnimemory.evaluation.questions import questions_of  # noqa: PLC0415 - as for all commands
    from omnimemory.wiring import redactor_of  # noqa: PLC0415 - as above

    lines = b"".join(json.dumps({"command": command}).encode() + b"\n" for _, command in pairs)
    with progress_on_terminal() as progress:
        memory.ingest_history(  # noqa: S604 - the "shell" is a format, none is started
            BytesIO(lines),
            shell="jsonl",
            name="questions",
            progress=progress,
        )
    stored = [str(text) for (text,) in memory.store.catalog.rows("SELECT text FROM commands")]
    redactor = redactor_of(memory.settings, keep_secrets=memory.settings.history.keep_secrets)
    return questions_of(pairs, stored, lambda command: redactor.command(command).text), len(stored)


def _measured(row: dict[str, object], name: str) -> str:
    found = row[f"{name}_interval"]
    assert isinstance(found, tuple)
    lower, mean, upper = found
    return f"{mean:.3f} ({lower:.3f} to {upper:.3f})"
