"""Draining: bringing what the catalog has committed into the Chroma index.

The catalog knows for each generation of the index the last vector row it took; what is newer is pending.
Draining reads it, adds it, and moves that mark. A crash anywhere repeats a batch, which changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omnimemory.errors import IndexDamagedError
from omnimemory.faults import reach
from omnimemory.storage.catalog import Catalog, Collection
from omnimemory.storage.commands import CommandTable
from omnimemory.storage.documents import DocumentTable
from omnimemory.storage.generations import Generations
from omnimemory.storage.items import ItemTable, Payload
from omnimemory.storage.room import disk_errors, index_room, require_room
from omnimemory.storage.steps import SequenceTable, TransitionTable
from omnimemory.storage.twins import surplus
from omnimemory.storage.vectors import rows_above

if TYPE_CHECKING:
    from omnimemory.storage.index import ChromaIndex

__all__ = ["DrainOptions", "StoreOptions", "Taken", "drain", "item_tables"]

_STEPS = {"transitions": TransitionTable, "sequences": SequenceTable}


@dataclass(frozen=True, slots=True)
class DrainOptions:
    """How the index is written: rows a batch, HNSW's search width, whether texts go into it, rows between its syncs."""

    batch_size: int = 2000
    ef_search: int = 200
    documents: bool = True
    sync_rows: int = 10_000


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How a store reads and writes its index; see :class:`~omnimemory.config.Settings`."""

    drain: DrainOptions = field(default_factory=DrainOptions)
    index: bool = True
    wait: bool = True
    exact_rows: int = 20_000
    idle_seconds: float = 30.0


def item_tables(catalog: Catalog) -> list[ItemTable]:
    """Return the tables behind every collection of the catalog."""
    kinds: dict[str, Callable[..., ItemTable]] = {"documents": DocumentTable, "commands": CommandTable, **_STEPS}
    return [kinds[c.name](catalog, c) for c in catalog.collections() if c.name in kinds]


@dataclass(slots=True)
class Taken:
    """How far a generation is with a collection: up to which vector row it took it, but for the items left out.

    ``marked`` is how far the catalog knows of that; ``left_out`` are the items between.
    """

    row: int = 0
    marked: int = 0
    left_out: set[int] = field(default_factory=set)

    def mark(self, row: int) -> None:
        """Say that the catalog knows of everything up to ``row``."""
        self.marked = row
        if self.row <= row:
            self.row, self.left_out = row, set()


def drain(
    catalog: Catalog,
    index: ChromaIndex,
    generation: int,
    batch_size: int,
    *,
    taken: dict[str, Taken] | None = None,
    least: int | None = None,
) -> int:
    """Bring what was committed before this call into a generation's index; return how many rows were written.

    Both kinds of news are taken as they were at one moment. An item may be deleted and come back under the
    same id while this runs: were its new row added before its deletion is applied, the index would lose it.
    With ``least``, which says that more is to come, fewer rows wait for the next call (Chroma takes 2,000 rows in 90 %
    of the time that it takes for twice 1,000, and in 80 % of that for four times 500; but what is left at the end of an
    ingest is waited for), and so does a mark while another process writes to the catalog: ``taken``, the same
    dictionary in all of these calls, keeps it by collection.
    """
    taken = {} if taken is None else taken
    generations = Generations(catalog)
    written = 0
    tables = item_tables(catalog)
    # In this order: who gives a generation up may have moved the store to another model in the same transaction.
    if not generations.knows(generation):
        raise IndexDamagedError("The index was given up while it was open; it is made anew.")
    for table in tables:
        collection = table.collection
        last_change, last_row = generations.ends(generation, collection)
        written += _apply_changes(generations, table, index, generation, last_change)
        now = taken.setdefault(collection.name, Taken())
        now.mark(generations.drained(generation, collection))
        while least is None or rows_above(catalog, collection, now.row) >= least:
            payload = table.payload(now.row, batch_size, last_row)
            if payload is None:
                break
            surplus_items = surplus(catalog, generation, collection, now.row, payload.row, now.left_out)
            written += _add(index, collection, payload.without(surplus_items))
            now.row = payload.row
            now.left_out |= surplus_items
            # The events of a history are one long commit: adding goes on meanwhile.
            if generations.mark_drained(generation, collection, now.row, now.left_out, wait=False):
                now.mark(now.row)
        if now.marked < now.row and least is None:
            generations.mark_drained(generation, collection, now.row, now.left_out)
            now.mark(now.row)
    return written


def _add(index: ChromaIndex, collection: Collection, payload: Payload) -> int:
    require_room(index.directory, _bytes_in_index(payload, index.documents), "what is new in the index")
    with disk_errors(index.directory):
        reach("drain.add")
    index.add(collection, payload)
    with disk_errors(index.directory):
        reach("drain.mark")
    return len(payload.ids)


def _bytes_in_index(payload: Payload, documents: bool) -> int:
    """Return about how much the index grows by these rows, and its queue, which holds them a second time."""
    count, dim = payload.vectors.shape
    texts = sum(map(len, payload.texts)) if documents else 0
    return 2 * index_room(count, dim, texts)


def _apply_changes(generations: Generations, table: ItemTable, index: ChromaIndex, generation: int, upto: int) -> int:
    done = 0
    while changes := generations.changes(generation, table.collection, upto, 1000):
        deleted = [public for _, public, operation in changes if operation == "delete"]
        touched = [public for _, public, operation in changes if operation == "update"]
        with disk_errors(index.directory):
            reach("drain.change")
        tombstones = index.delete(table.collection, deleted) if deleted else 0
        if touched:
            index.update(table.collection, table.metadata_of(touched))
        with disk_errors(index.directory):
            reach("drain.forget")
        generations.forget_changes(generation, table.collection, changes[-1][0], tombstones=tombstones)
        done += len(changes)
    return done
