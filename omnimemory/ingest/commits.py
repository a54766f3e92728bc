"""What a batch comes to in the catalog: text and vector in one commit, or the text first and the vector later.

When the embedder is down, or the scheduler has no room, the text is committed as pending: keyword search finds it at
once, and the next ingest embeds it. So it is for a moment with what need not wait for its vectors.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import NamedTuple

from omnimemory.embedding_batches import Embedded
from omnimemory.ingest.tally import Change, Tally
from omnimemory.storage.items import ItemTable
from omnimemory.storage.store import Store
from omnimemory.storage.tombstones import forgets
from omnimemory.storage.vectors import insert_vectors, is_current, moved_message

__all__ = ["ForgottenMeanwhileError", "Settled", "commit", "settle", "settle_changes"]

_PAGE = 1000


class ForgottenMeanwhileError(Exception):
    """Something was forgotten after this run had begun to read."""


class Settled(NamedTuple):
    """What became of pending rows: which of them are gone, and how many still wait for their vectors."""

    gone: set[int]
    left: int


def commit(store: Store, changes: Sequence[Change], found: Embedded | None, tally: Tally) -> list[list[int]]:
    """Commit all changes with the vectors of all their texts (``None``: they come later).

    Returns the rows of each change's new items. Raises :class:`ForgottenMeanwhileError`.
    """
    written = []
    with store.catalog.transaction() as sql:
        if tally.forgets not in (None, forgets(sql)):
            raise ForgottenMeanwhileError(
                "something was forgotten while this ran, so the rest of what had been read was not stored: run it again"
            )
        if found is not None and not all(is_current(sql, change.table.collection) for change in changes):
            _stop_embedding(store, tally)
            found = None
        start = 0
        for change in changes:
            rows = change.write(sql, pending=found is None)
            if found is not None:
                part = _part(found, start, start + len(rows))
                _store_vectors(sql, change.table, rows, part)
                tally.pending += len(part.left)
            else:
                tally.pending += len(rows)
            start += len(change.texts)
            written.append(rows)
    return written


def settle(store: Store, table: ItemTable, rows: Sequence[int], found: Embedded, tally: Tally) -> Settled | None:
    """Give pending rows their vectors; return what became of them.

    ``None``: they stay pending, because the store has moved to another model. What another process gave a vector
    meanwhile keeps that.
    """
    with store.catalog.transaction() as sql:
        if not is_current(sql, table.collection):
            _stop_embedding(store, tally)
            return None
        # Another process may have deleted some of them meanwhile: a vector must not outlive its item.
        waiting = _still_pending(table, rows)
        table.settle(sql, [row for row in rows if row in waiting])
        _store_vectors(sql, table, rows, found, waiting)
        others = [row for row in rows if row not in waiting]
        gone = set(others).difference(table.items(others)) if others else set()
        return Settled(gone, sum(1 for i in found.left if rows[i] in waiting))


def settle_changes(
    store: Store, changes: Sequence[Change], written: Sequence[Sequence[int]], found: Embedded, tally: Tally
) -> list[str]:
    """Give the rows that :func:`commit` wrote without vectors theirs; return the texts of those that are gone."""
    gone: list[str] = []
    start = 0
    for change, rows in zip(changes, written, strict=True):
        if rows:
            part = _part(found, start, start + len(rows))
            settled = settle(store, change.table, rows, part, tally)
            if settled is None:
                return gone
            tally.pending -= len(rows) - settled.left
            gone += [text for row, text in zip(rows, change.texts, strict=True) if row in settled.gone]
        start += len(change.texts)
    return gone


def _still_pending(table: ItemTable, rows: Sequence[int]) -> set[int]:
    there: set[int] = set()
    last, newest = min(rows) - 1, max(rows)
    while last < newest and (page := table.pending(_PAGE, last)):
        there.update(row for row, _ in page)
        last = page[-1][0]
    return there.intersection(rows)


def _stop_embedding(store: Store, tally: Tally) -> None:
    """Say that vectors of this model are of no use any more; what is still read is stored without."""
    tally.model_is_down = True
    tally.degraded = moved_message(store.documents.collection)


def _part(found: Embedded, start: int, stop: int) -> Embedded:
    return Embedded(
        found.vectors[start:stop],
        {i - start: why for i, why in found.unembeddable.items() if start <= i < stop},
        left=frozenset(i - start for i in found.left if start <= i < stop),
    )


def _store_vectors(
    sql: sqlite3.Connection,
    table: ItemTable,
    rows: Sequence[int],
    found: Embedded,
    only: Collection[int] | None = None,
) -> None:
    """Store the vectors of these rows (of those in ``only``, if given), and note which have none, or none yet."""
    wanted = {i for i, row in enumerate(rows) if only is None or row in only}
    table.mark_unembeddable(sql, ((rows[i], why) for i, why in found.unembeddable.items() if i in wanted))
    table.postpone(sql, (rows[i] for i in found.left if i in wanted))
    keep = sorted(wanted - found.unembeddable.keys() - found.left)
    vectors = found.vectors if len(keep) == len(rows) else found.vectors[keep]
    insert_vectors(sql, table.collection, [rows[i] for i in keep], vectors)
