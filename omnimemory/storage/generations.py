"""Generations of the index: which folder is the active one, and what it has taken from the catalog."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from omnimemory.errors import StoreBusyError
from omnimemory.storage.catalog import Catalog, Collection
from omnimemory.storage.twins import note_left_out

__all__ = ["Generations"]

_SEARCHED = "SELECT id FROM collections WHERE name NOT LIKE '%:%'"


class Generations:
    """The catalog's book-keeping about the index.

    A generation is a folder ``index/<id>``. Exactly one is ``active``; a rebuild fills another one
    (``building``) and swaps the two in one transaction.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def directory(self, store: Path, generation: int) -> Path:
        """Return the folder of a generation."""
        return store / "index" / str(generation)

    def active(self) -> int | None:
        """Return the active generation, or ``None`` if no index was made yet."""
        found = self._catalog.value("SELECT id FROM generations WHERE state = 'active'")
        return None if found is None else int(found)

    def knows(self, generation: int) -> bool:
        """Return whether a generation is one that is filled or in use, not given up."""
        return bool(self._catalog.value("SELECT 1 FROM generations WHERE id = ?", (generation,)))

    def begin_empty(self) -> int:
        """Register a generation that is active from the start and has taken nothing yet."""
        with self._catalog.transaction() as sql:
            sql.execute("DELETE FROM generations")
            return int(sql.execute("INSERT INTO generations (state) VALUES ('active') RETURNING id").fetchone()[0])

    def begin(self) -> int:
        """Register a generation to be built; drop the records of builds that never ended."""
        with self._catalog.transaction() as sql:
            sql.execute("DELETE FROM generations WHERE state = 'building'")
            return int(sql.execute("INSERT INTO generations (state) VALUES ('building') RETURNING id").fetchone()[0])

    def activate(self, generation: int) -> None:
        """Make a built generation the active one and forget all others."""
        with self._catalog.transaction() as sql:
            sql.execute("DELETE FROM generations WHERE id <> ?", (generation,))
            sql.execute("UPDATE generations SET state = 'active' WHERE id = ?", (generation,))

    def drained(self, generation: int, collection: Collection) -> int:
        """Return the newest vector row that the generation holds."""
        found = self._catalog.value(
            "SELECT row FROM drained WHERE generation_id = ? AND collection_id = ?", (generation, collection.id)
        )
        return int(found or 0)

    def mark_drained(
        self, generation: int, collection: Collection, row: int, left_out: Iterable[int] = (), *, wait: bool = True
    ) -> bool:
        """Remember that the generation holds everything up to ``row``, but for the items that were ``left_out``.

        Without ``wait`` nothing is done while another process writes. Returns whether it was done.
        """
        try:
            with self._catalog.transaction(wait=wait) as sql:
                note_left_out(sql, generation, collection, row, left_out)
                sql.execute(
                    "INSERT INTO drained (generation_id, collection_id, row) VALUES (?, ?, ?) "
                    "ON CONFLICT DO UPDATE SET row = excluded.row",
                    (generation, collection.id, row),
                )
        except StoreBusyError:
            if wait:
                raise
            return False
        return True

    def ends(self, generation: int, collection: Collection) -> tuple[int, int]:
        """Return the newest change and the newest vector row of one moment, as bounds for a drain."""
        change, row = self._catalog.rows(
            "SELECT (SELECT max(id) FROM index_changes WHERE generation_id = ? AND collection_id = ?), "
            "(SELECT max(row) FROM vectors WHERE collection_id = ?)",
            (generation, collection.id, collection.id),
        )[0]
        return int(change or 0), int(row or 0)

    def changes(self, generation: int, collection: Collection, upto: int, limit: int) -> list[tuple[int, str, str]]:
        """Return the oldest deletions and updates up to number ``upto``: (number, item id, operation)."""
        return self._catalog.rows(
            "SELECT id, item_id, operation FROM index_changes WHERE generation_id = ? AND collection_id = ? "
            "AND id <= ? ORDER BY id LIMIT ?",
            (generation, collection.id, upto, limit),
        )

    def forget_changes(self, generation: int, collection: Collection, upto: int, *, tombstones: int) -> None:
        """Forget changes that were applied; deleted items stay behind in the index as ``tombstones``."""
        with self._catalog.transaction() as sql:
            sql.execute(
                "DELETE FROM index_changes WHERE generation_id = ? AND collection_id = ? AND id <= ?",
                (generation, collection.id, upto),
            )
            sql.execute(
                "INSERT INTO drained (generation_id, collection_id, tombstones) VALUES (?, ?, ?) "
                "ON CONFLICT DO UPDATE SET tombstones = tombstones + excluded.tombstones",
                (generation, collection.id, tombstones),
            )

    def rows(self) -> int:
        """Return how many rows a whole index holds, or is to hold."""
        every = self._catalog.value(f"SELECT count(*) FROM vectors WHERE collection_id IN ({_SEARCHED})")
        left_out = (
            "SELECT count(*) FROM left_out WHERE generation_id = (SELECT id FROM generations WHERE state = 'active')"
        )
        return int(every) - int(self._catalog.value(left_out))

    def waiting(self) -> int:
        """Return how many rows and changes the active generation has still to take."""
        active = self.active()
        if active is None:
            return self.rows()
        rows = self._catalog.value(
            "SELECT coalesce(sum((SELECT count(*) FROM vectors v WHERE v.collection_id = c.id AND v.row > "
            "coalesce((SELECT d.row FROM drained d WHERE d.generation_id = ? AND d.collection_id = c.id), 0))), 0) "
            "FROM collections c WHERE c.name NOT LIKE '%:%'",
            (active,),
        )
        changes = self._catalog.value("SELECT count(*) FROM index_changes WHERE generation_id = ?", (active,))
        return int(rows) + int(changes)

    def tombstones(self) -> list[tuple[int, int]]:
        """Return (tombstones, living rows) of each collection in the active generation."""
        return self._catalog.rows(
            "SELECT d.tombstones, (SELECT count(*) FROM vectors v WHERE v.collection_id = d.collection_id) - "
            "(SELECT count(*) FROM left_out l WHERE (l.generation_id, l.collection_id) = (g.id, d.collection_id)) "
            "FROM drained d JOIN generations g ON g.id = d.generation_id WHERE g.state = 'active'"
        )
