"""Transitions and sequences in the catalog: items that are derived from events, with vectors made of their commands'.

They hold rows of commands and no text of their own: what is forgotten of a command is forgotten of them, and all of
them can be made anew from the events without any model. Their collections have spaces of their own, whose fingerprints
say how the vectors are made of which model's. A row is never used again, so its number is its public id.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnimemory.storage.catalog import Catalog, Collection
from omnimemory.storage.checksums import step_checksum
from omnimemory.storage.items import NEWEST, Item, Payload
from omnimemory.storage.vectors import checked_vectors, delete_vectors, insert_vectors

__all__ = [
    "SETTLED",
    "STEP_KINDS",
    "SequenceTable",
    "StepTable",
    "TransitionTable",
    "clear_steps",
    "drop_steps",
    "forget_steps",
    "stored_contents",
    "wrong_steps",
]

SETTLED = "steps"
"""The key in ``meta`` that says of which events all steps are stored."""
STEP_KINDS = ("transitions", "sequences")
_COLUMNS = {"transitions": ("before", "after"), "sequences": ("event", "commands")}
_PART = 500
_TOUCHED = {
    "transitions": "SELECT id FROM transitions WHERE before IN (SELECT value FROM json_each(:rows)) "
    "OR after IN (SELECT value FROM json_each(:rows))",
    "sequences": "SELECT DISTINCT s.id FROM sequences s, json_each(s.commands) c "
    "WHERE c.value IN (SELECT value FROM json_each(:rows))",
}


class StepTable:
    """What transitions and sequences have in common; an :class:`~omnimemory.storage.items.ItemTable`."""

    def __init__(self, catalog: Catalog, collection: Collection) -> None:
        self.collection = collection
        self.kind = collection.name
        self._catalog = catalog

    def commands(self, rows: Sequence[int]) -> dict[int, list[int]]:
        """Return the rows of the commands of these rows, in the order they ran."""
        raise NotImplementedError

    def add(
        self, sql: sqlite3.Connection, contents: Iterable[tuple[int, int | str]], vectors: NDArray[np.float32]
    ) -> int:
        """Store new rows, (before, after) or (event, commands as JSON), with their vectors (n, dim).

        What another process stored meanwhile is left as it is. Returns how many were stored.
        """
        columns = ", ".join((*_COLUMNS[self.kind], "checksum"))
        query = f"INSERT INTO {self.kind} ({columns}) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING id"
        stored = [sql.execute(query, (*both, step_checksum(*both))).fetchone() for both in contents]
        new = [place for place, row in enumerate(stored) if row is not None]
        insert_vectors(sql, self.collection, [int(stored[place][0]) for place in new], vectors[new])
        return len(new)

    def known(self) -> Iterator[tuple[int, int, Any]]:
        """Yield (row, *contents) of all rows as :meth:`add` took them."""
        query = f"SELECT id, {', '.join(_COLUMNS[self.kind])} FROM {self.kind}"
        for block in self._catalog.blocks(query, (), 1000):
            yield from block

    def remove(self, sql: sqlite3.Connection, rows: Sequence[int]) -> int:
        """Delete these rows, their vectors, and what the index has of them; return how many rows there were."""
        return _remove(sql, self.collection, rows)

    def orphans(self) -> list[int]:
        """Return the items that have a vector and are not there, as after a repair."""
        query = f"SELECT item FROM vectors WHERE collection_id = ? AND item NOT IN (SELECT id FROM {self.kind})"
        return [item for (item,) in self._catalog.rows(query, (self.collection.id,))]

    # -- ItemTable

    def payload(self, after: int, limit: int, upto: int = NEWEST) -> Payload | None:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        rows = self._catalog.rows(
            "SELECT row, item, vector, checksum FROM vectors WHERE collection_id = ? AND row > ? AND row <= ? "
            "ORDER BY row LIMIT ?",
            (self.collection.id, after, upto, limit),
        )
        if not rows:
            return None
        numbers, items, blobs, checksums = zip(*rows, strict=True)
        vectors = checked_vectors(self._catalog, self.collection, items, blobs, checksums)
        told = self.items(items)
        texts = [told[item].text if item in told else "" for item in items]
        metadatas = [told[item].metadata if item in told else {"source": "history"} for item in items]
        return Payload(
            list(items), [_public(self.kind, item) for item in items], texts, metadatas, vectors, int(numbers[-1])
        )

    def items(self, rows: Sequence[int]) -> dict[int, Item]:
        """Return these rows as items: the commands one below the other, and in the metadata their public ids."""
        members = self.commands(rows)
        named: dict[int, tuple[str, str]] = {}
        for part in _parts(sorted({command for some in members.values() for command in some})):
            query = f"SELECT id, command_id, text FROM commands WHERE id IN ({_marks(part)})"
            named.update((row, (public, text)) for row, public, text in self._catalog.rows(query, part))
        found = {}
        for row, some in members.items():
            if named.keys() >= set(some):
                ids, texts = zip(*(named[command] for command in some), strict=True)
                said = {"source": "history", "commands": list(ids)}
                found[row] = Item(row, _public(self.kind, row), "\n".join(texts), None, None, None, said)
        return found

    def metadata_of(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        return {item.id: item.metadata for item in self.items(list(self.rows_of(ids).values())).values()}

    def rows_of(self, ids: Sequence[str]) -> dict[str, int]:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        rows = {int(public.rpartition("-")[2]): public for public in ids}
        there: dict[str, int] = {}
        for part in _parts(sorted(rows)):
            query = f"SELECT id FROM {self.kind} WHERE id IN ({_marks(part)})"
            there.update((rows[row], row) for (row,) in self._catalog.rows(query, part))
        return there

    def keyword(self, query: str, k: int) -> list[tuple[int, float]]:  # noqa: ARG002 - the protocol's
        """Return nothing: they have no words of their own."""
        return []

    def column(self, key: str) -> tuple[str, tuple[Any, ...]]:  # noqa: ARG002 - the protocol's
        """Return a column without values: there is nothing to filter by."""
        return "SELECT row, NULL, NULL FROM vectors WHERE collection_id = ? ORDER BY row", (self.collection.id,)

    def stamp(self) -> tuple[int, ...]:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        return (0,)

    def pending(self, limit: int, after: int = 0) -> list[tuple[int, str]]:  # noqa: ARG002 - the protocol's
        """Return nothing: no model is asked for their vectors."""
        return []

    def postpone(self, sql: sqlite3.Connection, rows: Iterable[int]) -> None:
        """Do nothing: see :meth:`pending`."""

    def settle(self, sql: sqlite3.Connection, rows: Iterable[int]) -> None:
        """Do nothing: see :meth:`pending`."""

    def mark_unembeddable(self, sql: sqlite3.Connection, reasons: Iterable[tuple[int, str]]) -> None:
        """Do nothing: see :meth:`pending`."""

    def count(self) -> int:
        """See :class:`~omnimemory.storage.items.ItemTable`."""
        return int(self._catalog.value(f"SELECT count(*) FROM {self.kind}"))


class TransitionTable(StepTable):
    """Distinct steps from one command to the next of its session."""

    def commands(self, rows: Sequence[int]) -> dict[int, list[int]]:
        """See :class:`StepTable`."""
        found: dict[int, list[int]] = {}
        for part in _parts(rows):
            query = f"SELECT id, before, after FROM transitions WHERE id IN ({_marks(part)})"
            found.update((row, [before, after]) for row, before, after in self._catalog.rows(query, part))
        return found


class SequenceTable(StepTable):
    """Commands that ran in a row in one session."""

    def commands(self, rows: Sequence[int]) -> dict[int, list[int]]:
        """See :class:`StepTable`."""
        found: dict[int, list[int]] = {}
        for part in _parts(rows):
            query = f"SELECT id, commands FROM sequences WHERE id IN ({_marks(part)})"
            found.update((row, json.loads(commands)) for row, commands in self._catalog.rows(query, part))
        return found


def forget_steps(sql: sqlite3.Connection, commands: Iterable[int]) -> None:
    """Delete the transitions and sequences that these commands are part of; they come back where events still say so.

    ``sql`` may be the connection of a backup, also of one that has none of these tables yet.
    """
    rows = json.dumps(sorted(commands))
    _unsettle(sql)
    for collection in _collections(sql):
        touched = sql.execute(_TOUCHED[collection.name], {"rows": rows}).fetchall()
        _remove(sql, collection, [row for (row,) in touched])


def clear_steps(sql: sqlite3.Connection) -> None:
    """Delete all transitions and sequences, as their events may be gone; they come back where events still say so.

    ``sql`` may be the connection of a backup, also of one that has none of these tables yet.
    """
    _unsettle(sql)
    for collection in _collections(sql):
        rows = sql.execute(f"SELECT id FROM {collection.name}").fetchall()
        _remove(sql, collection, [row for (row,) in rows])


def drop_steps(sql: sqlite3.Connection, kinds: Sequence[str] = STEP_KINDS) -> None:
    """Delete all steps of these kinds, and their collections; the caller gives the index up as well."""
    _unsettle(sql)
    for collection in _collections(sql, kinds):
        sql.execute("DELETE FROM vectors WHERE collection_id = ?", (collection.id,))
        sql.execute("DELETE FROM index_changes WHERE collection_id = ?", (collection.id,))
        sql.execute("DELETE FROM drained WHERE collection_id = ?", (collection.id,))
        sql.execute("DELETE FROM collections WHERE id = ?", (collection.id,))
        sql.execute(f"DELETE FROM {collection.name}")


def stored_contents(catalog: Catalog, kind: str) -> Iterator[tuple[int, Any]]:
    """Yield what each stored step of a kind consists of, as :meth:`StepTable.add` took it."""
    for block in catalog.blocks(f"SELECT {', '.join(_COLUMNS[kind])} FROM {kind}", (), 1000):
        yield from block


def wrong_steps(catalog: Catalog) -> Iterator[int]:
    """Yield the rows that are not what was stored."""
    for kind, (first, second) in _COLUMNS.items():
        for block in catalog.blocks(f"SELECT id, {first}, {second}, checksum FROM {kind} NOT INDEXED", (), 1000):
            yield from (row for row, *both, check in block if check not in (None, step_checksum(*both)))


def _unsettle(sql: sqlite3.Connection) -> None:
    # Whoever derives them next compares all of them with the events.
    sql.execute("DELETE FROM meta WHERE key = ?", (SETTLED,))


def _remove(sql: sqlite3.Connection, collection: Collection, rows: Sequence[int]) -> int:
    delete_vectors(sql, collection, [(row, _public(collection.name, row)) for row in rows])
    before = sql.total_changes
    sql.executemany(f"DELETE FROM {collection.name} WHERE id = ?", ((row,) for row in rows))
    return sql.total_changes - before


def _collections(sql: sqlite3.Connection, kinds: Sequence[str] = STEP_KINDS) -> list[Collection]:
    rows = sql.execute(
        "SELECT c.id, c.name, s.dim, s.fingerprint, s.model FROM collections c JOIN spaces s ON s.id = c.space_id "
        f"WHERE c.name IN ({_marks(kinds)})",
        list(kinds),
    )
    return [Collection(*row) for row in rows.fetchall()]


def _public(kind: str, row: int) -> str:
    return f"{kind[:-1]}-{row}"


def _parts(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    return (rows[start : start + _PART] for start in range(0, len(rows), _PART))


def _marks(part: Sequence[object]) -> str:
    return ",".join("?" * len(part))
