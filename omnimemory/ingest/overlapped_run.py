"""One run with a model that works aside: the next batch is read and the one before stored while it does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from omnimemory.embedding_batches import Embedded, Meanwhile
from omnimemory.ingest.batch_work import BatchWork
from omnimemory.ingest.batches import ChangeBatch, in_batches
from omnimemory.ingest.overlap import ReadAhead, overlap
from omnimemory.ingest.pace import Pace
from omnimemory.ingest.tally import Change
from omnimemory.storage.tombstones import forgets

__all__ = ["OverlappedRun"]


class OverlappedRun:
    """Embeds and commits changes, as :func:`~omnimemory.ingest.overlap.overlap` does it.

    So is the index written, if it is to ``drain`` all of them: what is left to it when the model is done is waited for.
    """

    def __init__(self, work: BatchWork, changes: Iterable[Change], *, drain: bool) -> None:
        self._work = work
        self._changes = changes
        self._drains = drain
        self._pace = Pace(work.embeddings.batch_size)
        self._ahead = ReadAhead(self._read(), lambda batch: batch.is_last, self._stop)
        self._asked: list[str] = []
        self._written: list[list[int]] = []
        self._is_sound = True

    def run(self) -> None:
        """Do it. May raise ForgottenMeanwhileError."""
        try:
            overlap(self._ahead, self._embed, self._keep)
        except BaseException:
            # What was asked for last is in the cache, and may be what was forgotten: nobody else knows of it.
            if self._work.tally.forgets not in (None, forgets(self._work.store.catalog)):
                self._work.take_from_cache(self._asked)
            raise
        finally:
            self._work.embeddings.read_ahead((), "document")

    def _stop(self) -> None:
        self._work.tally.stopped = True

    def _read(self) -> Iterator[ChangeBatch]:
        size = self._pace
        for batch in in_batches(self._work.store, self._changes, lambda: size.size, least_ahead=size.least):
            if self._ahead.model_works and batch.texts:  # else the cache may know these texts as well as those before
                shown = [batch.shown.get(text, text) for text in batch.texts]
                self._work.embeddings.read_ahead(shown, "document")
            yield batch

    def _embed(self, batch: ChangeBatch, meanwhile: Meanwhile) -> Embedded | None:
        self._asked = batch.texts
        try:
            self._work.require_room(batch.texts)
            if batch.goes_ahead:
                meanwhile.later(lambda: self._go_ahead(batch))
            with self._pace.timed(len(batch.texts)):
                return self._work.embed(batch.texts, batch.shown, meanwhile)
        except BaseException:
            self._is_sound = False
            raise

    def _go_ahead(self, batch: ChangeBatch) -> None:
        if self._is_sound:  # after an error or an interrupt the end does not go ahead
            self._written = self._work.go_ahead(batch)

    def _keep(self, batch: ChangeBatch, found: Embedded | None) -> None:
        try:
            if batch.goes_ahead:
                self._work.settle(batch, self._written, found)
                return
            if not batch.texts:
                self._work.store.committed(last=True)  # beside what may be a long commit, the index takes what there is
            # What is left to the index in the end is waited for: of what comes before the last batch, it takes all.
            self._work.keep(batch, found, last=lambda: self._ahead.ends)
            if self._drains and not batch.is_last:
                self._work.store.expect()
        except BaseException:
            self._is_sound = False
            raise
