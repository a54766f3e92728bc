"""Single events from agents, tools and the hooks of shells: the same pipeline as a history, without a file to follow.

An event's identity is its time and its command, so what is stored twice is one event, and a run that dies
half-way is simply repeated.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omnimemory.embedding_service import EmbeddingService
from omnimemory.ingest.events import stamped_key
from omnimemory.ingest.history import NewCommands, tells_what_to_forget
from omnimemory.ingest.pipeline import run
from omnimemory.ingest.tally import Tally
from omnimemory.ingest.twins import without_twins
from omnimemory.records import Event, Failure
from omnimemory.sources.history.spool import read_spool, retire
from omnimemory.sources.redaction import Redactor
from omnimemory.storage.commands import CommandTable, command_id
from omnimemory.storage.documents import DocumentTable
from omnimemory.storage.sources import source_state
from omnimemory.storage.store import Store
from omnimemory.storage.tombstones import forgets, read_tombstones

__all__ = ["RECORDED", "record_event", "take_spool"]

RECORDED = "recorded"
"""The source of events that no history file holds."""


@dataclass(slots=True)
class RecordedEvents:
    """Events whose commands are stored already."""

    table: CommandTable
    documents: DocumentTable
    events: Sequence[Event]
    tally: Tally
    texts: Sequence[str] = ()

    def write(self, sql: sqlite3.Connection, *, pending: bool) -> list[int]:  # noqa: ARG002 - Change's signature
        """See :class:`~omnimemory.ingest.tally.Change`."""
        source = self.documents.ensure_source(sql, RECORDED, "history")
        query = "SELECT coalesce(max(position), -1) FROM events WHERE source_id = ?"
        position = 1 + int(sql.execute(query, (source,)).fetchone()[0])
        texts = list(dict.fromkeys(event.command for event in self.events))
        # A command that another process forgot this very moment is stored again: it has just been run.
        rows: Mapping[str, int] = dict(zip(texts, self.table.add(sql, texts, pending=True), strict=True))
        keyed = (
            (stamped_key(event.timestamp or 0.0, event.command, 0), rows[event.command], number, event)
            for number, event in enumerate(self.events, position)
        )
        gone: list[int] = []
        self.tally.events += self.table.add_events(sql, source, without_twins(sql, source, keyed, gone)) - len(gone)
        self.documents.finish_source(sql, source, source_state(sql, source))
        return []


def record_event(store: Store, embeddings: EmbeddingService, redactor: Redactor, event: Event) -> str | None:
    """Store one event, which has a time; return its command's id, ``None`` if it is left out."""
    tally = Tally()
    clean = _store(store, embeddings, redactor, [event], tally)
    return command_id(clean[0].command) if clean else None


def take_spool(
    store: Store, embeddings: EmbeddingService, redactor: Redactor, folder: Path, *, now: bool = False
) -> Tally:
    """Store what the hooks of shells have written down, and take the files away; ``now``: at once.

    What cannot be read or stored stays where it is. Raises :class:`StoreError` when nothing can be stored.
    """
    tally = Tally(forgets=forgets(store.catalog))
    for file in read_spool(folder):
        _store(store, embeddings, redactor, file.events, tally)
        if file.unreadable:
            why = f"{file.unreadable:,} records that are none, or too long, were left out"
            tally.failures.append(Failure(str(file.path), why, error=False))
        if not any(failure.error for failure in tally.failures):
            retire(file, now=now)
    return tally


def _store(
    store: Store, embeddings: EmbeddingService, redactor: Redactor, events: Sequence[Event], tally: Tally
) -> list[Event]:
    clean = list(_clean(store, redactor, events, tally))
    texts = list(dict.fromkeys(event.command for event in clean))
    known = store.commands.known(texts)
    unknown = [text for text in texts if text not in known]
    if clean:
        changes = (
            NewCommands(store.commands, store.documents, RECORDED, unknown, tally),
            RecordedEvents(store.commands, store.documents, clean, tally),
        )
        run(store, embeddings, changes, tally, drain=False)
    return clean


def _clean(store: Store, redactor: Redactor, events: Sequence[Event], tally: Tally) -> Iterator[Event]:
    """Yield events without their secrets, and leave out what is not to be kept."""
    forgotten = read_tombstones(store.catalog)
    for event in events:
        found = redactor.command(event.command)
        tally.redactions.update(found.counts)
        if found.skip or not found.text.strip() or tells_what_to_forget(event.command):
            continue
        if not forgotten.of_event(RECORDED, event.timestamp, found.text):
            yield replace(event, command=found.text)
