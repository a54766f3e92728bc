"""The catalog's vectors: written once, read as matrices, and handed to the index in order.

A vector's ``row`` only ever grows, and SQLite has one writer, so "everything after row N" is exact: the
index remembers the last row it took (``drained``), an in-memory copy the last row it loaded. Deleting a
vector leaves a note for each generation of the index (``index_changes``) in the same transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from omnimemory.errors import InvalidVectorError
from omnimemory.storage.catalog import Catalog, Collection

__all__ = ["cosines", "delete_vectors", "insert_vectors", "note_updates", "read_vectors", "rows_above", "vectors_of"]

_READ = 256
_SCORE = 1024


def insert_vectors(
    sql: sqlite3.Connection, collection: Collection, items: Iterable[int], vectors: NDArray[np.float32]
) -> None:
    """Store one vector for each item; ``vectors`` is (n, dim). An item that has one already keeps it.

    Raises :class:`InvalidVectorError` for another shape or numbers that are not finite.
    """
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    if not len(rows):
        return
    if rows.ndim != 2 or rows.shape[1] != collection.dim or not np.isfinite(rows).all():
        raise InvalidVectorError(
            f"The collection {collection.name!r} takes finite vectors of {collection.dim} dimensions, "
            f"got an array of shape {rows.shape}."
        )
    sql.executemany(
        "INSERT OR IGNORE INTO vectors (collection_id, item, vector) VALUES (?, ?, ?)",
        ((collection.id, item, row.data) for item, row in zip(items, rows, strict=True)),
    )


def delete_vectors(sql: sqlite3.Connection, collection: Collection, items: Sequence[tuple[int, str]]) -> None:
    """Remove the vectors of ``items`` ((row id, public id) pairs) and note it for the index."""
    before = sql.total_changes
    sql.executemany(
        "DELETE FROM vectors WHERE collection_id = ? AND item = ?", ((collection.id, item) for item, _ in items)
    )
    removed = sql.total_changes - before
    sql.execute("UPDATE collections SET deletes = deletes + ? WHERE id = ?", (removed, collection.id))
    _note(sql, collection, (public for _, public in items), "delete")


def note_updates(sql: sqlite3.Connection, collection: Collection, ids: Iterable[str]) -> None:
    """Note that the index must take over new metadata of these items."""
    _note(sql, collection, ids, "update")


def _note(sql: sqlite3.Connection, collection: Collection, ids: Iterable[str], operation: str) -> None:
    generations = [row[0] for row in sql.execute("SELECT id FROM generations")]
    if not generations:
        return
    sql.executemany(
        "INSERT INTO index_changes (generation_id, collection_id, item_id, operation) VALUES (?, ?, ?, ?)",
        ((generation, collection.id, public, operation) for public in ids for generation in generations),
    )


def rows_above(catalog: Catalog, collection: Collection, row: int, enough: int = -1) -> int:
    """Return how many vectors are newer than ``row``, counting no further than ``enough`` (-1: all)."""
    query = "SELECT count(*) FROM (SELECT 1 FROM vectors WHERE collection_id = ? AND row > ? LIMIT ?)"
    return int(catalog.value(query, (collection.id, row, enough)))


def read_vectors(
    catalog: Catalog, collection: Collection, after: int = 0
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Yield (rows, items, vectors) blocks of all vectors newer than row ``after``, oldest first."""
    blocks = catalog.blocks(
        "SELECT row, item, vector FROM vectors WHERE collection_id = ? AND row > ? ORDER BY row",
        (collection.id, after),
        _READ,
    )
    for block in blocks:
        rows, items, blobs = zip(*block, strict=True)
        matrix = np.frombuffer(b"".join(blobs), dtype=np.float32).reshape(len(block), collection.dim)
        yield np.array(rows, dtype=np.int64), np.array(items, dtype=np.int64), matrix


def vectors_of(catalog: Catalog, collection: Collection, items: Sequence[int]) -> dict[int, NDArray[np.float32]]:
    """Return the vectors of these items by item; items without one are absent."""
    found: dict[int, NDArray[np.float32]] = {}
    for start in range(0, len(items), 500):
        part = items[start : start + 500]
        marks = ",".join("?" * len(part))
        for item, blob in catalog.rows(
            f"SELECT item, vector FROM vectors WHERE collection_id = ? AND item IN ({marks})",
            (collection.id, *part),
        ):
            found[item] = np.frombuffer(blob, dtype=np.float32)
    return found


def cosines(
    vectors: NDArray[np.float32], query: NDArray[np.float32], positions: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Return the cosines of ``query`` (dim,) with the unit vectors at these positions, or with all of them.

    The same vector has the same cosine wherever it stands, which a matrix product does not promise: whoever
    answers, exact search or Chroma, scores its hits here, and equal texts are equally near.
    """
    count = len(vectors) if positions is None else len(positions)
    found = np.empty(count, dtype=np.float64)
    exact = query.astype(np.float64)
    for start in range(0, count, _SCORE):
        part = slice(start, start + _SCORE)
        found[part] = (vectors[part if positions is None else positions[part]] * exact).sum(axis=1)
    return found
