"""Secrets out, the command's shape kept: what must not be stored is replaced by ``[REDACTED:rule]``.

A shell secret sits behind a flag of a particular command far more often than it looks like a secret, so a
command line is read word by word: known token shapes, URL credentials, environment assignments, headers,
flags that say what they are, a table of (command, sub-command) -> flags, and what is piped into a command
that reads a password. Variables, command substitutions and file names stay: they hold no secret and
teach how a tool is used. Documents are searched for known tokens, URL credentials and private keys only.

No promise that secrets are removed can be made; the recall that was measured is in the project's README.
The order of ideas follows the public filters of atuin (MIT), gitleaks (MIT) and PSReadLine (BSD-2-Clause);
rules and table are our own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from omnimemory.sources.redaction.spans import Finder, Span, replace_spans

if TYPE_CHECKING:
    from omnimemory.sources.redaction.flags import CommandTable as CommandTable

__all__ = ["CommandTable", "Redaction", "Redactor"]

# Every secret of a document has one of these: a run of token characters, a URL, a key. A question seldom has, so
# a search need not import (and compile) the rules.
_HINT = re.compile("[A-Za-z0-9_-]{16}|://|-----BEGIN")


def __getattr__(name: str) -> Any:
    if name != "CommandTable":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from omnimemory.sources.redaction.flags import CommandTable  # noqa: PLC0415 - only who makes a table needs it

    return CommandTable


@dataclass(frozen=True, slots=True)
class Redaction:
    """A text without its secrets.

    ``counts`` tells how often each rule replaced something (empty when nothing was found). ``skip`` says
    that the whole record must not be stored: a command line that starts with a space, which is how users
    of ``HISTCONTROL=ignorespace`` keep a line out of their history.
    """

    text: str
    counts: Mapping[str, int] = field(default_factory=dict)
    skip: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Redactor:
    """Finds and replaces secrets; immutable, so one may be shared by threads and sent to processes.

    With ``enabled=False`` every text is returned as it is. ``table`` stands in for the built-in table of commands.
    """

    enabled: bool = True
    table: CommandTable | None = field(default=None, repr=False)

    def command(self, text: str) -> Redaction:
        """Redact a command line (one entry of a shell history, of one or more lines)."""
        if not self.enabled:
            return Redaction(text)
        redacted, counts = replace_spans(text, _command_finder(self.table))
        return Redaction(redacted, counts, skip=text[:1] == " ")

    def document(self, text: str) -> Redaction:
        """Redact a document: known token shapes, passwords in URLs, private key blocks."""
        if not self.enabled or not _HINT.search(text):
            return Redaction(text)
        from omnimemory.sources.redaction.tokens import find_text_secrets  # noqa: PLC0415 - see _HINT

        return Redaction(*replace_spans(text, find_text_secrets))


def _command_finder(own_table: CommandTable | None) -> Finder:
    from omnimemory.sources.redaction.command_table import built_in_table  # noqa: PLC0415 - only histories need them
    from omnimemory.sources.redaction.command_texts import find_quoted_secrets  # noqa: PLC0415 - as above
    from omnimemory.sources.redaction.commands import find_command_secrets  # noqa: PLC0415 - as above
    from omnimemory.sources.redaction.tokens import find_text_secrets  # noqa: PLC0415 - as above

    def find(text: str) -> Iterator[Span]:
        yield from find_text_secrets(text)
        table = own_table or built_in_table()
        if table.may_hold_secret(text):
            yield from find_command_secrets(text, table)
            yield from find_quoted_secrets(text)

    return find
