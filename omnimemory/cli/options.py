"""What several commands have in common on their command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

__all__ = ["examples", "json_option", "null_option"]

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
