"""The pipeline: changes of sources -> batches -> vectors -> one commit -> the index.

Text and vector are committed together. When the embedder is down, or the scheduler has no room, the text
is committed as pending: keyword search finds it at once, and the next ingest embeds it.

The last commands of a history are committed so as well, with the events behind them, while the model works on them:
these are many rows, for which it would be waited otherwise (.24 of the 9 seconds that 5,000 commands took with MiniLM).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from omnimemory.embedding_batches import Embedded, Meanwhile
from omnimemory.embedding_service import EmbeddingService
from omnimemory.errors import MemoryBudgetError
from omnimemory.ingest.commits import ForgottenMeanwhileError, commit, settle, settle_changes
from omnimemory.ingest.overlap import ReadAhead, overlap
from omnimemory.ingest.pace import Pace
from omnimemory.ingest.tally import Change, Tally, ignore_progress
from omnimemory.records import Failure, Progress
from omnimemory.sources.redaction import Redactor
from omnimemory.storage.items import ItemTable
from omnimemory.storage.room import catalog_room, require_room
from omnimemory.storage.store import Store

__all__ = [
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
    written: list[list[int]] = []
    pace = Pace(embeddings.batch_size)

    def read() -> Iterator[_Batch]:
        for batch in _batches(store, changes, lambda: pace.size, least_ahead=pace.least):
            if ahead.model_works and batch.texts:  # else the cache may know these texts as well as those before
                embeddings.read_ahead([batch.shown.get(text, text) for text in batch.texts], "document")
            yield batch

    def embed(batch: _Batch, meanwhile: Meanwhile) -> Embedded | None:
        asked[:] = batch.texts
        _require_room(store, embeddings, batch.texts)
        if batch.goes_ahead:
            meanwhile.later(lambda: written.extend(commit(store, batch.changes, None, tally)))
        with pace.timed(len(asked)):
            return _embed(embeddings, batch.texts, tally, batch.shown, meanwhile)

    def keep(batch: _Batch, found: Embedded | None) -> None:
        if not batch.texts:
            store.committed(last=True)  # beside what may be a long commit, the index takes what there is
        if batch.goes_ahead:
            _settle(store, embeddings, tally, batch, written, found)
        else:
            # What is left to the index in the end is waited for: of what comes before the last batch, it takes all.
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


def _embedded(store: Store, embeddings: EmbeddingService, batch: _Batch, tally: Tally) -> Embedded | None:
    _require_room(store, embeddings, batch.texts)
    return _embed(embeddings, batch.texts, tally, batch.shown)


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
        commit(store, batch.changes, found, tally)
    except ForgottenMeanwhileError:
        _take_from_cache(embeddings, batch.texts)  # some of them may be what was forgotten
        raise
    store.committed(last=last())


def _settle(
    store: Store,
    embeddings: EmbeddingService,
    tally: Tally,
    batch: _Batch,
    written: Sequence[Sequence[int]],
    found: Embedded | None,
) -> None:
    """Give the items of a batch that went ahead their vectors."""
    if found is not None:
        gone = settle_changes(store, batch.changes, written, found, tally)
        if gone:
            _take_from_cache(embeddings, gone)
    store.committed(last=True)


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
            there = settle(store, table, rows, found, tally)
            if there is None:
                return
            gone = [text for row, text in waiting if row not in there]
            if gone:
                _take_from_cache(embeddings, gone)
            last = rows[-1]
            store.committed()


@dataclass(frozen=True, slots=True)
class _Batch:
    """Changes to be embedded and committed together; ``is_last`` when it is known that none follow.

    ``texts`` are those of all changes, in order, and ``shown`` tells which of them the model is to see in another form.
    One that ``goes_ahead`` is committed while the model works on it, and gets its vectors then.
    """

    changes: Sequence[Change]
    is_last: bool
    texts: list[str]
    shown: Mapping[str, str]
    goes_ahead: bool = False

    @classmethod
    def of(cls, store: Store, changes: Sequence[Change], *, is_last: bool, least_ahead: int | None = None) -> _Batch:
        texts = [text for change in changes for text in change.texts]
        ahead = least_ahead is not None and len(texts) >= least_ahead and _ends_a_history(store, changes)
        return cls(changes, is_last, texts, masked(store, ((c.table, c.texts) for c in changes)), is_last and ahead)


def _ends_a_history(store: Store, changes: Sequence[Change]) -> bool:
    """Whether these are commands, which nothing is replaced by, and then their events: many rows without vectors."""
    return not changes[-1].texts and all(_are_commands(store, change.table) for change in changes)


def _are_commands(store: Store, table: ItemTable) -> bool:
    return table.collection.id == store.commands.collection.id


def _batches(
    store: Store, changes: Iterable[Change], size: Callable[[], int], *, least_ahead: int | None = None
) -> Iterator[_Batch]:
    """Yield the changes in batches of about ``size`` texts.

    With ``least_ahead`` the last one goes ahead if it has so many texts, and events behind them. So that they come
    together, a batch is held back until it is known what follows it; the first is not, because the model waits for it.
    """
    batch: list[Change] = []
    texts, holds_back = 0, False
    for change in changes:
        if holds_back and texts >= size() and change.texts:
            yield _Batch.of(store, batch, is_last=False)
            batch, texts = [], 0
        batch.append(change)
        texts += len(change.texts)
        if not holds_back and texts >= size():
            yield _Batch.of(store, batch, is_last=False)
            batch, texts, holds_back = [], 0, least_ahead is not None
    if batch:
        yield _Batch.of(store, batch, is_last=True, least_ahead=least_ahead if holds_back else None)


def masked(store: Store, parts: Iterable[tuple[ItemTable, Sequence[str]]]) -> dict[str, str]:
    """Return the commands that the model is to see in another form: with what may be a secret masked."""
    redactor = Redactor()
    texts = (text for table, part in parts if _are_commands(store, table) for text in part)
    return {text: shown for text in texts if (shown := redactor.embeddable(text)) != text}


def _embed(
    embeddings: EmbeddingService,
    texts: list[str],
    tally: Tally,
    shown: Mapping[str, str],
    meanwhile: Meanwhile | None = None,
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
