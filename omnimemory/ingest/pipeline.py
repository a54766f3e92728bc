"""The pipeline: changes of sources -> batches -> vectors -> one commit -> the index.

Text and vector are committed together. When the embedder is down, or the scheduler has no room, the text
is committed as pending: keyword search finds it at once, and the next ingest embeds it.

The last commands of a history are committed so as well, with the events behind them, while the model works on them:
these are many rows, for which it would be waited otherwise (.24 of the 9 seconds that 5,000 commands took with MiniLM).
Which histories that is good for tells ``NewEvents.may_go_ahead``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence

from omnimemory.embedding_service import EmbeddingService
from omnimemory.ingest.batch_work import BatchWork
from omnimemory.ingest.batches import ChangeBatch, in_batches
from omnimemory.ingest.commits import ForgottenMeanwhileError
from omnimemory.ingest.overlapped_run import OverlappedRun
from omnimemory.ingest.tally import Change, Tally, ignore_progress
from omnimemory.records import Failure, Progress
from omnimemory.storage.store import Store

__all__ = ["embed_pending", "rehearse", "run", "run_batch"]

_PENDING_BATCH = 1000


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
    work = BatchWork(store, embeddings, tally)
    try:
        if getattr(embeddings.embedder, "works_aside", False):
            OverlappedRun(work, changes, drain=drain).run()
        else:
            for batch in in_batches(store, changes, lambda: embeddings.batch_size):
                work.whole(batch)
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
    BatchWork(store, embeddings, tally).whole(ChangeBatch.of(store, batch, is_last=True))


def embed_pending(store: Store, embeddings: EmbeddingService, tally: Tally) -> None:
    """Embed what earlier runs had to leave without a vector."""
    work = BatchWork(store, embeddings, tally)
    for table in store.tables.values():
        last = 0
        while waiting := table.pending(_PENDING_BATCH, last):
            if not work.settle_pending(table, waiting):
                return
            last = waiting[-1][0]


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
