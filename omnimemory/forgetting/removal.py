"""Taking rows out of a catalog: the store's own, or that of a backup, each in one transaction.

Beside the rows go what was derived from them: keywords, vectors, the generations of the index. What no commit can
undo, bytes in files, is for ``purge.py``.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from omnimemory.forgetting.selection import Selection
from omnimemory.storage.cache_rows import Scope, row_keys
from omnimemory.storage.catalog import Catalog, Collection
from omnimemory.storage.commands import CommandTable
from omnimemory.storage.documents import DocumentTable
from omnimemory.storage.steps import clear_steps

__all__ = ["Removed", "Tables", "cache_keys", "correct_state", "drop_generations", "remove_rows"]

_ROLES = ("document", "query")
_CHUNKS = "SELECT id, text FROM chunks WHERE id IN (SELECT value FROM json_each(?))"
_COMMANDS = "SELECT id, text FROM commands WHERE id IN (SELECT value FROM json_each(?))"


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of documents and commands behind one connection, to be written to."""

    documents: DocumentTable
    commands: CommandTable

    @classmethod
    def of(cls, sql: sqlite3.Connection, catalog: Catalog) -> Tables:
        """Return the tables behind a connection, which may be that of a backup of ``catalog``."""
        rows = sql.execute(
            "SELECT c.id, c.name, s.dim, s.fingerprint, s.model FROM collections c JOIN spaces s ON s.id = c.space_id"
        )
        named = {row[1]: Collection(*row) for row in rows}
        return cls(DocumentTable(catalog, named["documents"]), CommandTable(catalog, named["commands"]))


@dataclass(frozen=True, slots=True)
class Removed:
    """How much went: chunks, commands, events and whole sources.

    ``texts`` are those that are stored no more, ``uris`` the sources that they came from.
    """

    chunks: int
    commands: int
    events: int
    sources: int
    texts: tuple[str, ...]
    uris: tuple[str, ...]

    @property
    def rows(self) -> int:
        """How many rows went in all."""
        return self.chunks + self.commands + self.events + self.sources


def remove_rows(sql: sqlite3.Connection, tables: Tables, chosen: Selection) -> Removed:
    """Delete what was chosen, as far as it is still there, and correct what the sources remember of it."""
    sql.execute("PRAGMA secure_delete = ON")
    sources = _touched_sources(sql, chosen)
    chunks = dict(sql.execute(_CHUNKS, (json.dumps(chosen.chunks),)))
    tables.documents.delete(sql, list(chunks))
    events, touched = _remove_events(sql, chosen)
    if events:  # a step may have been taken in these only, also between commands that stay
        clear_steps(sql)
    listed = json.dumps(sorted(touched))
    commands = dict(sql.execute(_COMMANDS, (listed,)))
    tables.commands.forget_unused(sql, touched)
    for row, _ in sql.execute(_COMMANDS, (listed,)).fetchall():
        del commands[row]  # other events speak of it
    gone = _remove_sources(sql, tables, chosen.sources)
    for source in sources:
        correct_state(sql, source, forgotten=True)
    texts = (*chunks.values(), *commands.values())
    return Removed(len(chunks), len(commands), events, gone, texts, tuple(sources.values()))


def _touched_sources(sql: sqlite3.Connection, chosen: Selection) -> dict[int, str]:
    """Return the sources that lose something, by row."""
    rows = sql.execute(
        "SELECT id, uri FROM sources WHERE id IN (SELECT value FROM json_each(?) UNION "
        "SELECT source_id FROM chunks WHERE id IN (SELECT value FROM json_each(?)) "
        "UNION SELECT source_id FROM events WHERE id IN (SELECT value FROM json_each(?)) "
        "UNION SELECT source_id FROM events WHERE command_row IN (SELECT value FROM json_each(?))) ORDER BY uri",
        tuple(map(json.dumps, (chosen.sources, chosen.chunks, chosen.events, chosen.commands))),
    )
    return dict(rows.fetchall())


def _remove_events(sql: sqlite3.Connection, chosen: Selection) -> tuple[int, set[int]]:
    """Delete events; return how many there were, and the rows of the commands that may be left without any."""
    rows = sql.execute(
        "DELETE FROM events WHERE id IN (SELECT value FROM json_each(?)) "
        "OR command_row IN (SELECT value FROM json_each(?)) RETURNING command_row",
        (json.dumps(chosen.events), json.dumps(chosen.commands)),
    ).fetchall()
    return len(rows), {row for (row,) in rows}.union(chosen.commands)


def _remove_sources(sql: sqlite3.Connection, tables: Tables, sources: Iterable[int]) -> int:
    """Delete sources of which nothing is left; one that got something new meanwhile stays."""
    gone = 0
    for source in sources:
        there, left = sql.execute(
            "SELECT EXISTS (SELECT 1 FROM sources WHERE id = :id), EXISTS (SELECT 1 FROM chunks WHERE source_id = :id) "
            "OR EXISTS (SELECT 1 FROM events WHERE source_id = :id)",
            {"id": source},
        ).fetchone()
        if there and not left:
            tables.documents.delete_source(sql, source)
            gone += 1
    return gone


def correct_state(sql: sqlite3.Connection, source: int, *, forgotten: bool) -> None:
    """Let a source remember how much is left of it, and whether something of it was forgotten now."""
    row = sql.execute("SELECT kind, state FROM sources WHERE id = ?", (source,)).fetchone()
    state = json.loads(row[1]) if row else {}
    if not state:
        return
    if row[0] == "history":
        query = "SELECT count(DISTINCT command_row) FROM events WHERE source_id = ?"
        state["commands"] = sql.execute(query, (source,)).fetchone()[0]
        key = bytes.fromhex(state.get("open") or "")
        if not sql.execute("SELECT 1 FROM events WHERE key = ?", (key,)).fetchone():
            state["open"] = None
    else:
        state["chunks"] = sql.execute("SELECT count(*) FROM chunks WHERE source_id = ?", (source,)).fetchone()[0]
    if forgotten:
        state["forgotten"] = True
    sql.execute("UPDATE sources SET state = ? WHERE id = ?", (json.dumps(state), source))


def drop_generations(sql: sqlite3.Connection) -> None:
    """Declare every generation of the index dead, also one that is being built: who has it open finds out."""
    sql.execute("DELETE FROM generations")


def cache_keys(sql: sqlite3.Connection, texts: Iterable[str]) -> bytes:
    """Return the keys (16 bytes each) under which the vectors of these texts may be cached, as text or as question."""
    return b"".join(_keys(sql, dict.fromkeys(texts)))


def _keys(sql: sqlite3.Connection, texts: Iterable[str]) -> Iterator[bytes]:
    spaces = sql.execute("SELECT DISTINCT fingerprint, dim FROM spaces").fetchall()
    scopes = [Scope(fingerprint, role, dim) for fingerprint, dim in spaces for role in _ROLES]
    for text in texts:
        for scope in scopes:
            yield from row_keys(scope.materials([text]))
