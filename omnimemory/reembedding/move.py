"""Moving a store to another model: a second space is filled, one transaction switches to it, the first is kept.

What is searched stays as it is until the switch, also for other processes, which may go on reading and writing. Each
batch is committed, so a run that was killed goes on where it was. See ``storage/spaces.py`` for how spaces are kept.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from omnimemory.embedders.base import UnembeddableTextError
from omnimemory.embedding_service import Embedded, EmbeddingService
from omnimemory.errors import StoreBusyError, StoreError
from omnimemory.faults import reach
from omnimemory.ingest.batches import masked
from omnimemory.records import Progress
from omnimemory.storage.catalog import Collection
from omnimemory.storage.items import ItemTable
from omnimemory.storage.lock import flock_within
from omnimemory.storage.room import catalog_room, disk_errors, index_room, require_room
from omnimemory.storage.spaces import (
    FORMER,
    NEXT,
    begin_move,
    characters_of,
    left_to_move,
    sample,
    space,
    still_there,
    switch,
    to_move,
)
from omnimemory.storage.store import Store
from omnimemory.storage.vectors import insert_vectors

__all__ = ["Estimate", "Filled", "alone", "estimate", "fill", "refuse_unconfirmed", "switch_to"]

_SAMPLE = 64
_ROUNDS = 5


@dataclass
class Filled:
    """What a run brought into the next space; ``refused`` says by kind and row what the model has no vector for."""

    texts: int = 0
    resumed: int = 0
    embedded: int = 0
    cache_hits: int = 0
    refused: dict[str, dict[int, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a move would take: texts in all and still to be embedded, seconds, bytes on the disk."""

    texts: int
    left: int
    seconds: float
    bytes: int


@contextmanager
def alone(store: Store) -> Iterator[None]:
    """Keep other moves of this store out. Raises :class:`StoreBusyError` while there is one."""
    descriptor = os.open(store.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not flock_within(descriptor, fcntl.LOCK_EX, 0.2):
            raise StoreBusyError(
                f"{store.path} is being moved to another model by another process. Wait for it to end."
            )
        yield
    finally:
        os.close(descriptor)


def refuse_unconfirmed(store: Store) -> None:
    """Raise :class:`StoreError` when an earlier move was neither confirmed nor undone."""
    former = space(store.catalog, FORMER)
    if former:
        kept = next(iter(former.values())).model
        raise StoreError(
            f"{store.path} still keeps the vectors of {kept}, from which it was moved to "
            f"{store.documents.collection.model}. Say `omnimemory reembed --confirm` when the move was good, or "
            "`omnimemory reembed --undo`."
        )


def fill(store: Store, embeddings: EmbeddingService, progress: Callable[[Progress], None]) -> Filled:
    """Give every text a vector of the new model, except those that have one already.

    Raises :class:`EmbedderError` or :class:`MemoryBudgetError` when the model gives up: what was committed is kept, and
    the next run goes on.
    """
    used = embeddings.embedder
    spaces = begin_move(store.catalog, fingerprint=used.fingerprint, model=used.name, dim=used.dim)
    filled = Filled(texts=sum(table.count() for table in store.tables.values()))
    left = sum(left_to_move(store.catalog, collection) for collection in spaces.values())
    filled.resumed = filled.texts - left
    require_room(store.path, _room(store, used.dim, left), f"the vectors of {left:,} texts")
    last, done = dict.fromkeys(store.tables, 0), filled.resumed
    for _ in range(_ROUNDS):  # while commands are embedded somebody may add documents, and so on
        before = done
        for kind, table in store.tables.items():
            while waiting := to_move(store.catalog, spaces[kind], embeddings.batch_size, last[kind]):
                progress(Progress("embed", done, max(done, filled.texts)))
                _move(store, embeddings, table, spaces[kind], waiting, filled)
                last[kind], done = waiting[-1][0], done + len(waiting)
        if done == before:
            break
    progress(Progress("embed", done, max(done, filled.texts)))
    return filled


def _room(store: Store, dim: int, left: int) -> int:
    """Return about how many bytes a move still takes, in the catalog until it is confirmed and in the index."""
    texts, characters = 0, 0
    for kind, table in store.tables.items():
        texts += table.count()
        characters += characters_of(store.catalog, kind) if store.options.drain.documents else 0
    return catalog_room(left, dim, 0) // 2 + (index_room(texts, dim, characters) if store.options.index else 0)


def _move(
    store: Store,
    embeddings: EmbeddingService,
    table: ItemTable,
    collection: Collection,
    waiting: Sequence[tuple[int, str]],
    filled: Filled,
) -> None:
    rows, texts = [row for row, _ in waiting], [text for _, text in waiting]
    require_room(store.path, catalog_room(len(texts), embeddings.dim, 0), f"the vectors of {len(texts):,} texts")
    found = embeddings.resolve(texts, "document", stored=True, shown=masked(store, [(table, texts)]))
    without = found.unembeddable.keys() | found.left
    kind = table.collection.name
    with disk_errors(store.path):
        reach("reembed.fill")
    with store.catalog.transaction() as sql:
        # Another process may have deleted some of them meanwhile: a vector must not outlive its item.
        there = still_there(sql, kind, rows)
        keep = [place for place, row in enumerate(rows) if row in there and place not in without]
        insert_vectors(sql, collection, [rows[place] for place in keep], found.vectors[keep])
    _forget_deleted(embeddings, [text for row, text in waiting if row not in there])
    _count(filled, found, kind, rows)
    if found.error is not None:
        raise found.error


def _forget_deleted(embeddings: EmbeddingService, texts: Sequence[str]) -> None:
    if texts and embeddings.cache is not None:  # they may be what somebody wanted to be forgotten
        embeddings.cache.delete_many(embeddings.embedder.fingerprint, "document", embeddings.dim, texts)


def _count(filled: Filled, found: Embedded, kind: str, rows: Sequence[int]) -> None:
    filled.embedded += found.embedded
    filled.cache_hits += found.cache_hits
    refused = filled.refused.setdefault(kind, {})
    refused.update((rows[place], why) for place, why in found.unembeddable.items())


def switch_to(store: Store, embeddings: EmbeddingService, filled: Filled) -> None:
    """Make the space that was filled the one that is searched. Raises :class:`StoreError` if it is another model's."""
    made = space(store.catalog, NEXT)
    if {collection.fingerprint for collection in made.values()} != {embeddings.embedder.fingerprint}:
        raise StoreError(f"What was made for {embeddings.embedder.name} is gone: run the same command again.")
    switch(store.catalog, filled.refused)


def estimate(store: Store, embeddings: EmbeddingService) -> Estimate:
    """Return what a move would take, by embedding some texts spread over the store; nothing is written."""
    seconds, left = 0.0, 0
    for kind, table in store.tables.items():
        some = sample(store.catalog, kind, embeddings.embedder.fingerprint, _SAMPLE)
        seconds += _seconds(embeddings, some.texts, masked(store, [(table, some.texts)])) * some.scale
        left += some.left
    texts = sum(table.count() for table in store.tables.values())
    return Estimate(texts, left, round(seconds, 3), _room(store, embeddings.dim, left))


def _seconds(embeddings: EmbeddingService, texts: Sequence[str], shown: Mapping[str, str]) -> float:
    if not texts:
        return 0.0
    embeddings.initialize()
    started = time.perf_counter()
    with suppress(UnembeddableTextError):  # the others were embedded all the same
        embeddings.embed_batch([shown.get(text, text) for text in texts], use_cache=False)
    return time.perf_counter() - started
