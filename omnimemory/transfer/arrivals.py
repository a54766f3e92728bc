"""What an export brings, as changes of the store that the pipeline commits.

An import only adds: what the store knows otherwise stays as it is and is reported. A source that is not in the store
yet is filled under a mark, and gets its state, which tells an ingest that it need not be read again, in the last of
its commits; an import that dies is continued by the next one, and an ingest that comes in between is not misled.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from omnimemory.ingest.tally import Tally
from omnimemory.records import Failure
from omnimemory.sources.history import CURSOR_FIELDS
from omnimemory.storage.commands import CommandTable
from omnimemory.storage.documents import DocumentTable, NewChunk
from omnimemory.storage.sources import remember, reopen_source, source_state
from omnimemory.transfer.contents import ExportedEvent, ExportedSource

__all__ = ["Arrival", "ArrivedChunks", "ArrivedCommands", "ArrivedEvents", "ArrivedNotes", "FinishedSource"]

_IMPORTING = {"importing": True}
_NO_TIME = "of its events have no time and were left out: only the history itself tells which of them are new"


@dataclass(slots=True)
class Arrival:
    """One source on its way in: how many chunks and events came, and what of them was not taken."""

    source: ExportedSource
    documents: DocumentTable
    tally: Tally
    chunks: int = 0
    changed: bool = False
    left_out: int = 0
    kept: bool = False

    def fillable(self, sql: sqlite3.Connection) -> int | None:
        """Return the source's row, marked as being imported, or ``None`` if somebody else has filled it."""
        row = self.documents.ensure_source(sql, self.source.uri, self.source.kind)
        state, complete = sql.execute("SELECT state, complete FROM sources WHERE id = ?", (row,)).fetchone()
        if complete or json.loads(state) not in ({}, _IMPORTING):
            return None
        remember(sql, row, _IMPORTING)
        return row

    def tell(self, count: int, why: str) -> None:
        """Report how many parts of this source were not taken, and why."""
        self.tally.failures.append(Failure(self.source.uri, f"{count:,} {why}", error=False))
        self.tally.skipped += count - 1  # one of them is counted by its line in the report

    def keep_own(self) -> None:
        """Report, once, that the store's own version of this source stays."""
        if not self.kept:
            self.kept = True
            why = "the store has another version of it, which was kept; ingest the source itself to bring it up to date"
            self.tally.failures.append(Failure(self.source.uri, why, error=False))


@dataclass(slots=True)
class ArrivedChunks:
    """Some chunks of a file."""

    table: DocumentTable
    arrival: Arrival
    chunks: Sequence[NewChunk]

    @property
    def texts(self) -> Sequence[str]:
        """See :class:`~omnimemory.ingest.tally.Change`."""
        return [chunk.text for chunk in self.chunks]

    def write(self, sql: sqlite3.Connection, *, pending: bool) -> list[int]:
        """See :class:`~omnimemory.ingest.tally.Change`."""
        source = self.arrival.fillable(sql)
        if source is None:
            self.arrival.keep_own()
            return []
        self.arrival.tally.added += len(self.chunks)
        return self.table.add(sql, source, self.chunks, pending=pending)


@dataclass(slots=True)
class ArrivedNotes:
    """Some notes whose ids the store did not know."""

    table: DocumentTable
    arrival: Arrival
    chunks: Sequence[NewChunk]

    @property
    def texts(self) -> Sequence[str]:
        """See :class:`~omnimemory.ingest.tally.Change`."""
        return [chunk.text for chunk in self.chunks]

    def write(self, sql: sqlite3.Connection, *, pending: bool) -> list[int]:
        """See :class:`~omnimemory.ingest.tally.Change`."""
        source = self.table.ensure_source(sql, self.arrival.source.uri, self.arrival.source.kind)
        self.arrival.tally.added += len(self.chunks)
        return self.table.add(sql, source, self.chunks, pending=pending)


@dataclass(slots=True)
class ArrivedEvents:
    """Some events of a history; their commands are stored with them, and get their vectors later."""

    table: CommandTable
    arrival: Arrival
    events: Sequence[ExportedEvent]
    texts: Sequence[str] = ()

    def write(self, sql: sqlite3.Connection, *, pending: bool) -> list[int]:  # noqa: ARG002 - Change's signature
        """See :class:`~omnimemory.ingest.tally.Change`."""
        source, events = self.arrival.fillable(sql), self.events
        if source is None:
            source = self.arrival.documents.ensure_source(sql, self.arrival.source.uri, self.arrival.source.kind)
            events = self._mergeable(sql)
        texts = list(dict.fromkeys(arrived.event.command for arrived in events))
        rows = self.table.known(texts)
        missing = [text for text in texts if text not in rows]
        rows.update(zip(missing, self.table.add(sql, missing, pending=True), strict=True))
        self.arrival.tally.added += len(missing)
        keyed = ((arrived.key, rows[arrived.event.command], arrived.position, arrived.event) for arrived in events)
        added = self.table.add_events(sql, source, keyed)
        self.arrival.tally.events += added
        if added and events is not self.events:
            _read_anew(sql, source)
        return []

    def _mergeable(self, sql: sqlite3.Connection) -> list[ExportedEvent]:
        """Return the events that a history which the store has read itself may take.

        Without a time an event is told by its place in its file alone. To add one that came by another way would
        take the place of one that the file still holds.
        """
        timeless = [arrived for arrived in self.events if arrived.event.timestamp is None]
        self.arrival.left_out += sum(1 for arrived in timeless if not _is_known(sql, arrived))
        return [arrived for arrived in self.events if arrived.event.timestamp is not None]


def _read_anew(sql: sqlite3.Connection, source: int) -> None:
    """Let the next ingest read a history from its start: what it would find behind its cursor may be here already."""
    state = source_state(sql, source)
    remember(sql, source, {key: value for key, value in state.items() if key not in CURSOR_FIELDS})


def _is_known(sql: sqlite3.Connection, arrived: ExportedEvent) -> bool:
    query = "SELECT 1 FROM events e JOIN commands c ON c.id = e.command_row WHERE e.key = ? AND c.text = ?"
    return sql.execute(query, (arrived.key, arrived.event.command)).fetchone() is not None


@dataclass(slots=True)
class ArrivedCommands:
    """Commands that wait for their vectors."""

    table: CommandTable
    texts: Sequence[str]

    def write(self, sql: sqlite3.Connection, *, pending: bool) -> list[int]:
        """See :class:`~omnimemory.ingest.tally.Change`."""
        rows = self.table.add(sql, self.texts, pending=pending)
        if not pending:
            self.table.settle(sql, rows)
        return rows


@dataclass(slots=True)
class FinishedSource:
    """The end of a source: it gets the state that it had where it came from, if all of it is here."""

    table: DocumentTable
    arrival: Arrival
    state: dict[str, Any]
    complete: bool
    texts: Sequence[str] = field(default=())

    def write(self, sql: sqlite3.Connection, *, pending: bool) -> list[int]:  # noqa: ARG002 - Change's signature
        """See :class:`~omnimemory.ingest.tally.Change`."""
        arrival = self.arrival
        if arrival.left_out:
            arrival.tell(arrival.left_out, _NO_TIME)
        source = arrival.fillable(sql)
        if source is None:
            self._note_secrets(sql)
            return []
        here = sql.execute("SELECT count(*) FROM chunks WHERE source_id = ?", (source,)).fetchone()[0]
        whole = here == arrival.chunks and not arrival.changed
        self.table.finish_source(sql, source, self.state if whole else {})
        if not (whole and self.complete):
            reopen_source(sql, source)
        if here != arrival.chunks and not arrival.changed:
            why = "it has parts that the store knows as something else's, or otherwise: ingest it again"
            arrival.tally.failures.append(Failure(arrival.source.uri, why, error=False))
        return []

    def _note_secrets(self, sql: sqlite3.Connection) -> None:
        """Remember that secrets came into a history that had none: the next ingest without them takes them out."""
        if self.state.get("secrets"):
            source = self.table.ensure_source(sql, self.arrival.source.uri, self.arrival.source.kind)
            remember(sql, source, {**source_state(sql, source), "secrets": True})
