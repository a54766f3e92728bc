"""Whether the parts of a catalog fit together: items and their vectors, what waits, what belongs to nobody."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from omnimemory.storage.catalog import Catalog, Collection
from omnimemory.storage.vectors import delete_vectors

__all__ = [
    "ITEM_TABLES",
    "embedded_texts",
    "mark_missing",
    "missing_vectors",
    "orphan_vectors",
    "remove_orphans",
    "waiting_texts",
]

ITEM_TABLES = {"documents": "chunks", "commands": "commands"}
"""The table of the items of each collection."""

_BLOCK = 900
_WITHOUT = (
    "FROM {table} c WHERE NOT pending AND unembeddable IS NULL "
    "AND NOT EXISTS (SELECT 1 FROM vectors v WHERE v.collection_id = ? AND v.item = c.id)"
)
_ORPHANS = "FROM vectors v WHERE collection_id = ? AND NOT EXISTS (SELECT 1 FROM {table} c WHERE c.id = v.item)"


def missing_vectors(catalog: Catalog, collection: Collection) -> list[int]:
    """Return the items that have no vector, though neither the model was away nor has it none for them."""
    table = ITEM_TABLES[collection.name]
    rows = catalog.rows(f"SELECT c.id {_WITHOUT.format(table=table)} ORDER BY c.id", (collection.id,))
    return [row for (row,) in rows]


def orphan_vectors(catalog: Catalog, collection: Collection) -> list[int]:
    """Return the items that have a vector and are not there."""
    table = ITEM_TABLES[collection.name]
    return [item for (item,) in catalog.rows(f"SELECT item {_ORPHANS.format(table=table)}", (collection.id,))]


def embedded_texts(catalog: Catalog, collection: Collection) -> Iterator[list[tuple[int, str]]]:
    """Yield blocks of (item, text) of the items that have a vector."""
    table = ITEM_TABLES[collection.name]
    yield from catalog.blocks(
        f"SELECT c.id, c.text FROM {table} c JOIN vectors v ON v.item = c.id "
        "WHERE v.collection_id = ? AND typeof(c.text) = 'text' ORDER BY c.id",  # a damaged row may hold anything
        (collection.id,),
        _BLOCK,
    )


def waiting_texts(catalog: Catalog) -> int:
    """Return how many items are stored without a vector until the model is there again."""
    return sum(
        int(catalog.value(f"SELECT count(*) FROM {table} WHERE pending")) for table in sorted(ITEM_TABLES.values())
    )


def mark_missing(sql: sqlite3.Connection, collection: Collection) -> int:
    """Note that items without a vector wait for one; return how many."""
    table = ITEM_TABLES[collection.name]
    query = f"UPDATE {table} SET pending = 1 WHERE id IN (SELECT c.id {_WITHOUT.format(table=table)})"
    return sql.execute(query, (collection.id,)).rowcount


def remove_orphans(sql: sqlite3.Connection, collection: Collection, items: Sequence[int]) -> None:
    """Remove vectors that belong to no item. The index cannot be told their ids: it has to be made anew."""
    delete_vectors(sql, collection, [(item, "") for item in items])
