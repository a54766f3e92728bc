"""Rows of texts and events that are not what was stored, put right.

A text has a copy in the index (Chroma keeps the texts in its own SQLite file unless ``index.documents`` is off), and
a single flipped bit needs none (``bit_errors.py``). What is put back fits the checksum of the row, so it is what was
stored.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from omnimemory.storage.bit_errors import mended_row, neighbours
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.checksums import chunk_checksum, event_checksum, source_checksum, text_checksum
from omnimemory.storage.commands import command_id
from omnimemory.storage.verification import as_stored

__all__ = [
    "Copy",
    "copies_in_index",
    "raw_transaction",
    "restore_chunks",
    "restore_commands",
    "restore_events",
    "restore_key",
    "restore_sources",
]

_PART = 500
_TEXT = "chroma:document"
_PUT_CHUNK = (
    "UPDATE chunks SET chunk_id = ?, start_char = ?, end_char = ?, heading = ?, metadata = ?, text = ?, source_id = ?, "
    "checksum = ? WHERE id = ?"
)
_SAID = (
    *("timestamp", "cwd", "exit_code", "duration", "session", "host", "shell"),
    *("key", "command_row", "source_id", "position", "checksum"),
)
_EVENT = f"SELECT {', '.join(_SAID)} FROM events WHERE id = ?"
_PUT_EVENT = f"UPDATE events SET {', '.join(f'{name} = ?' for name in _SAID)} WHERE id = ?"
Copy = dict[str, Any]
"""What Chroma has of an item: its text and its metadata."""


@contextmanager
def raw_transaction(catalog: Catalog) -> Iterator[sqlite3.Connection]:
    """Write under one transaction, in which texts that are no UTF-8 any more can be read."""
    with catalog.transaction() as sql:
        sql.text_factory = as_stored
        try:
            yield sql
        finally:
            sql.text_factory = str


def copies_in_index(store: Path, ids: Sequence[str]) -> dict[str, Copy]:
    """Return what the indexes of a store hold of these public ids; nothing where they cannot be read."""
    found: dict[str, Copy] = {}
    for database in sorted(store.glob("index/*/chroma.sqlite3")):
        # Damaged as well, or of another version: then there is no copy.
        with suppress(sqlite3.Error), closing(_read_only(database)) as connection:
            for start in range(0, len(ids), _PART):
                part = ids[start : start + _PART]
                rows = connection.execute(
                    "SELECT e.embedding_id, m.key, coalesce(m.string_value, m.int_value, m.float_value, m.bool_value) "
                    "FROM embeddings e JOIN embedding_metadata m ON m.id = e.id "
                    f"WHERE e.embedding_id IN ({','.join('?' * len(part))})",
                    tuple(part),
                )
                for public, key, value in rows:
                    found.setdefault(public, {})[key] = value
    return found


def _read_only(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro&immutable=1", uri=True)


def restore_chunks(sql: sqlite3.Connection, rows: Sequence[int], copies: Mapping[str, Copy]) -> list[int]:
    """Put back what copies of chunks fit their checksums; return the rows for which there is none."""
    left = []
    for row in rows:
        stored = sql.execute(
            "SELECT chunk_id, start_char, end_char, heading, metadata, text, source_id, checksum FROM chunks "
            "WHERE id = ?",
            (row,),
        ).fetchone()
        if stored is None:
            continue
        *known, check = stored
        fitting = next((one for one in _candidates(known, copies.get(known[0])) if chunk_checksum(*one) == check), None)
        fitting = fitting or mended_row(known, check, chunk_checksum)
        if fitting is None:
            left.append(row)
        else:
            sql.execute(_PUT_CHUNK, (*fitting, chunk_checksum(*fitting), row))
    return left


def _candidates(stored: list[Any], copy: Copy | None) -> Iterator[tuple[Any, ...]]:
    """Yield a chunk with one or more of its heading, metadata and text as the index has them."""
    if copy is None:
        return
    public, start, end, *content, source = stored
    own = {key: value for key, value in copy.items() if key not in ("source", "heading", _TEXT)}
    theirs = (copy.get("heading", ""), json.dumps(own, ensure_ascii=False, sort_keys=True), copy.get(_TEXT))
    for choice in itertools.product((0, 1), repeat=3):
        yield (
            public,
            start,
            end,
            *(pair[which] for pair, which in zip(zip(content, theirs, strict=True), choice, strict=True)),
            source,
        )


def restore_commands(sql: sqlite3.Connection, rows: Sequence[int], copies: Mapping[str, Copy]) -> list[int]:
    """Put back the texts of commands that fit their ids; return the rows for which there is none."""
    left = []
    for row in rows:
        found = sql.execute("SELECT command_id, text FROM commands WHERE id = ?", (row,)).fetchone()
        if found is None:
            continue
        public, stored = found
        text = copies.get(public, {}).get(_TEXT)
        if not isinstance(text, str) or command_id(text) != public:
            text = command_without_flip(public, stored)
        if text is not None:
            sql.execute("UPDATE commands SET text = ? WHERE id = ?", (text, row))
        else:
            left.append(row)
    return left


def command_without_flip(public: str, text: str) -> str | None:
    """Return the text with one bit changed that this id was made of; ``None`` if there is none."""
    return next((one for one in neighbours(text) if command_id(one) == public), None)


def restore_events(sql: sqlite3.Connection, rows: Sequence[int]) -> list[int]:
    """Put back what events say where one bit is wrong; return the rows where more is."""
    left = []
    for row in rows:
        *said, check = sql.execute(_EVENT, (row,)).fetchone()
        mended = mended_row(said, check, event_checksum)
        if mended is None:
            left.append(row)
        else:
            sql.execute(_PUT_EVENT, (*mended, None, row))
            # By itself: a trigger forgets the checksum of an event that gets another key and keeps its checksum.
            sql.execute("UPDATE events SET checksum = ? WHERE id = ?", (event_checksum(*mended), row))
    return left


def restore_sources(sql: sqlite3.Connection, rows: Sequence[int]) -> list[int]:
    """Put back what sources remember where one bit is wrong; return the rows where more is."""
    left = []
    for row in rows:
        *stored, check = sql.execute("SELECT state, uri, kind, checksum FROM sources WHERE id = ?", (row,)).fetchone()
        mended = mended_row(stored, check, source_checksum)
        if mended is None:
            left.append(row)
        else:
            put = (*mended, source_checksum(*mended), row)
            sql.execute("UPDATE sources SET state = ?, uri = ?, kind = ?, checksum = ? WHERE id = ?", put)
    return left


def restore_key(sql: sqlite3.Connection) -> bool:
    """Put back the catalog's key where one bit of it or of its checksum is wrong; return whether that was possible."""
    stored = dict(sql.execute("SELECT key, value FROM meta WHERE key IN ('key', 'key_checksum')").fetchall())
    check = stored.get("key_checksum", "")
    mended = mended_row([stored.get("key", "")], int(check), text_checksum) if check.isdigit() else None
    if mended is None:
        return False
    put = [(mended[0], "key"), (str(text_checksum(mended[0])), "key_checksum")]
    sql.executemany("UPDATE meta SET value = ? WHERE key = ?", put)
    return True
