"""``reembed``: the verb of :class:`~omnimemory.memory.Memory` that moves a store to another model.

It is a class of its own so that each file stays short; nobody makes one of these.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from omnimemory.config import Settings
from omnimemory.embedders.base import Embedder
from omnimemory.embedding_service import EmbeddingService
from omnimemory.errors import ConfigError, StoreBusyError, StoreError
from omnimemory.records import Progress
from omnimemory.storage.opened_store import open_store
from omnimemory.storage.store import Store
from omnimemory.wiring import embedding_service, store_options

if TYPE_CHECKING:
    from omnimemory.reembedding.report import ReembedReport

__all__ = ["Moving"]


class Moving:
    """What :class:`~omnimemory.memory.Memory` inherits."""

    settings: Settings
    embeddings: EmbeddingService
    _opened: open_store
    _swap: threading.Lock
    _retired: list[EmbeddingService]

    @property
    def store(self) -> Store:
        """The store on disk."""
        raise NotImplementedError

    def reembed(
        self,
        model: str | None = None,
        *,
        dim: int | None = None,
        embedder: Embedder | None = None,
        confirm: bool = False,
        undo: bool = False,
        dry_run: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> ReembedReport:
        """Move the store to another ``model``, or to vectors of another ``dim``; return what was done.

        Until everything has its new vector the old ones are searched, also by other processes; a call that was
        interrupted is continued by the next. Then the new ones are searched at once, and the old ones kept until
        ``confirm`` deletes them or ``undo`` goes back to them (or gives up a move that was begun). Other processes
        that have the store open search the old ones, and what they add waits for its vector, until they open it again.
        ``dry_run`` estimates seconds and bytes. ``embedder`` replaces the model by an object. The cache keeps what it
        has of the old model.

        Raises :class:`EmbedderError` or :class:`MemoryBudgetError` when the model gives up (the next call goes on),
        :class:`StoreBusyError` while somebody else moves the store, :class:`StoreFullError` when there is no room, and
        :class:`StoreError` while an earlier move is neither confirmed nor undone.
        """
        from omnimemory.reembedding.move import alone  # noqa: PLC0415 - a search needs none of it

        if confirm and undo:
            raise ConfigError("confirm and undo contradict each other.")
        if (confirm or undo) and (model or dim):
            raise ConfigError("confirm and undo are about the move that was made: leave out model and dim.")
        started = time.monotonic()
        with alone(self.store):
            if confirm:
                report = self._confirm()
            elif undo:
                report = self._undo(embedder)
            else:
                report = self._move(model, dim, embedder, dry_run, progress or (lambda _: None))
        texts = report.texts or sum(table.count() for table in self.store.tables.values())
        return replace(report, texts=texts, seconds=round(time.monotonic() - started, 3))

    def _move(
        self,
        model: str | None,
        dim: int | None,
        embedder: Embedder | None,
        dry_run: bool,
        progress: Callable[[Progress], None],
    ) -> ReembedReport:
        from omnimemory.reembedding.move import estimate, fill, refuse_unconfirmed, switch_to  # noqa: PLC0415 - as above
        from omnimemory.reembedding.report import ReembedReport  # noqa: PLC0415 - as above

        settings = self._settings_for(model, dim, embedder)
        service = embedding_service(settings, embedder, self.embeddings.scheduler)
        used, before = service.embedder, self.store.documents.collection
        try:
            begun = ReembedReport("unchanged", before.model, used.name, used.dim)
            if used.fingerprint == before.fingerprint:
                with contextlib.closing(service):
                    return self._finished(begun, progress, service)
            refuse_unconfirmed(self.store)
            if dry_run:
                found = estimate(self.store, service)
                service.close()
                return replace(
                    begun,
                    state="estimated",
                    texts=found.texts,
                    resumed=found.texts - found.left,
                    estimated_seconds=found.seconds,
                    estimated_bytes=found.bytes,
                )
            self._refuse_shared()
            filled = fill(self.store, service, progress)
            self._refuse_shared()
            switch_to(self.store, service, filled)
        except BaseException:
            service.close()
            raise
        self._adopt(settings, service)
        moved = replace(
            begun,
            state="moved",
            texts=filled.texts,
            resumed=filled.resumed,
            embedded=filled.embedded,
            cache_hits=filled.cache_hits,
            refused=sum(map(len, filled.refused.values())),
        )
        return self._finished(moved, progress, service)

    def _settings_for(self, model: str | None, dim: int | None, embedder: Embedder | None) -> Settings:
        if model is None and dim is None and embedder is None:
            raise ConfigError("Which model is the store to be moved to? Name a model, or the size of its vectors.")
        name = model or (embedder.name if embedder else self.store.documents.collection.model)
        chosen = self.settings.with_values({"embedding.model": name})
        return replace(chosen, embedding=replace(chosen.embedding, dim=dim))

    def _refuse_shared(self) -> None:
        if self._opened.is_shared:
            raise StoreBusyError(
                f"{self.store.path} is open more than once in this process: close the other Memory first, which would "
                "go on with the old model."
            )

    def _adopt(self, settings: Settings, service: EmbeddingService) -> None:
        """Go on with another model. What other threads are doing with the old one may end."""
        used = service.embedder
        with self._swap:
            self._opened.reopen(store_options(settings), fingerprint=used.fingerprint, model=used.name, dim=used.dim)
            old, self.embeddings, self.settings = self.embeddings, service, settings
            self._retired.append(old)
        closing = getattr(old.embedder, "close", None)
        if callable(closing):
            closing()  # frees the model; who still asks it loads it again

    def _finished(
        self, report: ReembedReport, progress: Callable[[Progress], None], service: EmbeddingService
    ) -> ReembedReport:
        """Embed what others stored at the last moment, and make the index."""
        from omnimemory.ingest.pipeline import embed_pending  # noqa: PLC0415 - a search needs none of it
        from omnimemory.ingest.tally import Tally  # noqa: PLC0415 - as above
        from omnimemory.storage.consistency import waiting_texts  # noqa: PLC0415 - as above

        tally = Tally()
        embed_pending(self.store, service, tally)
        waiting = self.store.generations.waiting() if self.store.options.index else 0
        progress(Progress("index", 0, waiting))

        def tell() -> None:
            progress(Progress("index", max(0, waiting - self.store.generations.waiting()), waiting))

        reason = self.store.drain(tell)
        degraded = tally.degraded or (f"the index was not updated: {reason}" if reason else None)
        embedded, pending = report.embedded + tally.embedded, waiting_texts(self.store.catalog)
        return replace(report, embedded=embedded, pending=pending, degraded=degraded)

    def _confirm(self) -> ReembedReport:
        from omnimemory.reembedding.report import ReembedReport  # noqa: PLC0415 - a search needs none of it
        from omnimemory.storage.spaces import FORMER, drop_space, space  # noqa: PLC0415 - as above

        now, former = self.store.documents.collection, space(self.store.catalog, FORMER)
        before = next((one.model for one in former.values()), now.model)
        dropped = drop_space(self.store.catalog, FORMER)
        return ReembedReport("confirmed", before, now.model, now.dim, dropped=dropped)

    def _undo(self, embedder: Embedder | None) -> ReembedReport:
        from omnimemory.reembedding.report import ReembedReport  # noqa: PLC0415 - a search needs none of it
        from omnimemory.storage.spaces import FORMER, NEXT, drop_space, space, switch_back  # noqa: PLC0415 - as above

        former = space(self.store.catalog, FORMER).get("documents")
        now, begun = self.store.documents.collection, space(self.store.catalog, NEXT)
        if former is None and begun:
            dropped = drop_space(self.store.catalog, NEXT)
            return ReembedReport("given up", begun["documents"].model, now.model, now.dim, dropped=dropped)
        if former is None:
            raise StoreError(f"{self.store.path} keeps no vectors of an earlier model: there is nothing to go back to.")
        self._refuse_shared()
        chosen = self.settings.with_values({"embedding.model": former.model})
        settings = replace(chosen, embedding=replace(chosen.embedding, dim=former.dim))
        service = embedding_service(settings, embedder, self.embeddings.scheduler)
        if service.embedder.fingerprint != former.fingerprint:
            service.close()
            raise StoreError(f"The model {former.model} that is here now is not the one those vectors were made with.")
        switch_back(self.store.catalog)
        self._adopt(settings, service)
        dropped = drop_space(self.store.catalog, NEXT)
        undone = ReembedReport("undone", now.model, former.model, former.dim, dropped=dropped)
        return self._finished(undone, lambda _: None, service)
