"""Secrets that were kept on request, taken out of a history that is read without that request later.

What is stored is redacted in place: the history file may long have lost the lines.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omnimemory.ingest.events import stamped_key
from omnimemory.ingest.tally import Tally
from omnimemory.sources.redaction import Redactor
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.commands import CommandTable
from omnimemory.storage.documents import DocumentTable
from omnimemory.storage.sources import source_state

__all__ = ["ScrubbedEvents", "commands_with_secrets", "give_events"]


def commands_with_secrets(catalog: Catalog, uri: str, redactor: Redactor, tally: Tally) -> dict[int, str | None]:
    """Return the rows of a history's commands that hold secrets, and each without them; ``None``: it has to go."""
    clean: dict[int, str | None] = {}
    for row, text in catalog.rows(
        "SELECT id, text FROM commands WHERE id IN (SELECT e.command_row FROM events e "
        "JOIN sources s ON s.id = e.source_id WHERE s.uri = ? AND s.kind = 'history')",
        (uri,),
    ):
        found = redactor.command(text)
        tally.redactions.update(found.counts)
        if found.skip or not found.text.strip():
            clean[row] = None
        elif found.text != text:
            clean[row] = found.text
    return clean


@dataclass(slots=True)
class ScrubbedEvents:
    """The events of one history whose commands held secrets, given to the same commands without them."""

    table: CommandTable
    documents: DocumentTable
    uri: str
    before: Mapping[str, Any]
    clean: Mapping[int, str | None]
    tally: Tally
    texts: Sequence[str] = ()

    def write(self, sql: sqlite3.Connection, *, pending: bool) -> list[int]:  # noqa: ARG002 - Change's signature
        """See :class:`~omnimemory.ingest.tally.Change`."""
        source = self.documents.ensure_source(sql, self.uri, "history")
        if source_state(sql, source) != self.before:
            return []
        texts = list({text: None for text in self.clean.values() if text is not None})
        rows = dict(zip(texts, self.table.add(sql, texts, pending=True), strict=True))  # they are there: one is given
        opened = self.before.get("open")
        for row, text in self.clean.items():
            if text is not None:
                opened = give_events(sql, source, row, rows[text], text).get(opened, opened)
            # What is left came by another copy of the history, or was not to be kept at all.
            sql.execute("DELETE FROM events WHERE +source_id = ? AND command_row = ?", (source, row))
        self.table.forget_unused(sql, self.clean)
        self.documents.finish_source(sql, source, {**self.before, "secrets": False, "open": opened})
        self.tally.updated += len(self.clean)
        return []


def give_events(sql: sqlite3.Connection, source: int, row: int, target: int, text: str) -> dict[str | None, str]:
    """Give the events of a command in one source to the command ``target``, which reads ``text``.

    Return the new keys by the old ones, as hexadecimal digits. An event that is there already stays where it was.
    """
    of_command = "FROM events WHERE +source_id = ? AND command_row = ?"  # the sign: by the command, not the source
    stamps = sql.execute(f"SELECT timestamp {of_command}", (source, target))
    taken = Counter(stamp for (stamp,) in stamps)
    moved: dict[str | None, str] = {}
    for number, stamp, key in sql.execute(
        f"SELECT id, timestamp, key {of_command} ORDER BY position", (source, row)
    ).fetchall():
        new = key
        if stamp is not None:
            new, taken[stamp] = stamped_key(stamp, text, taken[stamp]), taken[stamp] + 1
        sql.execute("UPDATE OR IGNORE events SET command_row = ?, key = ? WHERE id = ?", (target, new, number))
        moved[key.hex()] = new.hex()
    return moved
