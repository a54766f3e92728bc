"""Copies of one vector: the index holds a few of them, the catalog all.

Texts that are the same, such as a licence in a hundred folders, have the same vector. HNSW links a vector to its
nearest, and the pruning of those links (Malkov and Yashunin, arXiv 1603.09320, algorithm 4) keeps every neighbour at
distance zero: more copies than a vector has links are linked to each other only, and a search that comes to them finds
nothing else, or never comes to them. Measured with chromadb 1.5.9, 8,000 vectors of which half were in five groups of
copies: .72 of the ten nearest were found, none for some questions. So the index takes :data:`MOST_TWINS` copies; what
it leaves out is noted in the table ``left_out``, and found through a copy that the index holds.

Two things must never happen: that all copies in the index are deleted while others are left out, and that a copy is
forgotten by both. Hence a deletion from a large group gives some of the others new rows, in the same transaction: they
are news to every generation of the index, which decides about them again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection as Some
from collections.abc import Iterable, Sequence

from omnimemory.storage.catalog import Catalog, Collection

__all__ = ["MOST_TWINS", "left_out", "note_left_out", "renew_twins", "surplus", "twins_left_out"]

MOST_TWINS = 8
"""How many equal vectors the index holds.

A vector has up to 32 links in the graph. In groups of 8, 16 and 24 of 8,000 vectors .96 to .99 were found, which is
no less than without any.
"""

# Equal vectors begin and end alike: this is what the catalog's index `vectors_twins` is about. (Those of steps begin
# alike wherever the first command is the same.)
_ENDS = "substr(v.vector, 1, 8), substr(v.vector, -8)"
_HAS_ENDS = "substr(v.vector, 1, 8) = ? AND substr(v.vector, -8) = ?"
_ALIKE = (
    "substr(w.vector, 1, 8) = substr(v.vector, 1, 8) AND substr(w.vector, -8) = substr(v.vector, -8) "
    "AND w.collection_id = v.collection_id"
)


def surplus(
    catalog: Catalog, generation: int, collection: Collection, after: int, upto: int, unnoted: Some[int]
) -> set[int]:
    """Return the items that the index needs not hold, as enough equal vectors come before theirs.

    Asked of vector rows above ``after`` up to ``upto``. ``unnoted`` are items that were left out and are not in
    ``left_out`` yet.
    """
    suspects = catalog.rows(
        "SELECT v.row, v.item, v.vector FROM vectors v WHERE v.collection_id = ? AND v.row > ? AND v.row <= ? AND "
        f"(SELECT 1 FROM vectors w WHERE {_ALIKE} AND w.row < v.row LIMIT 1 OFFSET {MOST_TWINS - 1}) ORDER BY v.row",
        (collection.id, after, upto),
    )
    held: dict[bytes, int] = {}
    found: set[int] = set()
    for row, item, vector in suspects:
        if vector not in held:  # asked once for each vector: what was left out of a large group is passed over
            held[vector] = _held_before(catalog, generation, row, unnoted)
        if held[vector] < MOST_TWINS:
            held[vector] += 1
        else:
            found.add(item)
    return found


def _held_before(catalog: Catalog, generation: int, row: int, unnoted: Some[int]) -> int:
    """Return how many copies of the vector at ``row`` the index holds or is about to hold, at most enough."""
    copies = catalog.blocks(
        f"SELECT w.item FROM vectors v JOIN vectors w ON {_ALIKE} AND w.vector = v.vector AND w.row < v.row "
        "WHERE v.row = ? AND NOT EXISTS (SELECT 1 FROM left_out l WHERE l.generation_id = ? "
        "AND l.collection_id = w.collection_id AND l.item = w.item) ORDER BY w.row",
        (row, generation),
        MOST_TWINS,
    )
    held = 0
    for block in copies:
        held += sum(item not in unnoted for (item,) in block)
        if held >= MOST_TWINS:
            return MOST_TWINS
    return held


def note_left_out(
    sql: sqlite3.Connection, generation: int, collection: Collection, row: int, left_out: Iterable[int]
) -> None:
    """Note which items a generation was not given of those that it takes now, up to vector ``row``."""
    sql.execute(
        "DELETE FROM left_out WHERE generation_id = ?1 AND collection_id = ?2 AND item IN "
        "(SELECT item FROM vectors WHERE collection_id = ?2 AND row <= ?3 AND row > coalesce((SELECT row FROM drained "
        "WHERE generation_id = ?1 AND collection_id = ?2), 0))",
        (generation, collection.id, row),
    )
    sql.executemany(
        "INSERT OR IGNORE INTO left_out (generation_id, collection_id, item) VALUES (?, ?, ?)",
        ((generation, collection.id, item) for item in left_out),
    )


def left_out(catalog: Catalog, generation: int, collection: Collection) -> set[int]:
    """Return the items that a generation was not given."""
    query = "SELECT item FROM left_out WHERE generation_id = ? AND collection_id = ?"
    return {item for (item,) in catalog.rows(query, (generation, collection.id))}


def twins_left_out(
    catalog: Catalog, generation: int, collection: Collection, items: Iterable[int], k: int
) -> list[int]:
    """Return the items that a generation left out because their vectors are those of ``items``, the first k of each."""
    place = (generation, collection.id)
    if not catalog.value("SELECT EXISTS (SELECT 1 FROM left_out WHERE generation_id = ? AND collection_id = ?)", place):
        return []
    ends = catalog.rows(
        f"SELECT DISTINCT {_ENDS} FROM json_each(?) j CROSS JOIN vectors v ON v.collection_id = ? AND v.item = j.value",
        (json.dumps(list(items)), collection.id),
    )
    found: list[int] = []
    for both in ends:
        rows = catalog.rows(
            "SELECT v.item FROM vectors v INDEXED BY vectors_twins CROSS JOIN left_out l ON l.generation_id = ? "
            f"AND l.collection_id = ? AND l.item = v.item WHERE v.collection_id = ? AND {_HAS_ENDS} "
            "ORDER BY v.row LIMIT ?",
            (*place, collection.id, *both, k),
        )
        found.extend(item for (item,) in rows)
    return found


def renew_twins(sql: sqlite3.Connection, owner: int, items: Sequence[int]) -> None:
    """Make some twins of these items news to the index, as the items of collection ``owner`` are about to be deleted.

    ``sql`` may be the connection of a backup, also of one that knows of no twins yet.
    """
    if not sql.execute("SELECT 1 FROM sqlite_master WHERE name = 'left_out'").fetchone():
        return
    doomed = json.dumps(list(items))
    ends = sql.execute(
        f"SELECT DISTINCT {_ENDS} FROM json_each(?) j CROSS JOIN vectors v "
        "ON v.collection_id = ? AND v.item = j.value "
        f"WHERE (SELECT 1 FROM vectors w WHERE {_ALIKE} LIMIT 1 OFFSET {MOST_TWINS})",
        (doomed, owner),
    ).fetchall()
    for both in ends:
        # Those of them that the index holds stay there: with the others it comes to as many as it should hold.
        rows = sql.execute(
            "SELECT v.row, v.collection_id, v.item, v.vector, v.checksum FROM vectors v INDEXED BY vectors_twins "
            f"WHERE v.collection_id = ? AND {_HAS_ENDS} "
            "AND v.item NOT IN (SELECT value FROM json_each(?)) ORDER BY v.row DESC LIMIT ?",
            (owner, *both, doomed, MOST_TWINS),
        ).fetchall()
        sql.executemany("DELETE FROM vectors WHERE row = ?", ((row,) for row, *_ in rows))
        sql.executemany(
            "INSERT INTO vectors (collection_id, item, vector, checksum) VALUES (?, ?, ?, ?)",
            (stored for _, *stored in reversed(rows)),
        )
    sql.execute(
        "DELETE FROM left_out WHERE generation_id IN (SELECT id FROM generations) AND collection_id = ? "
        "AND item IN (SELECT value FROM json_each(?))",
        (owner, doomed),
    )
