"""The pipeline: changes of sources -> batches -> vectors -> one commit -> the index.

Text and vector are committed together. When the embedder is down, or the scheduler has no room, the text
is committed as pending: keyword search finds it at once, and the next ingest embeds it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from omnimemory.embedding_service import Embedded, EmbeddingService
from omnimemory.errors import MemoryBudgetError
from omnimemory.ingest.overlap import ReadAhead, overlap
from omnimemory.ingest.pace import Pace
from omnimemory.ingest.tally import Change, Tally, ignore_progress
from omnimemory.records import Failure, Progress
from omnimemory.sources.redaction import Redactor
from omnimemory.storage.items import ItemTable
from omnimemory.storage.room import catalog_room, require_room
from omnimemory.storage.store import Store
from omnimemory.storage.tombstones import forgets
from omnimemory.storage.vectors import insert_vectors, is_current, moved_message

__all__ = [
    "ForgottenMeanwhileError",
    "embed_pending",
    "masked",
    "rehearse",
    "run",
    "run_batch",
]

PENDING_BATCH = 1000


def run(
    store: Store,
    embeddings: EmbeddingService,
    changes: Iterable[Change],
    tally: Tally,
    *,
    progress: Callable[[Progress], None] = ignore_progress,
    drain: bool = True,
) -> None:
    """Commit all changes in batches of about ``embeddings.batch_size`` texts, and bring them into the index.

    Without ``drain`` the index gets them later: with the next larger batch, ingest or close.
    """
    try:
        if getattr(embeddings.embedder, "works_aside", False):
            _run_overlapped(store, embeddings, changes, tally, drain=drain)
        else:
            for batch in _batches(store, changes, lambda: embeddings.batch_size):
                _store(store, embeddings, tally, batch, _embedded(store, embeddings, batch, tally))
    except ForgottenMeanwhileError as error:
        tally.failures.append(Failure(str(store.path), str(error)))
    if not drain:
        return
    if not store.options.wait:
        store.drain_beside()
        return
    reason = _drain(store, progress)
    if reason:
        tally.degraded = tally.degraded or f"the index was not updated: {reason}"


def run_batch(store: Store, embeddings: EmbeddingService, batch: Sequence[Change], tally: Tally) -> None:
    """Embed the texts of some changes and commit all of them at once."""
    whole = _Batch.of(store, batch, is_last=True)
    _store(store, embeddings, tally, whole, _embedded(store, embeddings, whole, tally))


def _run_overlapped(
    store: Store, embeddings: EmbeddingService, changes: Iterable[Change], tally: Tally, *, drain: bool
) -> None:
    """Embed and commit all changes, reading the next batch and storing the one before while the model works.

    So is the index written, if it is to ``drain`` all of them: what is left to it when the model is done is waited for.
    """
    asked: list[str] = []
    pace = Pace(embeddings.batch_size)
    works = False

    def read() -> Iterator[_Batch]:
        for batch in _batches(store, changes, lambda: pace.size, apart=pace.least):
            if works and batch.texts:  # else the cache may know these texts as well as those before
                embeddings.read_ahead([batch.shown.get(text, text) for text in batch.texts], "document")
            yield batch

    def embed(batch: _Batch, meanwhile: Callable[[], None]) -> Embedded | None:
        nonlocal works
        asked[:], works = batch.texts, False

        def begin() -> None:
            nonlocal works
            works = True
            meanwhile()

        with pace.timed(len(asked)):
            return _embedded(store, embeddings, batch, tally, begin)

    def keep(batch: _Batch, found: Embedded | None) -> None:
        if not batch.texts:
            store.committed(last=True)  # beside what may be a long commit, the index takes what there is
        # What is left to the index after the last batch is waited for: of what comes before that, it takes all it can.
        _store(store, embeddings, tally, batch, found, last=lambda: ahead.ends)
        if drain and not batch.is_last:
            store.expect()

    def stop() -> None:
        tally.stopped = True

    ahead = ReadAhead(read(), lambda batch: batch.is_last, stop)
    try:
        overlap(ahead, embed, keep)
    except ForgottenMeanwhileError:
        _take_from_cache(embeddings, asked)  # of the batch that came after the one that found it out
        raise
    finally:
        embeddings.read_ahead((), "document")


def _embedded(
    store: Store,
    embeddings: EmbeddingService,
    batch: _Batch,
    tally: Tally,
    meanwhile: Callable[[], None] | None = None,
) -> Embedded | None:
    _require_room(store, embeddings, batch.texts)
    return _embed(embeddings, batch.texts, tally, batch.shown, meanwhile)


def _store(
    store: Store,
    embeddings: EmbeddingService,
    tally: Tally,
    batch: _Batch,
    found: Embedded | None,
    *,
    last: Callable[[], bool] = lambda: False,
) -> None:
    try:
        _commit(store, batch.changes, found, tally)
    except ForgottenMeanwhileError:
        _take_from_cache(embeddings, batch.texts)  # some of them may be what was forgotten
        raise
    store.committed(last=last())


class ForgottenMeanwhileError(Exception):
    """Something was forgotten after this run had begun to read."""


def _take_from_cache(embeddings: EmbeddingService, texts: Sequence[str]) -> None:
    if embeddings.cache is not None:
        embeddings.cache.delete_many(embeddings.embedder.fingerprint, "document", embeddings.dim, texts)


def _require_room(store: Store, embeddings: EmbeddingService, texts: Sequence[str]) -> None:
    needed = catalog_room(len(texts), embeddings.dim, sum(map(len, texts)))
    require_room(store.path, needed, f"the next {len(texts):,} texts")


def _drain(store: Store, progress: Callable[[Progress], None]) -> str | None:
    total = store.generations.waiting() if store.options.index else 0
    if not total:
        return store.drain()

    def tell() -> None:
        progress(Progress("index", max(0, total - store.generations.waiting()), total))

    tell()
    reason = store.drain(tell)
    tell()
    return reason


def rehearse(store: Store, changes: Iterable[Change]) -> None:
    """Write all changes and take them back: the tally then counts what :func:`run` would do."""
    for change in changes:
        with contextlib.suppress(_TakenBackError), store.catalog.transaction() as sql:
            change.write(sql, pending=True)
            _take_back()


class _TakenBackError(Exception):
    """Rolls a rehearsed transaction back."""


def _take_back() -> None:
    raise _TakenBackError


def embed_pending(store: Store, embeddings: EmbeddingService, tally: Tally) -> None:
    """Embed what earlier runs had to leave without a vector."""
    for table in store.tables.values():
        last = 0
        while waiting := table.pending(PENDING_BATCH, last):
            rows = [row for row, _ in waiting]
            _require_room(store, embeddings, [text for _, text in waiting])
            texts = [text for _, text in waiting]
            found = _embed(embeddings, texts, tally, masked(store, [(table, texts)]))
            if found is None:
                return
            with store.catalog.transaction() as sql:
                if not is_current(sql, table.collection):
                    _stop_embedding(store, tally)
                    return
                # Another process may have deleted some of them meanwhile: a vector must not outlive its item.
                there = {row for row, _ in table.pending(PENDING_BATCH, last)}
                table.settle(sql, rows)
                _store_vectors(sql, table, rows, found, there)
            gone = [text for row, text in waiting if row not in there]
            if gone:
                _take_from_cache(embeddings, gone)
            last = rows[-1]
            store.committed()


@dataclass(frozen=True, slots=True)
class _Batch:
    """Changes to be embedded and committed together; ``is_last`` when it is known that none follow.

    ``texts`` are those of all changes, in order, and ``shown`` tells which of them the model is to see in another form.
    """

    changes: Sequence[Change]
    is_last: bool
    texts: list[str]
    shown: Mapping[str, str]

    @classmethod
    def of(cls, store: Store, changes: Sequence[Change], *, is_last: bool) -> _Batch:
        texts = [text for change in changes for text in change.texts]
        return cls(changes, is_last, texts, masked(store, ((change.table, change.texts) for change in changes)))


def _batches(
    store: Store, changes: Iterable[Change], size: Callable[[], int], *, apart: int | None = None
) -> Iterator[_Batch]:
    """Yield the changes in batches of about ``size`` texts.

    Changes without texts at the end, such as the events of a history, come ``apart`` if there are so many texts.
    """
    batch: list[Change] = []
    texts = 0
    for change in changes:
        batch.append(change)
        texts += len(change.texts)
        if texts >= size():
            yield _Batch.of(store, batch, is_last=False)
            batch, texts = [], 0
    if apart is not None and texts >= apart and not batch[-1].texts:
        stop = max(number for number, change in enumerate(batch, start=1) if change.texts)
        yield _Batch.of(store, batch[:stop], is_last=False)
        batch = batch[stop:]
    if batch:
        yield _Batch.of(store, batch, is_last=True)


def masked(store: Store, parts: Iterable[tuple[ItemTable, Sequence[str]]]) -> dict[str, str]:
    """Return the commands that the model is to see in another form: with what may be a secret masked."""
    redactor = Redactor()
    texts = (text for table, part in parts if table.collection.id == store.commands.collection.id for text in part)
    return {text: shown for text in texts if (shown := redactor.embeddable(text)) != text}


def _embed(
    embeddings: EmbeddingService,
    texts: list[str],
    tally: Tally,
    shown: Mapping[str, str],
    meanwhile: Callable[[], None] | None = None,
) -> Embedded | None:
    if tally.model_is_down:  # asking again for every batch would only wait for each refusal
        return None
    found = embeddings.resolve(texts, "document", stored=True, shown=shown, meanwhile=meanwhile)
    if found.error is not None:
        tally.degraded = str(found.error)
        tally.model_is_down = not isinstance(found.error, MemoryBudgetError)
    tally.embedded += found.embedded
    tally.cache_hits += found.cache_hits
    return found


def _commit(store: Store, batch: Sequence[Change], found: Embedded | None, tally: Tally) -> None:
    with store.catalog.transaction() as sql:
        if tally.forgets not in (None, forgets(sql)):
            raise ForgottenMeanwhileError(
                "something was forgotten while this ran, so the rest of what had been read was not stored: run it again"
            )
        if found is not None and not all(is_current(sql, change.table.collection) for change in batch):
            _stop_embedding(store, tally)
            found = None
        start = 0
        for change in batch:
            rows = change.write(sql, pending=found is None)
            if found is not None:
                part = _part(found, start, start + len(rows))
                _store_vectors(sql, change.table, rows, part)
                tally.pending += len(part.left)
            else:
                tally.pending += len(rows)
            start += len(change.texts)


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
    sql: sqlite3.Connection, table: ItemTable, rows: list[int], found: Embedded, there: Collection[int] | None = None
) -> None:
    """Store the vectors of these rows (of those in ``there``, if given), and note which have none, or none yet."""
    table.mark_unembeddable(sql, ((rows[i], why) for i, why in found.unembeddable.items()))
    table.postpone(sql, (rows[i] for i in found.left))
    without = found.unembeddable.keys() | found.left
    keep = [i for i, row in enumerate(rows) if i not in without and (there is None or row in there)]
    vectors = found.vectors if len(keep) == len(rows) else found.vectors[keep]
    insert_vectors(sql, table.collection, [rows[i] for i in keep], vectors)
