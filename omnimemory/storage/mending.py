"""What is done to a damaged catalog in place: vectors from the cache, rows taken out, book-keeping made anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnimemory.storage.bit_errors import mended_vector
from omnimemory.storage.catalog import Catalog, Collection
from omnimemory.storage.checksums import vector_checksums
from omnimemory.storage.consistency import ITEM_TABLES
from omnimemory.storage.restoring import raw_transaction
from omnimemory.storage.salvage import fill_keywords
from omnimemory.storage.steps import STEP_KINDS
from omnimemory.storage.vectors import delete_vectors, insert_vectors
from omnimemory.storage.verification import KEYWORD_TABLES

__all__ = [
    "are_of_steps",
    "discard_chunks",
    "discard_commands",
    "discard_events",
    "fill_all_keywords",
    "fill_vectors",
    "forget_index",
    "prune_dangling",
    "remove_unsearched",
    "reset_sources",
    "restore_vectors",
]

_PART = 500
Cached = Callable[[Sequence[str]], tuple[NDArray[np.float32], NDArray[np.bool_]]]
"""Texts in; vectors and which of them were found out."""


def restore_vectors(
    sql: sqlite3.Connection, collection: Collection, rows: Sequence[int], cached: Cached
) -> tuple[int, int]:
    """Put back vectors that the cache has, and let the others be embedded again; return how many of each."""
    table, restored, postponed = ITEM_TABLES[collection.name], 0, 0
    for part in _parts(rows):
        query = (
            f"SELECT v.row, v.item, v.vector, v.checksum, c.text FROM vectors v LEFT JOIN {table} c ON c.id = v.item "
            f"WHERE v.collection_id = ? AND v.row IN ({_marks(part)})"
        )
        owned = sql.execute(query, (collection.id, *part)).fetchall()
        vectors, found = cached([text or "" for *_, text in owned])
        for (row, item, blob, check, text), copy, known in zip(owned, vectors, found.tolist(), strict=True):
            vector = copy if text and known else _without_flip(collection.dim, item, blob, check)
            if vector is None:
                _postpone(sql, collection, item)
                postponed += 1
            else:
                sum_ = int(vector_checksums([item], vector[np.newaxis])[0])
                stored = np.ascontiguousarray(vector, dtype="<f4").tobytes()
                sql.execute("UPDATE vectors SET vector = ?, checksum = ? WHERE row = ?", (stored, sum_, row))
                restored += 1
    return restored, postponed


def _without_flip(dim: int, item: Any, blob: Any, check: Any) -> NDArray[np.float32] | None:
    if isinstance(blob, str):  # one bit makes bytes a text
        blob = blob.encode("utf-8", "surrogateescape")
    if not isinstance(item, int) or type(blob) is not bytes or len(blob) != 4 * dim or not isinstance(check, int):
        return None
    return mended_vector(item, np.frombuffer(blob, dtype="<f4"), check)


def remove_unsearched(sql: sqlite3.Connection, rows: Sequence[int]) -> int:
    """Remove those of these vectors that belong to a space beside the one that is searched; return how many."""
    aside = "SELECT id FROM collections WHERE name LIKE '%:%'"
    removed = 0
    for part in _parts(rows):
        query = f"DELETE FROM vectors WHERE row IN ({_marks(part)}) AND collection_id IN ({aside})"
        removed += sql.execute(query, tuple(part)).rowcount
    return removed


def are_of_steps(sql: sqlite3.Connection, rows: Sequence[int]) -> int:
    """Return how many of these vectors are of transitions or sequences."""
    owners = f"SELECT id FROM collections WHERE name IN ({_marks(STEP_KINDS)})"
    query = f"SELECT count(*) FROM vectors WHERE row IN ({{}}) AND collection_id IN ({owners})"
    parts = _parts(rows)
    return sum(sql.execute(query.format(_marks(part)), (*part, *STEP_KINDS)).fetchone()[0] for part in parts)


def fill_vectors(sql: sqlite3.Connection, collection: Collection, items: Sequence[int], cached: Cached) -> int:
    """Store the vectors that the cache has of items without one; return how many."""
    table, filled = ITEM_TABLES[collection.name], 0
    for part in _parts(items):
        rows = sql.execute(f"SELECT id, text FROM {table} WHERE id IN ({_marks(part)})", tuple(part)).fetchall()
        vectors, found = cached([text for _, text in rows])
        known = [place for place, one in enumerate(found.tolist()) if one]
        insert_vectors(sql, collection, [rows[place][0] for place in known], vectors[known])
        filled += len(known)
    return filled


def _postpone(sql: sqlite3.Connection, collection: Collection, item: int) -> None:
    table = ITEM_TABLES[collection.name]
    name = "chunk_id" if table == "chunks" else "command_id"
    (public,) = sql.execute(f"SELECT {name} FROM {table} WHERE id = ?", (item,)).fetchone() or ("",)
    delete_vectors(sql, collection, [(item, public)])
    sql.execute(f"UPDATE {table} SET pending = 1 WHERE id = ?", (item,))


def reset_sources(sql: sqlite3.Connection, rows: Sequence[int]) -> None:
    """Let these sources be read again from their beginning."""
    sql.executemany("UPDATE sources SET state = '{}', complete = 0 WHERE id = ?", ((row,) for row in rows))


def discard_chunks(sql: sqlite3.Connection, collection: Collection, rows: Sequence[int]) -> None:
    """Take chunks out; their files are read again by the next ingest. The keyword index has to be made anew."""
    for row in rows:
        public, source = sql.execute("SELECT chunk_id, source_id FROM chunks WHERE id = ?", (row,)).fetchone()
        delete_vectors(sql, collection, [(row, public)])
        sql.execute("DELETE FROM chunks WHERE id = ?", (row,))
        sql.execute("UPDATE sources SET complete = 0 WHERE id = ?", (source,))


def discard_commands(sql: sqlite3.Connection, collection: Collection, rows: Sequence[int]) -> int:
    """Take commands and their events out; return how many events. The keyword index has to be made anew."""
    events = 0
    for row in rows:
        (public,) = sql.execute("SELECT command_id FROM commands WHERE id = ?", (row,)).fetchone()
        events += sql.execute("DELETE FROM events WHERE command_row = ?", (row,)).rowcount
        delete_vectors(sql, collection, [(row, public)])
        sql.execute("DELETE FROM commands WHERE id = ?", (row,))
    return events


def discard_events(sql: sqlite3.Connection, rows: Sequence[int]) -> None:
    """Take events out."""
    sql.executemany("DELETE FROM events WHERE id = ?", ((row,) for row in rows))


def prune_dangling(sql: sqlite3.Connection) -> dict[str, int]:
    """Remove what belongs to rows that are gone; return how much of what.

    A source that is gone gets a name that says so, because the texts that were in it can still be found.
    """
    for table, kind in (("chunks", "file"), ("events", "history")):
        sql.execute(
            f"INSERT INTO sources (id, uri, kind) SELECT DISTINCT source_id, 'lost source ' || source_id, '{kind}' "
            f"FROM {table} WHERE source_id NOT IN (SELECT id FROM sources)"
        )
    gone = {
        "collections without their space": "collections WHERE space_id NOT IN (SELECT id FROM spaces)",
        "vectors without their collection": "vectors WHERE collection_id NOT IN (SELECT id FROM collections)",
        "events without their command": "events WHERE command_row NOT IN (SELECT id FROM commands)",
    }
    sql.execute("PRAGMA defer_foreign_keys = ON")
    return {what: sql.execute(f"DELETE FROM {rows}").rowcount for what, rows in gone.items()}


def forget_index(sql: sqlite3.Connection) -> None:
    """Forget what is known of the index: it is made anew when it is needed next."""
    sql.execute("DELETE FROM generations")


def fill_all_keywords(catalog: Catalog) -> int:
    """Make the keyword indexes anew from the texts; return of how many."""
    with raw_transaction(catalog) as sql:
        return sum(fill_keywords(sql, table) for table in KEYWORD_TABLES)


def _parts(values: Sequence[int] | Sequence[str]) -> Iterable[Sequence[int] | Sequence[str]]:
    return (values[start : start + _PART] for start in range(0, len(values), _PART))


def _marks(part: Sequence[object]) -> str:
    return ",".join("?" * len(part))
