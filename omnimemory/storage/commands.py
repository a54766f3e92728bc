"""Commands in the catalog: each distinct command once, each of its executions as an event.

Commands are deduplicated, because equal text has an equal vector; events never are, because how often,
when and where something was run is what the memory is for.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from omnimemory.errors import CatalogDamagedError
from omnimemory.records import Event
from omnimemory.storage.catalog import Catalog, Collection
from omnimemory.storage.checksums import event_checksum
from omnimemory.storage.items import NEWEST, Item, Payload
from omnimemory.storage.keyword import index_text, search_fts
from omnimemory.storage.steps import forget_steps
from omnimemory.storage.vectors import checked_vectors, count_updates, delete_vectors

__all__ = ["CommandTable", "command_id"]

_PART = 500
# What can be filtered on and is shown with a hit: one value a command, from its newest event.
_NEWEST = "(SELECT {field} FROM events e WHERE e.command_row = c.id ORDER BY e.timestamp DESC, e.id DESC LIMIT 1)"
_FIELDS = {
    **{
        name: _NEWEST.format(field=f"e.{name}") for name in ("cwd", "exit_code", "duration", "session", "host", "shell")
    },
    "count": "(SELECT count(*) FROM events e WHERE e.command_row = c.id)",
    "first": "(SELECT min(e.timestamp) FROM events e WHERE e.command_row = c.id)",
    "last": "(SELECT max(e.timestamp) FROM events e WHERE e.command_row = c.id)",
    "source": _NEWEST.format(field="(SELECT uri FROM sources WHERE id = e.source_id)"),
}


def command_id(text: str) -> str:
    """Return a command's public id, derived from its text."""
    return hashlib.blake2b(f"command\0{text}".encode(), digest_size=16).hexdigest()


class CommandTable:
    """All commands and their events; an :class:`~omnimemory.storage.items.ItemTable`."""

    def __init__(self, catalog: Catalog, collection: Collection) -> None:
        self.collection = collection
        self._catalog = catalog

    # -- writing

    def known(self, texts: Sequence[str]) -> dict[str, int]:
        """Return the rows of the commands that are stored already, by text."""
        by_id = {command_id(text): text for text in texts}
        return {by_id[public]: row for public, row in self.rows_of(list(by_id)).items()}

    def add(self, sql: sqlite3.Connection, texts: Iterable[str], *, pending: bool) -> list[int]:
        """Store commands and their keywords; return their rows, in order. ``pending``: vectors come later."""
        rows, new = [], []
        for text in texts:
            public = command_id(text)
            made = sql.execute(
                "INSERT INTO commands (command_id, text, pending) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (public, text, pending),
            )
            if made.rowcount and made.lastrowid is not None:
                rows.append(made.lastrowid)
                new.append((made.lastrowid, text))
            else:  # another process stored the same command meanwhile
                rows.append(int(sql.execute("SELECT id FROM commands WHERE command_id = ?", (public,)).fetchone()[0]))
        # All at once: FTS5 writes down what it has gathered whenever another table is written to.
        sql.executemany(
            "INSERT INTO commands_fts (rowid, text) VALUES (?, ?)", ((row, index_text(text)) for row, text in new)
        )
        return rows

    def add_events(self, sql: sqlite3.Connection, source: int, events: Iterable[tuple[bytes, int, int, Event]]) -> int:
        """Store (key, command row, position, event) tuples; an event whose key is known is left alone.

        Returns how many were new.
        """
        done = sql.executemany(
            "INSERT OR IGNORE INTO events (key, command_row, source_id, position, timestamp, cwd, exit_code, "
            "duration, session, host, shell, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (key, row, source, position, *said, event_checksum(*said, key, row, source, position))
                for key, row, position, e in events
                for said in [(e.timestamp, e.cwd, e.exit_code, e.duration, e.session, e.host, e.shell)]
            ),
        )
        return done.rowcount

    def mark_unembeddable(self, sql: sqlite3.Connection, reasons: Iterable[tuple[int, str]]) -> None:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        sql.executemany(
            "UPDATE commands SET unembeddable = ?, pending = 0 WHERE id = ?", ((why, row) for row, why in reasons)
        )

    def settle(self, sql: sqlite3.Connection, rows: Iterable[int]) -> None:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        sql.executemany("UPDATE commands SET pending = 0 WHERE id = ?", ((row,) for row in rows))

    def unused(self, sql: sqlite3.Connection) -> list[int]:
        """Return the commands that no event speaks of."""
        rows = sql.execute(
            "SELECT id FROM commands c WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.command_row = c.id)"
        )
        return [row for (row,) in rows]

    def forget_unused(self, sql: sqlite3.Connection, rows: Iterable[int]) -> int:
        """Delete those of these commands that no event speaks of any more; return how many went."""
        listed, forgotten = sorted(set(rows)), 0
        for start in range(0, len(listed), _PART):
            part = listed[start : start + _PART]
            unused = sql.execute(
                f"SELECT id, command_id, text FROM commands c WHERE id IN ({','.join('?' * len(part))}) "
                "AND NOT EXISTS (SELECT 1 FROM events e WHERE e.command_row = c.id)",
                part,
            ).fetchall()
            forget_steps(sql, (row for row, _, _ in unused))
            # A contentless FTS5 table forgets a row only when told exactly what was indexed.
            sql.executemany(
                "INSERT INTO commands_fts (commands_fts, rowid, text) VALUES ('delete', ?, ?)",
                ((row, index_text(text)) for row, _, text in unused),
            )
            delete_vectors(sql, self.collection, [(row, public) for row, public, _ in unused])
            sql.executemany("DELETE FROM commands WHERE id = ?", ((row,) for row, _, _ in unused))
            forgotten += len(unused)
        if listed:  # their events have changed, and so has what can be filtered on
            count_updates(sql, self.collection)
        return forgotten

    # -- reading

    def payload(self, after: int, limit: int, upto: int = NEWEST) -> Payload | None:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        rows = self._catalog.rows(
            "SELECT v.row, c.command_id, c.text, v.item, v.vector, v.checksum "
            "FROM vectors v JOIN commands c ON c.id = v.item "
            "WHERE v.collection_id = ? AND v.row > ? AND v.row <= ? ORDER BY v.row LIMIT ?",
            (self.collection.id, after, upto, limit),
        )
        if not rows:
            return None
        numbers, ids, texts, items, blobs, checksums = zip(*rows, strict=True)
        vectors = checked_vectors(self._catalog, self.collection, items, blobs, checksums)
        return Payload(list(items), list(ids), list(texts), [_metadata() for _ in rows], vectors, int(numbers[-1]))

    def metadata_of(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        return {public: _metadata() for public in self.rows_of(ids)}

    def rows_of(self, ids: Sequence[str]) -> dict[str, int]:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        found: dict[str, int] = {}
        for start in range(0, len(ids), _PART):
            part = ids[start : start + _PART]
            marks = ",".join("?" * len(part))
            found.update(self._catalog.rows(f"SELECT command_id, id FROM commands WHERE command_id IN ({marks})", part))
        return found

    def items(self, rows: Sequence[int]) -> dict[int, Item]:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        found: dict[int, Item] = {}
        names = list(_FIELDS)
        for start in range(0, len(rows), _PART):
            part = rows[start : start + _PART]
            for row, public, text, *values in self._catalog.rows(
                f"SELECT c.id, c.command_id, c.text, {', '.join(_FIELDS.values())} FROM commands c "
                f"WHERE c.id IN ({','.join('?' * len(part))})",
                part,
            ):
                if command_id(text) != public:
                    raise CatalogDamagedError(
                        f"{self._catalog.path} is damaged: command {row} is not what was stored. Run "
                        "`omnimemory repair`, which may find a copy of it, or restore a backup."
                    )
                metadata = {name: value for name, value in zip(names, values, strict=True) if value is not None}
                found[row] = Item(row, public, text, metadata.pop("source", None), None, None, metadata)
        return found

    def keyword(self, query: str, k: int) -> list[tuple[int, float]]:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        return search_fts(self._catalog, "commands_fts", query, k)

    def column(self, key: str) -> tuple[str, tuple[Any, ...]]:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        value = _FIELDS.get(key, "NULL")
        sql = (
            "SELECT row, CASE typeof(value) WHEN 'null' THEN NULL ELSE typeof(value) END, value FROM "
            f"(SELECT v.row AS row, {value} AS value FROM vectors v JOIN commands c ON c.id = v.item "
            "WHERE v.collection_id = ?) ORDER BY row"
        )
        return sql, (self.collection.id,)

    def stamp(self) -> tuple[int, ...]:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        return self._catalog.rows(
            "SELECT updates, (SELECT coalesce(max(id), 0) FROM events) FROM collections WHERE id = ?",
            (self.collection.id,),
        )[0]

    def pending(self, limit: int, after: int = 0) -> list[tuple[int, str]]:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        return self._catalog.rows(
            "SELECT id, text FROM commands WHERE pending AND id > ? ORDER BY id LIMIT ?", (after, limit)
        )

    def postpone(self, sql: sqlite3.Connection, rows: Iterable[int]) -> None:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        sql.executemany("UPDATE commands SET pending = 1 WHERE id = ?", ((row,) for row in rows))

    def count(self) -> int:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        return int(self._catalog.value("SELECT count(*) FROM commands"))


def _metadata() -> dict[str, Any]:
    # Only what never changes goes to the index: counts and times change with every command typed.
    return {"source": "history"}
