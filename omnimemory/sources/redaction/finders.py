"""All rules put together: what finds the secrets of a command line, and what finds those of a document."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from omnimemory.sources.redaction.command_table import built_in_table
from omnimemory.sources.redaction.command_texts import find_quoted_secrets
from omnimemory.sources.redaction.commands import find_command_secrets
from omnimemory.sources.redaction.flags import CommandTable
from omnimemory.sources.redaction.own_rules import compiled
from omnimemory.sources.redaction.spans import Finder, Span
from omnimemory.sources.redaction.tokens import find_text_secrets

__all__ = ["command_finder", "document_finder"]


@lru_cache(maxsize=16)
def command_finder(table: CommandTable | None, deny: tuple[str, ...], allow: tuple[str, ...]) -> Finder:
    """Return the finder for command lines, with a user's own rules (see :mod:`.own_rules`)."""
    used = built_in_table() if table is None else table
    if not (deny or allow):
        return finder_of(used)
    own = compiled(deny, allow)
    return own.applied_to(finder_of(CommandTable(dict(used), above=own.table)))


def finder_of(table: CommandTable) -> Finder:
    """Return the finder for command lines that knows the commands of ``table``."""

    def find(text: str) -> Iterator[Span]:
        yield from find_text_secrets(text)
        if table.may_hold_secret(text):
            yield from find_command_secrets(text, table)
            yield from find_quoted_secrets(text)

    return find


@lru_cache(maxsize=16)
def document_finder(deny: tuple[str, ...], allow: tuple[str, ...]) -> Finder:
    """Return the finder for documents: texts in which only what gives itself away is taken for a secret."""
    return compiled(deny, allow).applied_to(find_text_secrets) if deny or allow else find_text_secrets
