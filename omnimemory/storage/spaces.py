"""Vector spaces of a store beside the one that is searched: where it is moving to, and where it came from.

A move to another model fills the collections ``documents:next`` and ``commands:next`` while ``documents`` and
``commands`` are searched and written as ever. One transaction renames them: what was searched becomes ``:former`` and
is kept until somebody confirms the move or takes it back. Whoever has the store open during that goes on searching the
old vectors, and what it adds waits for its own. Deletions reach all spaces (``vectors.py``).

The row of a space stays for ever: ``forget`` needs it to find what the cache holds of a text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omnimemory.errors import StoreError
from omnimemory.faults import reach
from omnimemory.storage.catalog import Catalog, Collection
from omnimemory.storage.consistency import ITEM_TABLES
from omnimemory.storage.steps import drop_steps

__all__ = [
    "FORMER",
    "NEXT",
    "Sample",
    "begin_move",
    "characters_of",
    "drop_space",
    "left_to_move",
    "sample",
    "space",
    "still_there",
    "switch",
    "switch_back",
    "to_move",
]

NEXT, FORMER = "next", "former"
_GONE = "gone"
_SLICE = 5000

_LEFT = (
    "FROM {table} i WHERE i.id > ? AND NOT EXISTS (SELECT 1 FROM vectors v WHERE v.collection_id = ? AND v.item = i.id)"
)


def space(catalog: Catalog, part: str) -> dict[str, Collection]:
    """Return the collections of a space (``NEXT`` or ``FORMER``) by kind; empty when there is no such space."""
    found = {collection.name: collection for collection in catalog.collections(every=True)}
    return {kind: found[f"{kind}:{part}"] for kind in ITEM_TABLES if f"{kind}:{part}" in found}


def begin_move(catalog: Catalog, *, fingerprint: str, model: str, dim: int) -> dict[str, Collection]:
    """Return the collections to be filled, made if they are not there yet; those of another model are dropped."""
    begun = space(catalog, NEXT)
    if any(collection.fingerprint != fingerprint for collection in begun.values()):
        drop_space(catalog, NEXT)
        begun = {}
    if not begun:
        with catalog.transaction() as sql:
            sql.execute(
                "INSERT INTO spaces (fingerprint, model, dim) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (fingerprint, model, dim),
            )
            for kind in ITEM_TABLES:
                sql.execute(
                    "INSERT INTO collections (id, name, space_id) SELECT ?, ?, id FROM spaces WHERE fingerprint = ?",
                    (_new_number(sql), f"{kind}:{NEXT}", fingerprint),
                )
    return space(catalog, NEXT)


def _new_number(sql: sqlite3.Connection) -> int:
    """Return a number that no collection ever had: who has an old one open must not take it for the new one."""
    query = (
        "INSERT INTO meta VALUES ('last_collection', (SELECT max(id) + 1 FROM collections)) ON CONFLICT (key) "
        "DO UPDATE SET value = max(CAST(value AS INTEGER), (SELECT max(id) FROM collections)) + 1 RETURNING value"
    )
    return int(sql.execute(query).fetchone()[0])


def to_move(catalog: Catalog, collection: Collection, limit: int, after: int = 0) -> list[tuple[int, str]]:
    """Return (row, text) of items above row ``after`` without a vector in a space, by row."""
    query = f"SELECT i.id, i.text {_LEFT.format(table=_table(collection))} ORDER BY i.id LIMIT ?"
    return catalog.rows(query, (after, collection.id, limit))


def left_to_move(catalog: Catalog, collection: Collection) -> int:
    """Return how many items have no vector in a space."""
    return int(catalog.value(f"SELECT count(*) {_LEFT.format(table=_table(collection))}", (0, collection.id)))


@dataclass(frozen=True, slots=True)
class Sample:
    """Some texts of a kind that have no vector of a model, how many such there are, and their characters."""

    texts: list[str]
    left: int
    characters: int

    @property
    def scale(self) -> float:
        """How many times the characters of the sample there are in all."""
        return self.characters / max(1, sum(map(len, self.texts)))


def sample(catalog: Catalog, kind: str, fingerprint: str, size: int) -> Sample:
    """Return about ``size`` texts of a kind, spread over those without a vector in the space that is moved to."""
    begun = space(catalog, NEXT).get(kind)
    owner = begun.id if begun is not None and begun.fingerprint == fingerprint else 0
    left = _LEFT.format(table=ITEM_TABLES[kind])
    count, characters = catalog.rows(f"SELECT count(*), coalesce(sum(length(i.text)), 0) {left}", (0, owner))[0]
    query = f"SELECT i.text {left} AND i.id % ? = 0 ORDER BY i.id LIMIT ?"
    texts = [text for (text,) in catalog.rows(query, (0, owner, max(1, count // size), 2 * size)) if text.strip()]
    return Sample(texts, count, characters)


def characters_of(catalog: Catalog, kind: str) -> int:
    """Return how many characters the texts of a kind have."""
    return int(catalog.value(f"SELECT coalesce(sum(length(text)), 0) FROM {ITEM_TABLES[kind]}"))


def still_there(sql: sqlite3.Connection, kind: str, rows: Sequence[int]) -> set[int]:
    """Return which of these rows, which are sorted, still exist."""
    query = f"SELECT id FROM {ITEM_TABLES[kind]} WHERE id BETWEEN ? AND ?"
    return {row for (row,) in sql.execute(query, (rows[0], rows[-1]))} & set(rows)


def switch(catalog: Catalog, refused: Mapping[str, Mapping[int, str]]) -> None:
    """Make the next space the one that is searched, in one transaction.

    ``refused`` says by kind and row for which texts the new model has no vector, and why. Others that have none, which
    somebody stored just now, wait for the next ingest. The index is made anew when it is needed next. Raises
    :class:`StoreError` when there is no next space, or a former one still.
    """
    with catalog.transaction() as sql:
        _require(sql, NEXT)
        if sql.execute("SELECT 1 FROM collections WHERE name LIKE ?", (f"%:{FORMER}",)).fetchone():
            raise StoreError("The vectors of the model before are still kept: confirm or undo that move first.")
        for kind, table in ITEM_TABLES.items():
            _make_searched(sql, kind, NEXT, FORMER)
            _settle(sql, kind, table, refused.get(kind, {}))
        sql.execute("DELETE FROM generations")
        drop_steps(sql)  # made of the vectors of the model before
        reach("reembed.switch")


def switch_back(catalog: Catalog) -> None:
    """Make the former space the one that is searched again; the vectors of the later one are dropped afterwards."""
    with catalog.transaction() as sql:
        _require(sql, FORMER)
        if sql.execute("SELECT 1 FROM collections WHERE name LIKE ?", (f"%:{NEXT}",)).fetchone():
            raise StoreError("A move to another model was begun meanwhile: run it again.")
        for kind, table in ITEM_TABLES.items():
            _make_searched(sql, kind, FORMER, NEXT)
            _settle(sql, kind, table, {})
        sql.execute("DELETE FROM generations")
        drop_steps(sql)  # made of the vectors of the model before
        reach("reembed.switch")


def drop_space(catalog: Catalog, part: str) -> int:
    """Delete the vectors of a space, and what an earlier run was killed at; return how many vectors went.

    The space is given up in one transaction; its vectors go a slice at a time, so that nobody waits long for it.
    """
    gone = _clear(catalog)
    with catalog.transaction() as sql:
        for kind in ITEM_TABLES:
            _rename(sql, f"{kind}:{part}", f"{kind}:{_GONE}")
    return gone + _clear(catalog)


def _clear(catalog: Catalog) -> int:
    gone = 0
    for collection in space(catalog, _GONE).values():
        query = "DELETE FROM vectors WHERE row IN (SELECT row FROM vectors WHERE collection_id = ? LIMIT ?)"
        while True:
            with catalog.transaction() as sql:
                deleted = sql.execute(query, (collection.id, _SLICE)).rowcount
                if deleted < _SLICE:
                    sql.execute("DELETE FROM index_changes WHERE collection_id = ?", (collection.id,))
                    sql.execute("DELETE FROM drained WHERE collection_id = ?", (collection.id,))
                    sql.execute("DELETE FROM collections WHERE id = ?", (collection.id,))
                reach("reembed.drop")
            gone += deleted
            if deleted < _SLICE:
                break
    return gone


def _require(sql: sqlite3.Connection, part: str) -> None:
    names = {name for (name,) in sql.execute("SELECT name FROM collections")}
    if not all(f"{kind}:{part}" in names for kind in ITEM_TABLES):
        raise StoreError(f"The store has no {part} space any more: another process was first, or nothing was begun.")


def _rename(sql: sqlite3.Connection, name: str, to: str) -> None:
    sql.execute("UPDATE collections SET name = ? WHERE name = ?", (to, name))


def _make_searched(sql: sqlite3.Connection, kind: str, part: str, becomes: str) -> None:
    """Give a collection the name of its kind, and the one that had it another; what counts changes goes on growing."""
    query = "SELECT deletes, updates FROM collections WHERE name = ?"
    deletes, updates = sql.execute(query, (kind,)).fetchone()
    sql.execute("UPDATE collections SET name = ? WHERE name = ?", (f"{kind}:swapped", kind))
    sql.execute(
        "UPDATE collections SET name = ?, deletes = max(deletes, ?) + 1, updates = max(updates, ?) + 1 WHERE name = ?",
        (kind, deletes, updates, f"{kind}:{part}"),
    )
    sql.execute("UPDATE collections SET name = ? WHERE name = ?", (f"{kind}:{becomes}", f"{kind}:swapped"))


def _settle(sql: sqlite3.Connection, kind: str, table: str, refused: Mapping[int, str]) -> None:
    """Let the items of a kind know what the space that is searched now has of them."""
    there = "SELECT v.item FROM vectors v JOIN collections c ON c.id = v.collection_id WHERE c.name = ?"
    sql.execute(f"UPDATE {table} SET pending = 1, unembeddable = NULL WHERE id NOT IN ({there})", (kind,))
    sql.execute(
        f"UPDATE {table} SET pending = 0, unembeddable = NULL WHERE (pending OR unembeddable IS NOT NULL) "
        f"AND id IN ({there})",
        (kind,),
    )
    sql.executemany(
        f"UPDATE {table} SET pending = 0, unembeddable = ? WHERE id = ? AND pending",
        ((why, row) for row, why in refused.items()),
    )


def _table(collection: Collection) -> str:
    return ITEM_TABLES[collection.name.partition(":")[0]]
