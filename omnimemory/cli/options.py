"""What several commands have in common on their command line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

__all__ = ["examples", "folder_meant", "json_option", "null_option"]

json_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON on a terminal as well."
)

null_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--null", is_flag=True, help="Print the texts alone, each ended by a NUL, for scripts."
)


def examples(*lines: str) -> str:
    """Return the end of a command's help: example calls, one a line, which click shall not wrap."""
    title = "Examples:" if len(lines) > 1 else "Example:"
    return "\b\n" + "\n".join((title, *(f"  {line}" for line in lines)))


def folder_meant(given: Path | None) -> Path:
    """Return a folder as shells name it, absolute and with the links that led there; the current one when omitted."""
    named = os.environ.get("PWD", "")
    same = os.path.isabs(named) and os.path.exists(named) and os.path.samefile(named, os.curdir)  # noqa: PTH110, PTH117, PTH121 - a text of the environment, which may be anything
    here = Path(named) if same else Path.cwd()
    return Path(os.path.normpath(here / given)) if given else here
