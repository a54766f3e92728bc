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

from omnimemory.errors import CatalogDamagedError, InvalidVectorError, SpaceMismatchError
from omnimemory.storage.catalog import Catalog, Collection
from omnimemory.storage.checksums import vector_checksums
from omnimemory.storage.twins import renew_twins

__all__ = [
    "checked_vectors",
    "cosines",
    "count_updates",
    "delete_vectors",
    "insert_vectors",
    "is_current",
    "moved_message",
    "note_updates",
    "read_vectors",
    "rows_above",
    "vectors_of",
    "wrong_vectors",
]

_READ = 256
_SCORE = 1024


def insert_vectors(
    sql: sqlite3.Connection, collection: Collection, items: Iterable[int], vectors: NDArray[np.float32]
) -> None:
    """Store one vector for each item; ``vectors`` is (n, dim). An item that has one already keeps it.

    Raises :class:`InvalidVectorError` for another shape or numbers that are not finite, and
    :class:`SpaceMismatchError` when the store was moved to another model since it was opened.
    """
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    if not len(rows):
        return
    if rows.ndim != 2 or rows.shape[1] != collection.dim or not np.isfinite(rows).all():
        raise InvalidVectorError(
            f"The collection {collection.name!r} takes finite vectors of {collection.dim} dimensions, "
            f"got an array of shape {rows.shape}."
        )
    if not is_current(sql, collection):
        raise SpaceMismatchError(moved_message(collection))
    owners = list(items)
    checksums = vector_checksums(owners, rows).tolist()
    sql.executemany(
        "INSERT OR IGNORE INTO vectors (collection_id, item, vector, checksum) VALUES (?, ?, ?, ?)",
        ((collection.id, item, row.data, check) for item, row, check in zip(owners, rows, checksums, strict=True)),
    )


def is_current(sql: sqlite3.Connection, collection: Collection) -> bool:
    """Return whether a collection still is what it was when it was looked up: a store may have been moved since."""
    found = sql.execute(
        "SELECT c.name, s.fingerprint FROM collections c JOIN spaces s ON s.id = c.space_id WHERE c.id = ?",
        (collection.id,),
    ).fetchone()
    return found is not None and found == (collection.name, collection.fingerprint)


def _kind(collection: Collection) -> str:
    return collection.name.partition(":")[0]


def moved_message(collection: Collection) -> str:
    """Say that a store was moved to another model while it was open here."""
    return (
        f"The store was moved from {collection.model} to another model since it was opened here: open it again. "
        "Until then what is new is found by keywords only, and waits for its vectors."
    )


def wrong_vectors(
    dim: int, items: Sequence[int], blobs: Sequence[bytes], checksums: Sequence[int | None]
) -> tuple[NDArray[np.float32], list[int]]:
    """Return the vectors (n, dim) that are stored as ``blobs``, and the places of those that are not what was stored.

    Those of another size are zeros.
    """
    wrong: set[int] = set()
    if not _have_form(dim, items, blobs, checksums):
        rows = zip(items, blobs, checksums, strict=True)
        wrong = {place for place, row in enumerate(rows) if not _has_form(dim, *row)}
    whole = [bytes(4 * dim) if place in wrong else blob for place, blob in enumerate(blobs)] if wrong else blobs
    vectors = np.frombuffer(b"".join(whole), dtype="<f4").reshape(len(whole), dim)
    found = vector_checksums([0 if place in wrong else item for place, item in enumerate(items)], vectors).tolist()
    if found != list(checksums):
        wrong.update(place for place, check in enumerate(checksums) if check not in (None, found[place]))
    return vectors, sorted(wrong)


def _have_form(dim: int, items: Sequence[int], blobs: Sequence[bytes], checksums: Sequence[int | None]) -> bool:
    # All at once, and a tenth of the time: these are sets of a few types and one length.
    return (
        set(map(type, blobs)) <= {bytes}
        and set(map(len, blobs)) <= {4 * dim}
        and set(map(type, items)) <= {int}
        and set(map(type, checksums)) <= {int, type(None)}
    )


def _has_form(dim: int, item: object, blob: object, check: object) -> bool:
    # A damaged row may hold anything, whatever the type of its column.
    return isinstance(item, int) and type(blob) is bytes and len(blob) == 4 * dim and isinstance(check, int | None)


def checked_vectors(
    catalog: Catalog,
    collection: Collection,
    items: Sequence[int],
    blobs: Sequence[bytes],
    checksums: Sequence[int | None],
) -> NDArray[np.float32]:
    """Return the vectors (n, dim) of these items. Raises :class:`CatalogDamagedError` if one is not what was stored."""
    vectors, wrong = wrong_vectors(collection.dim, items, blobs, checksums)
    if wrong:
        raise CatalogDamagedError(
            f"{catalog.path} is damaged: {len(wrong)} of its vectors of {collection.name} {_are(wrong)} not what was "
            f"stored (the first is that of item {items[wrong[0]]}). Nothing was answered from them. Run `omnimemory "
            "repair`: it takes them from the cache or marks them to be embedded again."
        )
    return vectors


def _are(some: Sequence[int]) -> str:
    return "is" if len(some) == 1 else "are"


def delete_vectors(sql: sqlite3.Connection, collection: Collection, items: Sequence[tuple[int, str]]) -> None:
    """Remove the vectors of ``items`` ((row id, public id) pairs), in every space, and note it for the index."""
    for owner in _of_kind(sql, collection):
        renew_twins(sql, owner, [item for item, _ in items])
        before = sql.total_changes
        sql.executemany(
            "DELETE FROM vectors WHERE collection_id = ? AND item = ?", ((owner, item) for item, _ in items)
        )
        removed = sql.total_changes - before
        sql.execute("UPDATE collections SET deletes = deletes + ? WHERE id = ?", (removed, owner))
    _note(sql, collection, (public for _, public in items), "delete")


def _of_kind(sql: sqlite3.Connection, collection: Collection) -> list[int]:
    rows = sql.execute("SELECT id, name FROM collections").fetchall()
    return [owner for owner, name in rows if name.partition(":")[0] == _kind(collection)]


def count_updates(sql: sqlite3.Connection, collection: Collection) -> None:
    """Count that metadata of a kind has changed, in every space, so that readers read it again."""
    sql.executemany(
        "UPDATE collections SET updates = updates + 1 WHERE id = ?", ((owner,) for owner in _of_kind(sql, collection))
    )


def note_updates(sql: sqlite3.Connection, collection: Collection, ids: Iterable[str]) -> None:
    """Note that the index must take over new metadata of these items."""
    _note(sql, collection, ids, "update")


def _note(sql: sqlite3.Connection, collection: Collection, ids: Iterable[str], operation: str) -> None:
    generations = [row[0] for row in sql.execute("SELECT id FROM generations")]
    searched = sql.execute("SELECT id FROM collections WHERE name = ?", (_kind(collection),)).fetchone()
    if not generations or searched is None:
        return
    sql.executemany(
        "INSERT INTO index_changes (generation_id, collection_id, item_id, operation) VALUES (?, ?, ?, ?)",
        ((generation, searched[0], public, operation) for public in ids for generation in generations),
    )


def rows_above(catalog: Catalog, collection: Collection, row: int) -> int:
    """Return how many vectors are newer than ``row``."""
    return int(catalog.value("SELECT count(*) FROM vectors WHERE collection_id = ? AND row > ?", (collection.id, row)))


def read_vectors(
    catalog: Catalog, collection: Collection, after: int = 0
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Yield (rows, items, vectors) blocks of all vectors newer than row ``after``, oldest first."""
    blocks = catalog.blocks(
        "SELECT row, item, vector, checksum FROM vectors WHERE collection_id = ? AND row > ? ORDER BY row",
        (collection.id, after),
        _READ,
    )
    for block in blocks:
        rows, items, blobs, checksums = zip(*block, strict=True)
        matrix = checked_vectors(catalog, collection, items, blobs, checksums)
        yield np.array(rows, dtype=np.int64), np.array(items, dtype=np.int64), matrix


def vectors_of(catalog: Catalog, collection: Collection, items: Sequence[int]) -> dict[int, NDArray[np.float32]]:
    """Return the vectors of these items by item; items without one are absent."""
    found: dict[int, NDArray[np.float32]] = {}
    for start in range(0, len(items), 500):
        part = items[start : start + 500]
        marks = ",".join("?" * len(part))
        rows = catalog.rows(
            f"SELECT item, vector, checksum FROM vectors WHERE collection_id = ? AND item IN ({marks})",
            (collection.id, *part),
        )
        if rows:
            numbers, blobs, checksums = zip(*rows, strict=True)
            found.update(zip(numbers, checked_vectors(catalog, collection, numbers, blobs, checksums), strict=True))
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
