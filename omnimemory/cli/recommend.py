"""``models recommend``: which embedding model this machine can hold, and which chat model suits a question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from omnimemory.cli.options import examples, json_option
from omnimemory.cli.output import format_bytes, note, print_json, print_table, visible, wants_json
from omnimemory.cli.residents import opened_models

if TYPE_CHECKING:
    from omnimemory.recommending.recommend import Option, Recommendation

__all__ = ["recommend"]


@click.command(
    epilog=examples(
        "omnimemory models recommend",
        'omnimemory models recommend "compare two backup plans and their costs"',
        "omnimemory models recommend --level high --json",
    )
)
@click.argument("question", nargs=-1)
@click.option(
    "--level", type=click.Choice(["low", "medium", "high"]), help="How hard the question is, whatever it looks like."
)
@json_option
def recommend(question: Sequence[str], level: str | None, as_json: bool) -> None:
    """Say which embedding model suits this machine, and which chat model of an Ollama suits QUESTION.

    How hard a question is, is told from its length, clauses, operators and the things it names. What has no room in the
    memory there is now is never recommended; it stands last, with the reason. The question is sent nowhere.
    """
    with opened_models() as models:
        found = models.recommend(" ".join(question) or None, level=level)
    if wants_json(as_json):
        print_json(found.to_dict())
        return
    _print(found)


def _print(found: Recommendation) -> None:
    _print_options("embedding model", found.embedding)
    if found.question is not None:
        asked = found.question
        click.echo(
            f"\nThe question: {asked.level} ({asked.words} words, {asked.clauses} clauses, {asked.operators} operators,"
            f" {asked.entities} names). Fetch {asked.k} hits{' and order them anew' if asked.rerank else ''}."
        )
        _print_options("chat model", found.chat)
    for each in found.notes:
        note(visible(each))


def _print_options(title: str, options: Sequence[Option]) -> None:
    rows = [
        (
            option.name,
            format_bytes(option.bytes),
            "yes" if option.ready else "no",
            "yes" if option.fits else "no",
            option.reason,
        )
        for option in options
    ]
    if rows:
        print_table((title, "size", "here", "fits", "why"), rows, numbers=("size",))
