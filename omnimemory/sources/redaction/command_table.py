"""The built-in table of commands, read from the files beside this module when it is first needed.

``manual.table`` and ``tldr.table`` are made by ``tools/redaction_table``, ``commands.table`` is written by hand and
comes last: it wins.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from omnimemory.sources.redaction.flags import CommandTable

__all__ = ["TABLES", "built_in_table", "table_lines"]

TABLES = ("manual", "tldr", "commands")  # from weak to strong


@cache
def built_in_table() -> CommandTable:
    """Return the table that is shipped with the package."""
    return CommandTable.parse(line for name in TABLES for line in table_lines(name))


def table_lines(name: str) -> list[str]:
    """Return the lines of one of :data:`TABLES`."""
    return Path(__file__).with_name(f"{name}.table").read_text(encoding="utf-8").splitlines()
