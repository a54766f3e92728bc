"""What the catalog remembers of each source: a file, a history, or the notes added by hand.

``state`` is whatever makes the next ingest of a source cheap, as JSON; only who wrote it reads it.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from omnimemory.storage.catalog import Catalog
from omnimemory.storage.checksums import source_checksum

__all__ = ["StoredSource", "find_source", "remember", "reopen_source", "source_state", "sources_below"]


@dataclass(frozen=True, slots=True)
class StoredSource:
    """A source row; ``state`` is what the last complete ingest remembered about it."""

    id: int
    uri: str
    state: dict[str, Any]
    complete: bool


def sources_below(catalog: Catalog, root: str, kind: str) -> dict[str, StoredSource]:
    """Return the sources of a kind at the path ``root`` and below it, by uri."""
    below = f"{root.rstrip('/')}/"  # with its slash: /docs is no folder above /docs2/a.md
    rows = catalog.rows(
        "SELECT id, uri, state, complete FROM sources WHERE kind = ? AND (uri = ? OR substr(uri, 1, ?) = ?)",
        (kind, root, len(below), below),
    )
    return {row[1]: StoredSource(row[0], row[1], json.loads(row[2]), bool(row[3])) for row in rows}


def source_state(sql: sqlite3.Connection, source: int) -> dict[str, Any]:
    """Return what a source remembers at this moment; ``sql`` is a transaction."""
    found: dict[str, Any] = json.loads(sql.execute("SELECT state FROM sources WHERE id = ?", (source,)).fetchone()[0])
    return found


def remember(sql: sqlite3.Connection, source: int, state: dict[str, Any]) -> None:
    """Change what a source remembers, and nothing else about it."""
    known = json.dumps(state)
    for uri, kind in sql.execute("SELECT uri, kind FROM sources WHERE id = ?", (source,)).fetchall():
        check = source_checksum(known, uri, kind)
        sql.execute("UPDATE sources SET state = ?, checksum = ? WHERE id = ?", (known, check, source))


def reopen_source(sql: sqlite3.Connection, source: int) -> None:
    """Mark a source incomplete, so that its next ingest looks at it again, whatever it remembers."""
    sql.execute("UPDATE sources SET complete = 0 WHERE id = ?", (source,))


def find_source(catalog: Catalog, uri: str, kind: str) -> StoredSource | None:
    """Return a source by its uri and kind, or ``None``."""
    rows = catalog.rows("SELECT id, uri, state, complete FROM sources WHERE uri = ? AND kind = ?", (uri, kind))
    return next((StoredSource(row[0], row[1], json.loads(row[2]), bool(row[3])) for row in rows), None)
