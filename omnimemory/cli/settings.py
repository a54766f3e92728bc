"""``config``: the settings, where each came from, and which files may set them."""

from __future__ import annotations

import os
from pathlib import Path

import click

from omnimemory.cli.opening import current_settings
from omnimemory.cli.options import examples, json_option
from omnimemory.cli.output import print_json, print_table, visible, wants_json

__all__ = ["config"]


@click.group(
    invoke_without_command=True,
    short_help="Show the settings and where each came from.",
    epilog=examples(
        "omnimemory config",
        "omnimemory config path",
        "OMNIMEMORY_SEARCH_K=5 omnimemory config get search.k",
    ),
)
@json_option
@click.pass_context
def config(ctx: click.Context, *, as_json: bool) -> None:
    """Show the settings and where each came from.

    From strong to weak: flags, OMNIMEMORY_<SECTION>_<KEY> in the environment, omnimemory.toml of the project (harmless
    settings only), config.toml of the user, defaults.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(show, as_json=as_json)


@config.command(
    epilog=examples(
        "omnimemory config show",
        "omnimemory config show --json | jq '.\"search.k\"'",
    )
)
@click.option("--explain", is_flag=True, help="Say what each setting means as well.")
@json_option
def show(as_json: bool, explain: bool = False) -> None:
    """Show every setting with its value and where that came from."""
    from omnimemory.config import SPECS  # noqa: PLC0415 - keeps `--help` light

    settings = current_settings()
    if wants_json(as_json):
        print_json(
            {
                key: {"value": value, "from": settings.origin(key), "meaning": SPECS[key].meaning}
                for key, value in settings.items()
            }
        )
        return
    rows = [(key, _text(value), settings.origin(key)) for key, value in settings.items()]
    if explain:
        print_table(("setting", "value", "from", "meaning"), ((*row, SPECS[row[0]].meaning) for row in rows))
    else:
        print_table(("setting", "value", "from"), rows)


@config.command(
    epilog=examples(
        "omnimemory config path",
        '$EDITOR "$(omnimemory config path --json | jq -r .user.path)"',
    )
)
@json_option
def path(as_json: bool) -> None:
    """Show which files hold settings, and where the store and the cache are."""
    from omnimemory.config import project_file, user_file  # noqa: PLC0415 - keeps `--help` light

    settings, here = current_settings(), Path.cwd()
    project = project_file(os.environ, here) or here / "omnimemory.toml"
    user = user_file(os.environ, here)
    places = {"user": user, "project": project, "store": settings.store.path, "cache": settings.cache.path}
    found = {name: {"path": str(place), "exists": place.exists()} for name, place in places.items()}
    if wants_json(as_json):
        print_json(found)
    else:
        rows = ((name, str(place), "yes" if place.exists() else "no") for name, place in places.items())
        print_table(("", "path", "exists"), rows)


def _keys(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's signature
    from omnimemory.config import SPECS  # noqa: PLC0415 - keeps `--help` light

    return [key for key in SPECS if key.startswith(incomplete)]


@config.command(
    epilog=examples(
        "omnimemory config get chunking.size",
        "omnimemory config get store.path --json",
    )
)
@click.argument("key", shell_complete=_keys)
@json_option
def get(key: str, as_json: bool) -> None:
    """Print the value of one setting."""
    settings = current_settings()
    value = settings[key]
    if as_json:
        print_json({key: value, "from": settings.origin(key)})
    else:
        click.echo(visible(_text(value)))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)
