"""Documents in the catalog: sources, their chunks, and the keyword index over them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from omnimemory.errors import CatalogDamagedError
from omnimemory.storage.catalog import Catalog, Collection
from omnimemory.storage.checksums import chunk_checksum
from omnimemory.storage.items import NEWEST, Item, Payload, indexable
from omnimemory.storage.keyword import index_text, search_fts
from omnimemory.storage.sources import remember
from omnimemory.storage.vectors import checked_vectors, count_updates, delete_vectors, note_updates

__all__ = ["DocumentTable", "NewChunk", "StoredChunk"]

_PART = 500
_TEXT_WEIGHT, _HEADING_WEIGHT = 1.0, 0.5


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk to be stored. ``id`` is derived from its content, so storing it twice changes nothing."""

    id: str
    text: str
    start: int
    end: int
    heading: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """What is known of a chunk without reading its text."""

    row: int
    id: str
    start: int
    end: int
    heading: str
    metadata: str


def _as_json(metadata: dict[str, Any]) -> str:
    # allow_nan: SQLite could not read it back, and one such row would fail every filter.
    return json.dumps(metadata, ensure_ascii=False, sort_keys=True, allow_nan=False)


def _marks(part: Sequence[Any]) -> str:
    return ",".join("?" * len(part))


def _parts(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (values[i : i + _PART] for i in range(0, len(values), _PART))


class DocumentTable:
    """The chunks of all document sources; an :class:`~omnimemory.storage.items.ItemTable`."""

    def __init__(self, catalog: Catalog, collection: Collection) -> None:
        self.collection = collection
        self._catalog = catalog

    # -- sources

    def ensure_source(self, sql: sqlite3.Connection, uri: str, kind: str) -> int:
        """Return the row of a source, made incomplete if it is new."""
        sql.execute("INSERT INTO sources (uri, kind) VALUES (?, ?) ON CONFLICT DO NOTHING", (uri, kind))
        return int(sql.execute("SELECT id FROM sources WHERE uri = ? AND kind = ?", (uri, kind)).fetchone()[0])

    def finish_source(self, sql: sqlite3.Connection, source: int, state: dict[str, Any]) -> None:
        """Mark a source complete and remember what makes its next ingest cheap."""
        remember(sql, source, state)
        sql.execute("UPDATE sources SET complete = 1 WHERE id = ?", (source,))

    def delete_source(self, sql: sqlite3.Connection, source: int) -> int:
        """Delete a source and its chunks; return how many chunks went."""
        rows = [row for (row,) in sql.execute("SELECT id FROM chunks WHERE source_id = ?", (source,))]
        self.delete(sql, rows)
        sql.execute("DELETE FROM sources WHERE id = ?", (source,))
        return len(rows)

    # -- chunks

    def stored(self, source: int) -> dict[str, StoredChunk]:
        """Return the chunks of a source by public id."""
        rows = self._catalog.rows(
            "SELECT id, chunk_id, start_char, end_char, heading, metadata FROM chunks WHERE source_id = ?", (source,)
        )
        return {row[1]: StoredChunk(*row) for row in rows}

    def add(self, sql: sqlite3.Connection, source: int, chunks: Iterable[NewChunk], *, pending: bool) -> list[int]:
        """Store chunks and their keywords; return their rows, in order. ``pending``: their vectors come later."""
        rows, new = [], []
        for chunk in chunks:
            metadata = _as_json(chunk.metadata)
            check = chunk_checksum(chunk.id, chunk.start, chunk.end, chunk.heading, metadata, chunk.text, source)
            made = sql.execute(
                "INSERT INTO chunks (chunk_id, source_id, start_char, end_char, text, heading, metadata, pending, "
                "checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (chunk.id, source, chunk.start, chunk.end, chunk.text, chunk.heading, metadata, pending, check),
            )
            if made.rowcount and made.lastrowid is not None:
                rows.append(made.lastrowid)
                new.append((made.lastrowid, chunk))
            else:  # another process stored the same chunk meanwhile
                rows.append(int(sql.execute("SELECT id FROM chunks WHERE chunk_id = ?", (chunk.id,)).fetchone()[0]))
        # All at once: FTS5 writes down what it has gathered whenever another table is written to.
        sql.executemany(
            "INSERT INTO chunks_fts (rowid, heading, text) VALUES (?, ?, ?)",
            ((row, index_text(chunk.heading), index_text(chunk.text)) for row, chunk in new),
        )
        return rows

    def move(self, sql: sqlite3.Connection, changes: Iterable[tuple[StoredChunk, NewChunk]]) -> int:
        """Take over new offsets and metadata of chunks whose text is the same; return how many differed."""
        moved, renamed = [], []
        for old, new in changes:
            if (old.heading, old.metadata) != (new.heading, _as_json(new.metadata)):
                renamed.append((old, new))
            elif (old.start, old.end) != (new.start, new.end):
                moved.append((old, new))
        for old, new in moved:
            self._place(sql, old.row, new, named=False)
        for old, new in renamed:
            self._place(sql, old.row, new, named=True)
        if renamed:
            count_updates(sql, self.collection)
            note_updates(sql, self.collection, (old.id for old, _ in renamed))
        return len(moved) + len(renamed)

    def _place(self, sql: sqlite3.Connection, row: int, new: NewChunk, *, named: bool) -> None:
        """Give a chunk the offsets of ``new``, and its heading and metadata if it is ``named`` anew."""
        # Read again, inside the transaction: another process may have renamed or deleted it since it was looked up.
        stored = sql.execute(
            "SELECT chunk_id, start_char, end_char, heading, metadata, text, source_id, checksum FROM chunks "
            "WHERE id = ?",
            (row,),
        ).fetchone()
        if stored is None:
            return
        public, _, _, old_heading, old_metadata, text, source, check = stored
        heading, metadata = (new.heading, _as_json(new.metadata)) if named else (old_heading, old_metadata)
        if heading != old_heading:
            self._forget_keywords(sql, [(row, old_heading, text)])
            sql.execute(
                "INSERT INTO chunks_fts (rowid, heading, text) VALUES (?, ?, ?)",
                (row, index_text(heading), index_text(text)),
            )
        if check in (None, chunk_checksum(*stored[:-1])):  # damage must not be given a new, fitting checksum
            check = chunk_checksum(public, new.start, new.end, heading, metadata, text, source)
        sql.execute(
            "UPDATE chunks SET start_char = ?, end_char = ?, heading = ?, metadata = ?, checksum = ? WHERE id = ?",
            (new.start, new.end, heading, metadata, check, row),
        )

    def delete(self, sql: sqlite3.Connection, rows: Sequence[int]) -> None:
        """Delete chunks, their keywords and their vectors."""
        for part in _parts(rows):
            old = sql.execute(
                f"SELECT id, chunk_id, heading, text FROM chunks WHERE id IN ({_marks(part)})",
                tuple(part),
            ).fetchall()
            self._forget_keywords(sql, ((row, heading, text) for row, _, heading, text in old))
            delete_vectors(sql, self.collection, [(row, public) for row, public, _, _ in old])
            sql.executemany("DELETE FROM chunks WHERE id = ?", ((row,) for row, _, _, _ in old))

    def _forget_keywords(self, sql: sqlite3.Connection, old: Iterable[tuple[int, str, str]]) -> None:
        # A contentless FTS5 table forgets a row only when told exactly what was indexed.
        sql.executemany(
            "INSERT INTO chunks_fts (chunks_fts, rowid, heading, text) VALUES ('delete', ?, ?, ?)",
            ((row, index_text(heading), index_text(text)) for row, heading, text in old),
        )

    def mark_unembeddable(self, sql: sqlite3.Connection, reasons: Iterable[tuple[int, str]]) -> None:
        """Remember that the model has no vector for these rows, so that they are not tried each time."""
        sql.executemany(
            "UPDATE chunks SET unembeddable = ?, pending = 0 WHERE id = ?", ((why, row) for row, why in reasons)
        )

    # -- ItemTable

    def payload(self, after: int, limit: int, upto: int = NEWEST) -> Payload | None:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        rows = self._catalog.rows(
            "SELECT v.row, c.chunk_id, c.text, s.uri, c.heading, c.metadata, v.item, v.vector, v.checksum "
            "FROM vectors v JOIN chunks c ON c.id = v.item JOIN sources s ON s.id = c.source_id "
            "WHERE v.collection_id = ? AND v.row > ? AND v.row <= ? ORDER BY v.row LIMIT ?",
            (self.collection.id, after, upto, limit),
        )
        if not rows:
            return None
        numbers, ids, texts, uris, headings, extras, items, blobs, checksums = zip(*rows, strict=True)
        return Payload(
            list(items),
            list(ids),
            list(texts),
            [_index_metadata(*row) for row in zip(uris, headings, extras, strict=True)],
            checked_vectors(self._catalog, self.collection, items, blobs, checksums),
            int(numbers[-1]),
        )

    def metadata_of(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        found: dict[str, dict[str, Any]] = {}
        for part in _parts(ids):
            for public, uri, heading, extra in self._catalog.rows(
                "SELECT c.chunk_id, s.uri, c.heading, c.metadata FROM chunks c JOIN sources s ON s.id = c.source_id "
                f"WHERE c.chunk_id IN ({_marks(part)})",
                part,
            ):
                found[public] = _index_metadata(uri, heading, extra)
        return found

    def rows_of(self, ids: Sequence[str]) -> dict[str, int]:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        found: dict[str, int] = {}
        for part in _parts(ids):
            found.update(
                self._catalog.rows(f"SELECT chunk_id, id FROM chunks WHERE chunk_id IN ({_marks(part)})", part)
            )
        return found

    def items(self, rows: Sequence[int]) -> dict[int, Item]:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        found: dict[int, Item] = {}
        for part in _parts(rows):
            for row, public, text, uri, source, start, end, heading, extra, check in self._catalog.rows(
                "SELECT c.id, c.chunk_id, c.text, s.uri, s.id, c.start_char, c.end_char, c.heading, c.metadata, "
                f"c.checksum FROM chunks c JOIN sources s ON s.id = c.source_id WHERE c.id IN ({_marks(part)})",
                part,
            ):
                if check not in (None, chunk_checksum(public, start, end, heading, extra, text, source)):
                    raise CatalogDamagedError(
                        f"{self._catalog.path} is damaged: chunk {row} (of {uri}) is not what was stored. Run "
                        "`omnimemory repair`, which may find a copy of it, or restore a backup."
                    )
                metadata = _metadata(uri, heading, extra)
                found[row] = Item(row, public, text, str(metadata.pop("source")), start, end, metadata)
        return found

    def keyword(self, query: str, k: int) -> list[tuple[int, float]]:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        return search_fts(self._catalog, "chunks_fts", query, k, (_HEADING_WEIGHT, _TEXT_WEIGHT))

    def column(self, key: str) -> tuple[str, tuple[Any, ...]]:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        tables = "vectors v JOIN chunks c ON c.id = v.item JOIN sources s ON s.id = c.source_id"
        where = "WHERE v.collection_id = ? ORDER BY v.row"
        name, kind, value = f'$."{key}"', "json_type(c.metadata, ?)", "json_extract(c.metadata, ?)"
        if json.dumps(key, ensure_ascii=False) != f'"{key}"':  # a JSON path cannot hold every sign; this is slower
            name = key
            kind, value = (f"(SELECT {field} FROM json_each(c.metadata) WHERE key = ?)" for field in ("type", "value"))
        own = {"source": "s.uri", "heading": "nullif(c.heading, '')"}.get(key)
        if own:  # a caller's own metadata of that name wins, as it does in the index
            kind, value = f"coalesce({kind}, iif({own} IS NULL, NULL, 'text'))", f"coalesce({value}, {own})"
        return (
            f"SELECT v.row, {kind}, {value} FROM {tables} {where}",
            (name, name, self.collection.id),
        )

    def stamp(self) -> tuple[int, ...]:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        return (int(self._catalog.value("SELECT updates FROM collections WHERE id = ?", (self.collection.id,))),)

    def pending(self, limit: int, after: int = 0) -> list[tuple[int, str]]:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        return self._catalog.rows(
            "SELECT id, text FROM chunks WHERE pending AND id > ? ORDER BY id LIMIT ?", (after, limit)
        )

    def postpone(self, sql: sqlite3.Connection, rows: Iterable[int]) -> None:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        sql.executemany("UPDATE chunks SET pending = 1 WHERE id = ?", ((row,) for row in rows))

    def settle(self, sql: sqlite3.Connection, rows: Iterable[int]) -> None:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        sql.executemany("UPDATE chunks SET pending = 0 WHERE id = ?", ((row,) for row in rows))

    def count(self) -> int:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        return int(self._catalog.value("SELECT count(*) FROM chunks"))


def _metadata(uri: str, heading: str, extra: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"source": uri}
    if heading:
        metadata["heading"] = heading
    metadata.update(json.loads(extra))
    return metadata


def _index_metadata(uri: str, heading: str, extra: str) -> dict[str, Any]:
    return {"source": uri, **indexable(_metadata(uri, heading, extra))}
