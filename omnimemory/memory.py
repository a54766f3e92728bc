"""Memory: the one object. It builds the parts, wires them, and closes them.

One verb is one method is one command: ``memory.search(...)`` is ``omnimemory search ...``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from omnimemory.answers import Answers
from omnimemory.config import Settings, load_settings
from omnimemory.embedders.base import Embedder, Vectors
from omnimemory.embedding_service import EmbeddingService
from omnimemory.errors import ConfigError, SpaceMismatchError, StoreError
from omnimemory.foresight import Foresight
from omnimemory.moving import Moving
from omnimemory.recording import Recording
from omnimemory.records import Hits, IngestReport, Progress
from omnimemory.scheduler.scheduler import Scheduler
from omnimemory.search import KINDS, Query, search
from omnimemory.storage.cache import EmbeddingCache
from omnimemory.storage.opened_store import open_store
from omnimemory.storage.store import Store
from omnimemory.upkeep import Upkeep
from omnimemory.wiring import embedding_service, redactor_of, store_options

if TYPE_CHECKING:
    from omnimemory.resident_models import ResidentModels
    from omnimemory.transfer.reports import BackupReport, ExportReport, ImportReport

__all__ = ["Memory"]

ProgressCallback = Callable[[Progress], None]


class Memory(Recording, Foresight, Moving, Upkeep):
    """A persistent semantic memory in one directory.

    ``path`` is the store's directory (made if it does not exist), ``model`` and ``dim`` the embedding
    model; what is not given comes from ``settings``, and those from the environment and files, see
    :func:`~omnimemory.config.load_settings`. ``embedder`` replaces the model by any object that follows
    :class:`~omnimemory.embedders.base.Embedder`. Memories of one program that share a ``scheduler`` (that of another
    one, ``memory.scheduler``) unload each other's idle models when one needs the room.

    Use it as a context manager, or call :meth:`close`. Several processes may have the same store open.
    Raises :class:`SpaceMismatchError` if the store was made with another model, :class:`StoreError` if it
    cannot be used.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        settings: Settings | None = None,
        model: str | None = None,
        dim: int | None = None,
        embedder: Embedder | None = None,
        scheduler: Scheduler | None = None,
    ) -> None:
        base = load_settings() if settings is None else settings
        given = {"store.path": path, "embedding.model": model, "embedding.dim": dim}
        self.settings = base.with_values({key: value for key, value in given.items() if value is not None})
        self.embeddings = embedding_service(self.settings, embedder, scheduler)
        used = self.embeddings.embedder
        self.answers = Answers(self.settings)
        self._closed = False
        self._models: ResidentModels | None = None
        self._swap = threading.Lock()
        self._retired: list[EmbeddingService] = []
        try:
            self._opened = open_store(
                self.settings.store.path,
                store_options(self.settings),
                fingerprint=used.fingerprint,
                model=used.name,
                dim=used.dim,
            )
        except BaseException:
            self.embeddings.close()
            raise

    # -- remembering

    def ingest(
        self,
        *paths: str | Path,
        progress: ProgressCallback | None = None,
        prune: bool = True,
        prune_all: bool = False,
        dry_run: bool = False,
        restore: bool = False,
    ) -> IngestReport:
        """Bring files and folders into the memory, and what changed in them since the last time.

        Unchanged files cost a stat. Files that are gone from a folder, are ignored now or hold no text any
        more are forgotten (``prune``), unless the folder looks unmounted or unreadable (then only with
        ``prune_all``); a file below it that was ingested by a path of its own stays as long as it exists. A
        file that fails is in the report and never stops the run. ``dry_run`` reports what would change and
        changes nothing. ``restore`` brings back what was forgotten. ``progress`` may be called by another thread.
        """
        from omnimemory.ingest.runs import ingest_documents  # noqa: PLC0415 - a search needs none of it

        return ingest_documents(
            self.store,
            self.embeddings,
            self.settings,
            paths,
            progress=progress,
            prune=prune,
            prune_all=prune_all,
            dry_run=dry_run,
            restore=restore,
        )

    def add(
        self,
        texts: str | Sequence[str],
        *,
        ids: str | Sequence[str] | None = None,
        metadatas: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> list[str]:
        """Remember notes; return their ids, in order.

        An id is derived from the text unless given; a given id that exists gets the new text. Metadata
        values are strings, numbers, booleans or lists of one of these; ``None`` is left out. Secrets
        with a known shape are redacted.
        """
        from omnimemory.ingest.runs import add_notes  # noqa: PLC0415 - a search needs none of it

        return add_notes(self.store, self.embeddings, texts, ids, metadatas, redactor_of(self.settings))

    # -- finding

    def search(
        self,
        query: str = "",
        *,
        k: int | None = None,
        kind: str | None = None,
        mode: str | None = None,
        where: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        vector: Vectors | None = None,
        explain: bool = False,
    ) -> Hits:
        """Return the k best hits for a question, best first.

        ``kind`` is "documents", "commands" or both (``None``); ``mode`` "hybrid", "vector" or "keyword";
        ``where`` a metadata filter in Chroma's syntax, or a plain dictionary; ``min_score`` the least
        cosine; ``vector`` (dim,) a query vector instead of the text. With ``explain`` the hits tell which
        index answered and why. An empty question finds nothing.
        """
        self.take_spool()
        settings = self.settings.search
        found = Query(
            text=self._without_secrets(query),
            k=settings.k if k is None else k,
            kinds=KINDS if kind is None else (kind,),
            mode=mode or (settings.mode if vector is None or query.strip() else "vector"),
            where=where,
            min_score=min_score,
            weight=settings.weight,
            vector=vector,
            model_seconds=settings.model_seconds,
        )
        began = time.perf_counter()
        hits = self._found(found, explain=explain)
        seconds = time.perf_counter() - began
        self.answers.note(seconds, degraded=hits.degraded is not None, fallback=hits.fallback is not None)
        return hits

    def _found(self, query: Query, *, explain: bool) -> Hits:
        while True:
            with self._swap:  # a move to another model changes both at once
                store, embeddings = self.store, self.embeddings
            try:
                return search(store, embeddings, query, explain=explain)
            except SpaceMismatchError:
                if store is self.store:  # another process moved it, else a thread of this one, and the old vectors went
                    raise

    def _without_secrets(self, query: str) -> str:
        if not isinstance(query, str):
            raise ConfigError(f"A question is a text, got {type(query).__name__}. A vector is given as vector=...")
        return redactor_of(self.settings).document(query).text

    def warm(self) -> str | None:
        """Load the model and open the index now, so that no later search waits for them.

        Returns why the index is not open (another process has it, or it is switched off), or ``None``.
        """
        store = self.store
        self.embeddings.initialize()
        return store.warm()

    # -- carrying elsewhere

    def export(
        self,
        target: str | Path | IO[bytes],
        *,
        vectors: bool = False,
        overwrite: bool = False,
        progress: ProgressCallback | None = None,
    ) -> ExportReport:
        """Write everything that is remembered as JSON Lines to a file (mode 0600), or to an open binary stream.

        Equal memories have equal exports. With ``vectors`` an import need not embed anything. Raises
        :class:`StoreError` when the file exists (unless ``overwrite``) or cannot be written.
        """
        from omnimemory.transfer.export import export  # noqa: PLC0415 - a search needs none of it

        return export(self.store, target, vectors=vectors, overwrite=overwrite, progress=progress)

    def import_(
        self,
        origin: str | Path | IO[bytes],
        *,
        keep_secrets: bool | None = None,
        progress: ProgressCallback | None = None,
    ) -> ImportReport:
        """Bring an export into this memory: a file, checked before anything is changed, or an open binary stream.

        What the memory knows otherwise stays and is in the report. Commands are redacted once more unless
        ``keep_secrets``. Raises :class:`SourceError`, naming the line, for what is damaged or no export, and
        :class:`SchemaError` for one of a newer version.
        """
        from omnimemory.transfer.imports import import_export  # noqa: PLC0415 - a search needs none of it

        keep = self.settings.history.keep_secrets if keep_secrets is None else keep_secrets
        redactor = redactor_of(self.settings, keep_secrets=keep)
        return import_export(self.store, self.embeddings, origin, redactor=redactor, progress=progress)

    def backup(self, target: str | Path, *, progress: ProgressCallback | None = None) -> BackupReport:
        """Copy the memory, as it is at one moment, into a new folder that opens as a memory itself.

        Others may go on writing meanwhile. The index is not copied: it is rebuilt at its first use. Raises
        :class:`StoreError` when the folder is not empty or the copy is not sound.
        """
        from omnimemory.transfer.backup import backup  # noqa: PLC0415 - a search needs none of it

        return backup(self.store, target, progress=progress)

    # -- knowing

    @property
    def store(self) -> Store:
        """The store on disk. Raises :class:`StoreError` once this memory is closed."""
        if self._closed:
            raise StoreError(f"This memory was closed: open it again with Memory({str(self.settings.store.path)!r}).")
        return self._opened.store

    @property
    def cache(self) -> EmbeddingCache:
        """The cache of vectors. Raises :class:`ConfigError` when it is switched off."""
        if self.embeddings.cache is None:
            raise ConfigError("The cache is switched off (cache.enabled = false).")
        return self.embeddings.cache

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler that every batch asks."""
        return self.embeddings.scheduler

    @property
    def models(self) -> ResidentModels:
        """The models in memory: what is there, what could be, and how they come and go."""
        if self._models is None or self._models.service is not self.embeddings:  # as after a move to another model
            from omnimemory.resident_models import ResidentModels  # noqa: PLC0415 - a search needs none of it

            self._models = ResidentModels(self.settings, self.embeddings)
        return self._models

    # -- closing

    def close(self, *, wait: bool = True) -> None:
        """Finish what the index has begun and close everything; calling it again does nothing.

        A few notes added by hand stay out of the index until the next ingest, and are searched exactly. Without
        ``wait``, or with ``index.wait`` off, a child process goes on with the index alone, or the next ingest does.
        Whatever was committed is kept either way.
        """
        self._closed = True
        try:
            self._opened.close(wait=wait)
        finally:
            self.answers.close()
            for service in (*self._retired, self.embeddings):
                service.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(wait=not _is_interrupt(error))


def _is_interrupt(error: BaseException | None) -> bool:
    """Return whether the user (Ctrl-C) or the system (a signal, told as exit code 128 + n) wants an end now."""
    if isinstance(error, SystemExit):
        return isinstance(error.code, int) and error.code > 128
    return isinstance(error, KeyboardInterrupt)
