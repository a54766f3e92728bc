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
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from omnimemory.sources.redaction.spans import Finder, locate_spans, replace_spans

if TYPE_CHECKING:
    from omnimemory.sources.redaction.flags import CommandTable as CommandTable

__all__ = ["CommandTable", "Finding", "Redaction", "Redactor"]

# Every secret of a document has one of these: a run of token characters, a URL, a key. A question seldom has, so
# a search need not import (and compile) the rules.
_HINT = re.compile("[A-Za-z0-9_-]{16}|://|-----BEGIN")
_LONG_WORD = re.compile(r"[A-Za-z0-9+=_.~-]{20}")


def __getattr__(name: str) -> Any:
    if name != "CommandTable":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from omnimemory.sources.redaction.flags import CommandTable  # noqa: PLC0415 - only who makes a table needs it

    return CommandTable


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found at ``text[start:end]``; ``why`` names the flag, variable or field that told, if one did."""

    rule: str
    start: int
    end: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Redaction:
    """A text without its secrets.

    ``counts`` tells how often each rule replaced something (empty when nothing was found). ``skip`` says
    that the whole record must not be stored: a command line that starts with a space, which is how users
    of ``HISTCONTROL=ignorespace`` keep a line out of their history. ``findings`` are told by
    :meth:`Redactor.explain` only.
    """

    text: str
    counts: Mapping[str, int] = field(default_factory=dict)
    skip: bool = False
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Redactor:
    """Finds and replaces secrets; immutable, so one may be shared by threads and sent to processes.

    With ``enabled=False`` every text is returned as it is. ``deny`` and ``allow`` are a user's own rules, see
    :mod:`omnimemory.sources.redaction.own_rules`; one that is wrong raises ``ValueError``. ``table`` stands in for
    the built-in table of commands.
    """

    enabled: bool = True
    deny: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    table: CommandTable | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.deny or self.allow:
            from omnimemory.sources.redaction.own_rules import compiled  # noqa: PLC0415 - few have rules of their own

            compiled(self.deny, self.allow)

    def command(self, text: str) -> Redaction:
        """Redact a command line (one entry of a shell history, of one or more lines)."""
        if not self.enabled:
            return Redaction(text)
        redacted, counts = replace_spans(text, self._command_finder())
        return Redaction(redacted, counts, skip=text[:1] == " ")

    def document(self, text: str) -> Redaction:
        """Redact a document: known token shapes, passwords in URLs, private key blocks."""
        if not self.enabled or not (self.deny or _HINT.search(text)):
            return Redaction(text)
        return Redaction(*replace_spans(text, self._document_finder()))

    def explain(self, text: str, *, document: bool = False) -> Redaction:
        """Redact a command line (or a document) and tell in ``findings`` which rule struck where, and why."""
        found = self.document(text) if document else self.command(text)
        if not found.counts:
            return found
        spans = locate_spans(text, self._document_finder() if document else self._command_finder())
        return replace(found, findings=tuple(Finding(rule, start, end, why) for start, end, rule, why in spans))

    def embeddable(self, text: str) -> str:
        """Return the form of a stored command line that a model is given: what might be a secret is masked."""
        if not _LONG_WORD.search(text):
            return text
        from omnimemory.sources.redaction.quarantine import masked_text  # noqa: PLC0415 - only histories need it

        return masked_text(text)

    def rules_version(self) -> str:
        """Return a name for the rules as they are, own ones included: it changes whenever they may find others."""
        import hashlib  # noqa: PLC0415 - only who remembers by which rules a text was redacted
        from pathlib import Path  # noqa: PLC0415 - as above

        digest = hashlib.blake2b(repr((self.enabled, self.deny, self.allow)).encode(), digest_size=8)
        for path in sorted(Path(__file__).parent.iterdir()):
            if path.suffix in {".py", ".table"}:
                digest.update(path.read_bytes())
        return digest.hexdigest()

    def _command_finder(self) -> Finder:
        from omnimemory.sources.redaction.finders import command_finder  # noqa: PLC0415 - only histories need them

        return command_finder(self.table, self.deny, self.allow)

    def _document_finder(self) -> Finder:
        from omnimemory.sources.redaction.finders import document_finder  # noqa: PLC0415 - see _HINT

        return document_finder(self.deny, self.allow)
