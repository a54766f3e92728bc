"""``models ps``, ``load``, ``unload`` and ``keep``: the models in memory. No memory of texts is opened."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from omnimemory.cli.opening import current_settings
from omnimemory.cli.options import examples, json_option
from omnimemory.cli.output import format_bytes, format_seconds, note, print_json, print_table, visible, wants_json

if TYPE_CHECKING:
    from omnimemory.loaded_model import LoadedModel
    from omnimemory.resident_models import ResidentModels

__all__ = ["keep", "load", "opened_models", "ps", "unload"]


@contextmanager
def opened_models() -> Iterator[ResidentModels]:
    """Yield the models as the settings describe them, without opening a memory."""
    from omnimemory.resident_models import ResidentModels  # noqa: PLC0415 - keeps `--help` light
    from omnimemory.wiring import embedding_service  # noqa: PLC0415 - as above

    settings = current_settings()
    service = embedding_service(settings, None)
    try:
        yield ResidentModels(settings, service)
    finally:
        service.close()


@click.command(epilog=examples("omnimemory models ps", "omnimemory models ps --json"))
@json_option
def ps(as_json: bool) -> None:
    """Show the models in memory: who holds them, how much, and how long they stay if nobody uses them.

    Those of an Ollama, and those that processes of yours have held for a second or more.
    """
    with opened_models() as models:
        found = [*models.elsewhere(), *models.loaded()]
    if wants_json(as_json):
        for one in found:
            print_json(asdict(one))
    elif found:
        columns = ("model", "where", "memory", "video", "loaded by", "stays")
        print_table(columns, [_row(one) for one in found], numbers=("memory", "video"))
    else:
        note("No model is loaded.")


@click.command(
    epilog=examples(
        "omnimemory models load ollama:nomic-embed-text",
        "omnimemory models load ollama:nomic-embed-text --keep 1h --force",
        "omnimemory models load minilm",
    )
)
@click.argument("name")
@click.option("--force", is_flag=True, help="Let idle models go for it that would have stayed.")
@click.option("--keep", "kept", metavar="TIME", help="How long it stays after its last use: 10m, 0, -1 for ever.")
@json_option
def load(name: str, force: bool, kept: str | None, as_json: bool) -> None:
    """Load the model NAME if there is memory for it; also with --force never where there is none.

    A model of this package is loaded to see that it can be, and what it takes: it ends with this command.
    """
    from omnimemory.scheduler.own_memory import held  # noqa: PLC0415 - keeps `--help` light

    with opened_models() as models:
        began, before = time.perf_counter(), held().private
        one = models.load(name, force=force, keep_alive=kept)
        seconds, taken = time.perf_counter() - began, held().private - before
    here = one.where == "here"
    if wants_json(as_json):
        print_json({**asdict(one), "seconds": seconds, "taken": taken if here else None})
        return
    size = format_bytes(taken if here else one.bytes)
    ends = f" ({format_bytes(one.bytes)} were counted on); it ends with this command" if here else ""
    click.echo(visible(f"{one.name} was loaded in {format_seconds(seconds)} and takes {size}{ends}"))


@click.command(
    epilog=examples(
        "omnimemory models unload ollama:nomic-embed-text",
    )
)
@click.argument("name")
@click.option("--foreign", is_flag=True, help="Also when others loaded it.")
@json_option
def unload(name: str, foreign: bool, as_json: bool) -> None:
    """Unload the model NAME of an Ollama, see that it is gone, and say how much memory came back."""
    with opened_models() as models:
        done = models.unload(name, foreign=foreign)
    if wants_json(as_json):
        print_json(done._asdict())
    elif done.freed_bytes or done.reason == "asked":
        click.echo(visible(f"{done.model} was unloaded: {format_bytes(done.freed_bytes)} came back"))
    else:
        click.echo(visible(f"{done.model}: {done.reason}"))


@click.command(
    context_settings={"ignore_unknown_options": True},  # -1 is a time here
    epilog=examples(
        "omnimemory models keep ollama:nomic-embed-text 1h30m",
        "omnimemory models keep ollama:nomic-embed-text -1",
    ),
)
@click.argument("name")
@click.argument("duration", metavar="TIME")
@json_option
def keep(name: str, duration: str, as_json: bool) -> None:
    """Keep the model NAME of an Ollama for TIME after its last use: seconds, 1h30m, 0, or -1 for ever.

    How long models of this package stay in the processes that use them is a setting: schedule.keep_alive.
    """
    if not name.startswith("ollama:"):
        from omnimemory.model_choice import choose_embedder  # noqa: PLC0415 - keeps `--help` light

        full = choose_embedder(current_settings({"embedding.model": name})).name
        raise click.UsageError(
            f"{name} lives in the process that uses it: set schedule.keep_alive = ['{full}={duration}'] instead."
        )
    with opened_models() as models:
        models.keep(name, duration)
    if wants_json(as_json):
        print_json({"name": name, "keep_alive": duration})
    else:
        click.echo(visible(f"{name} is kept for {duration}"))


def _row(one: LoadedModel) -> tuple[str, ...]:
    left = "as long as it is needed" if one.seconds_left is None else format_seconds(one.seconds_left)
    video = format_bytes(one.vram_bytes) if one.vram_bytes else "-"
    return one.name, one.where, format_bytes(one.bytes), video, "this package" if one.ours else "others", left
