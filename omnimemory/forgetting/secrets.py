"""Finding what the redaction rules of today would not let in, and putting what is left of it in its place.

Works on any catalog, the store's own or that of a backup. New texts are written as pending: their vectors come from
the next ingest, or from the scrub itself. A chunk's new text ends where it is long; its offsets are put right by the
next ingest of its file, which is read anew.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omnimemory.forgetting.backups import rewrite_backup
from omnimemory.forgetting.removal import Tables, correct_state
from omnimemory.forgetting.selection import Blocks
from omnimemory.ingest.clean_document import clean_value
from omnimemory.ingest.document_reader import chunk_id
from omnimemory.ingest.notes import derived_id
from omnimemory.ingest.scrub import give_events
from omnimemory.sources.redaction import Redactor
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.documents import NewChunk
from omnimemory.storage.keyword import index_text
from omnimemory.storage.sources import reopen_source

__all__ = ["Replaced", "Secrets", "find_secrets", "replace_secrets", "scrub_backup"]

_BLOCK = 1000
_PLACES = {
    "cwd": "UPDATE events SET cwd = ? WHERE cwd = ?",
    "session": "UPDATE events SET session = ? WHERE session = ?",
    "host": "UPDATE events SET host = ? WHERE host = ?",
}


@dataclass(frozen=True, slots=True)
class _CleanChunk:
    text: str
    heading: str
    metadata: dict[str, Any]


@dataclass(slots=True)
class Secrets:
    """What was found, by row: clean chunks, clean commands (``None``: it goes); (column, old, new) of events.

    ``counts`` are replacements by rule, ``kept`` commands that hold secrets on request, ``paths`` names of sources
    that look like secrets themselves, redacted.
    """

    chunks: dict[int, _CleanChunk] = field(default_factory=dict)
    commands: dict[int, str | None] = field(default_factory=dict)
    places: list[tuple[str, str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    paths: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.chunks or self.commands or self.places)


@dataclass(frozen=True, slots=True)
class Replaced:
    """How much was replaced; ``deleted`` commands went altogether; ``texts`` are those that are stored no more."""

    chunks: int
    commands: int
    events: int
    deleted: int
    texts: tuple[str, ...]


def find_secrets(blocks: Blocks, redactor: Redactor, *, keep: bool) -> Secrets:
    """Return everything in one catalog that the rules would change; ``keep`` spares what is stored on request."""
    found = Secrets()
    _find_in_commands(blocks, redactor, found, keep=keep)
    query = "SELECT id, text, heading, metadata FROM chunks ORDER BY id"
    for row, text, heading, metadata in _rows(blocks, query):
        old = _CleanChunk(text, heading, json.loads(metadata))
        counts: Counter[str] = Counter()
        new = _CleanChunk(*(clean_value(part, redactor, counts) for part in (text, heading, old.metadata)))
        if new != old:
            found.chunks[row] = new
            found.counts += counts
    for value, column in _rows(
        blocks,
        "SELECT DISTINCT cwd, 'cwd' FROM events WHERE cwd IS NOT NULL UNION ALL "
        "SELECT DISTINCT session, 'session' FROM events WHERE session IS NOT NULL UNION ALL "
        "SELECT DISTINCT host, 'host' FROM events WHERE host IS NOT NULL",
    ):
        clean_place = clean_value(value, redactor, found.counts)
        if clean_place != value:
            found.places.append((column, value, clean_place))
    uris = [uri for (uri,) in _rows(blocks, "SELECT uri FROM sources ORDER BY uri")]
    found.paths = [clean for uri in uris if (clean := redactor.document(uri).text) != uri]
    return found


def _find_in_commands(blocks: Blocks, redactor: Redactor, found: Secrets, *, keep: bool) -> None:
    query = (
        "SELECT c.id, c.text, EXISTS (SELECT 1 FROM events e JOIN sources s ON s.id = e.source_id "
        "WHERE e.command_row = c.id AND NOT coalesce(json_extract(s.state, '$.secrets'), 0)) "
        "FROM commands c ORDER BY c.id"
    )
    for row, text, unasked in _rows(blocks, query):
        redaction = redactor.command(text)
        gone = redaction.skip or not redaction.text.strip()
        if not gone and redaction.text == text:
            continue
        if keep and not unasked:
            found.kept += 1
            continue
        found.commands[row] = None if gone else redaction.text
        found.counts.update(redaction.counts)


def _rows(blocks: Blocks, query: str) -> Iterator[tuple[Any, ...]]:
    for block in blocks(query, (), _BLOCK):
        yield from block


def replace_secrets(sql: sqlite3.Connection, tables: Tables, found: Secrets, *, keep: bool) -> Replaced:
    """Put clean texts in the place of what was found, as far as it is still there; all inside one transaction."""
    sql.execute("PRAGMA secure_delete = ON")
    chunks = _replace_chunks(sql, tables, found.chunks)
    commands, events, deleted = _replace_commands(sql, tables, found.commands)
    for column, old, new in found.places:
        if _has_checksums(sql):
            # What the event says changes; a checksum that is not known is believed.
            sql.execute("UPDATE events SET checksum = NULL WHERE :old IN (cwd, session, host)", {"old": old})
        events += sql.execute(_PLACES[column], (new, old)).rowcount
    if not keep:
        sql.execute(
            "UPDATE sources SET state = json_set(state, '$.secrets', json('false')) "
            "WHERE json_extract(state, '$.secrets')"
        )
    return Replaced(len(chunks), len(commands) - deleted, events, deleted, (*chunks, *commands))


def _replace_chunks(sql: sqlite3.Connection, tables: Tables, clean: Mapping[int, _CleanChunk]) -> list[str]:
    query = (
        "SELECT c.id, c.chunk_id, c.text, c.metadata, c.start_char, s.id, s.uri, s.kind FROM chunks c "
        "JOIN sources s ON s.id = c.source_id WHERE c.id IN (SELECT value FROM json_each(?)) ORDER BY c.id"
    )
    old = sql.execute(query, (json.dumps(list(clean)),)).fetchall()
    tables.documents.delete(sql, [row[0] for row in old])
    for row, public, text, metadata, start, source, uri, kind in old:
        new = clean[row]
        if kind != "notes":
            reopen_source(sql, source)
        if new.text != text and kind != "notes":
            public = _free_chunk_id(sql, uri, new.text)  # noqa: PLW2901 - a new one
        elif kind == "notes" and public == derived_id(text, json.loads(metadata)):
            public = derived_id(new.text, new.metadata)  # noqa: PLW2901 - as above
        _add_chunk(
            sql, tables, source, NewChunk(public, new.text, start, start + len(new.text), new.heading, new.metadata)
        )
    return [row[2] for row in old]


def _free_chunk_id(sql: sqlite3.Connection, uri: str, text: str) -> str:
    occurrence = 0
    while sql.execute("SELECT 1 FROM chunks WHERE chunk_id = ?", (chunk_id(uri, text, occurrence),)).fetchone():
        occurrence += 1
    return chunk_id(uri, text, occurrence)


def _add_chunk(sql: sqlite3.Connection, tables: Tables, source: int, chunk: NewChunk) -> None:
    if _has_checksums(sql):
        tables.documents.add(sql, source, [chunk], pending=True)
        return
    made = sql.execute(
        "INSERT INTO chunks (chunk_id, source_id, start_char, end_char, text, heading, metadata, pending) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, 1) RETURNING id",
        (chunk.id, source, chunk.start, chunk.end, chunk.text, chunk.heading, json.dumps(chunk.metadata)),
    ).fetchone()
    sql.execute(
        "INSERT INTO chunks_fts (rowid, heading, text) VALUES (?, ?, ?)",
        (made[0], index_text(chunk.heading), index_text(chunk.text)),
    )


def _has_checksums(sql: sqlite3.Connection) -> bool:
    """Return whether a catalog is of a revision that has them; an older backup is not."""
    return bool(sql.execute("SELECT 1 FROM pragma_table_info('chunks') WHERE name = 'checksum'").fetchone())


def _replace_commands(
    sql: sqlite3.Connection, tables: Tables, clean: Mapping[int, str | None]
) -> tuple[list[str], int, int]:
    """Give the events of commands to the same commands without secrets; return old texts, events, commands deleted."""
    old = dict(
        sql.execute(
            "SELECT id, text FROM commands WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(clean)),)
        )
    )
    texts = list(dict.fromkeys(text for row in old if (text := clean[row]) is not None))
    targets = dict(zip(texts, tables.commands.add(sql, texts, pending=True), strict=True))
    events, touched = 0, set()
    for row in old:
        text = clean[row]
        for (source,) in sql.execute("SELECT DISTINCT source_id FROM events WHERE command_row = ?", (row,)).fetchall():
            touched.add(source)
            if text is not None:
                moved = give_events(sql, source, row, targets[text], text)
                _keep_open(sql, source, moved)
                events += len(moved)
        # What is left is there already by another copy of a history, or is not to be kept at all.
        left = sql.execute("DELETE FROM events WHERE command_row = ?", (row,)).rowcount
        events += left if text is None else 0
    tables.commands.forget_unused(sql, old)
    for source in touched:
        correct_state(sql, source, forgotten=False)
    return list(old.values()), events, sum(1 for row in old if clean[row] is None)


def _keep_open(sql: sqlite3.Connection, source: int, moved: Mapping[str | None, str]) -> None:
    """Let a history go on knowing its open event, which has got another key."""
    (opened,) = sql.execute("SELECT json_extract(state, '$.open') FROM sources WHERE id = ?", (source,)).fetchone()
    if opened in moved:
        sql.execute("UPDATE sources SET state = json_set(state, '$.open', ?) WHERE id = ?", (moved[opened], source))


def scrub_backup(backup: Path, catalog: Catalog, redactor: Redactor, *, keep: bool, wait: float) -> None:
    """Put clean texts into a backup. Errors are those of :func:`~omnimemory.forgetting.backups.rewrite_backup`."""

    def change(connection: sqlite3.Connection) -> None:
        def blocks(query: str, parameters: Sequence[Any], size: int) -> Iterator[list[tuple[Any, ...]]]:  # noqa: ARG001 - Blocks
            yield connection.execute(query, parameters).fetchall()

        found = find_secrets(blocks, redactor, keep=keep)
        replace_secrets(connection, Tables.of(connection, catalog), found, keep=keep)

    rewrite_backup(backup, change, wait=wait)
