"""What is done with each batch of a run: room for it, its vectors, its commit, and none of it when it was forgotten."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from omnimemory.embedding_batches import Embedded, Meanwhile
from omnimemory.embedding_service import EmbeddingService
from omnimemory.errors import MemoryBudgetError
from omnimemory.ingest.batches import ChangeBatch, masked
from omnimemory.ingest.commits import ForgottenMeanwhileError, commit, settle, settle_changes
from omnimemory.ingest.tally import Tally
from omnimemory.storage.items import ItemTable
from omnimemory.storage.room import catalog_room, require_room
from omnimemory.storage.store import Store

__all__ = ["BatchWork"]


@dataclass(frozen=True, slots=True)
class BatchWork:
    """The parts of one run's work on a batch; ``tally`` counts what was done."""

    store: Store
    embeddings: EmbeddingService
    tally: Tally

    def whole(self, batch: ChangeBatch) -> None:
        """Embed and commit a batch."""
        self.require_room(batch.texts)
        self.keep(batch, self.embed(batch.texts, batch.shown))

    def require_room(self, texts: Sequence[str]) -> None:
        """Raise :class:`StoreFullError` where there is no room on disk for what these texts come to."""
        needed = catalog_room(len(texts), self.embeddings.dim, sum(map(len, texts)))
        require_room(self.store.path, needed, f"the next {len(texts):,} texts")

    def embed(
        self, texts: Sequence[str], shown: Mapping[str, str], meanwhile: Meanwhile | None = None
    ) -> Embedded | None:
        """Return the vectors of these texts; ``None`` when the model is known to be down."""
        if self.tally.model_is_down:  # asking again for every batch would only wait for each refusal
            return None
        found = self.embeddings.resolve(texts, "document", stored=True, shown=shown, meanwhile=meanwhile)
        if found.error is not None:
            self.tally.degraded = str(found.error)
            self.tally.model_is_down = not isinstance(found.error, MemoryBudgetError)
        self.tally.embedded += found.embedded
        self.tally.cache_hits += found.cache_hits
        return found

    def keep(self, batch: ChangeBatch, found: Embedded | None, *, last: Callable[[], bool] = lambda: False) -> None:
        """Commit a batch; ``last`` says whether the index is to take all. May raise ForgottenMeanwhileError."""
        try:
            commit(self.store, batch.changes, found, self.tally)
        except ForgottenMeanwhileError:
            self.take_from_cache(batch.texts)  # some of them may be what was forgotten
            raise
        self.store.committed(last=last())

    def go_ahead(self, batch: ChangeBatch) -> list[list[int]]:
        """Commit a batch without its vectors; return the rows of each change, for :meth:`settle`."""
        return commit(self.store, batch.changes, None, self.tally)

    def settle(self, batch: ChangeBatch, written: Sequence[Sequence[int]], found: Embedded | None) -> None:
        """Give the items of a batch that went ahead their vectors."""
        if found is not None:
            self.take_from_cache(settle_changes(self.store, batch.changes, written, found, self.tally))
        self.store.committed(last=True)

    def settle_pending(self, table: ItemTable, waiting: Sequence[tuple[int, str]]) -> bool:
        """Embed items (row, text) that were left without vectors; return whether to go on with others."""
        texts, rows = [text for _, text in waiting], [row for row, _ in waiting]
        self.require_room(texts)
        found = self.embed(texts, masked(self.store, [(table, texts)]))
        settled = None if found is None else settle(self.store, table, rows, found, self.tally)
        if settled is None:
            return False
        self.take_from_cache([text for row, text in waiting if row in settled.gone])
        self.store.committed()
        return True

    def take_from_cache(self, texts: Sequence[str]) -> None:
        """Delete the vectors of these texts from the cache."""
        if self.embeddings.cache is not None and texts:
            embedder, dim = self.embeddings.embedder, self.embeddings.dim
            self.embeddings.cache.delete_many(embedder.fingerprint, "document", dim, texts)
