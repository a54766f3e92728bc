"""The built-in table of commands, read from ``commands.table`` beside this module when it is first needed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from omnimemory.sources.redaction.flags import CommandTable

__all__ = ["built_in_table"]


@cache
def built_in_table() -> CommandTable:
    """Return the table that is shipped with the package."""
    text = Path(__file__).with_name("commands.table").read_text(encoding="utf-8")
    return CommandTable.parse(text.splitlines())
