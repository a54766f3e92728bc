"""Two of the ways into the memory, put together: documents and notes. The third is in ``history_runs.py``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omnimemory.config import Settings
from omnimemory.embedding_service import EmbeddingService
from omnimemory.errors import ConfigError
from omnimemory.ingest.documents import DocumentReader, document_changes
from omnimemory.ingest.notes import note_changes
from omnimemory.ingest.paths import path_uri, root_paths
from omnimemory.ingest.pipeline import embed_pending, rehearse, run
from omnimemory.ingest.tally import Tally, ignore_progress
from omnimemory.records import IngestReport, Progress
from omnimemory.sources.documents import Limits
from omnimemory.sources.redaction import Redactor
from omnimemory.storage.store import Store
from omnimemory.storage.tombstones import forgets, read_tombstones
from omnimemory.wiring import redactor_of

__all__ = ["add_notes", "ingest_documents"]

_LOG = logging.getLogger("omnimemory")
ProgressCallback = Callable[[Progress], None]


def ingest_documents(
    store: Store,
    embeddings: EmbeddingService,
    settings: Settings,
    paths: Iterable[str | Path],
    *,
    progress: ProgressCallback | None,
    prune: bool,
    prune_all: bool,
    dry_run: bool,
    restore: bool,
) -> IngestReport:
    """See :meth:`omnimemory.memory.Memory.ingest`."""
    roots = root_paths(paths)
    if not roots:
        raise ConfigError("ingest() needs at least one file or folder.")
    tally, show = Tally(forgets=forgets(store.catalog)), progress or ignore_progress
    changes = document_changes(
        store,
        roots,
        _document_reader(store, embeddings, settings, restore=restore),
        tally,
        part=embeddings.batch_size,
        prune=prune,
        prune_all=prune_all,
        progress=show,
    )
    if dry_run:
        rehearse(store, changes)
        return tally.report()
    embed_pending(store, embeddings, tally)
    run(store, embeddings, changes, tally, progress=show)
    return tally.report()


def _document_reader(
    store: Store, embeddings: EmbeddingService, settings: Settings, *, restore: bool
) -> DocumentReader:
    documents = settings.documents
    # A chunk that the model reads in two windows would have the mean of two meanings.
    size = max(16, min(settings.chunking.size, getattr(embeddings.embedder, "window", settings.chunking.size)))
    return DocumentReader(
        limits=Limits(
            max_bytes=documents.max_bytes,
            max_depth=documents.max_depth,
            hidden=documents.hidden,
            gitignore=documents.gitignore,
            include=documents.include,
            exclude=documents.exclude,
        ),
        redactor=redactor_of(settings),
        count_tokens=embeddings.embedder.count_tokens,
        size=size,
        overlap=min(settings.chunking.overlap, (size - 1) // 2),
        own=(path_uri(settings.store.path), path_uri(settings.cache.path)),
        forgotten=read_tombstones(store.catalog),
        restore=restore,
    )


def add_notes(
    store: Store,
    embeddings: EmbeddingService,
    texts: str | Sequence[str],
    ids: str | Sequence[str] | None,
    metadatas: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
    redactor: Redactor,
) -> list[str]:
    """See :meth:`omnimemory.memory.Memory.add`."""
    tally = Tally()
    changes, public = note_changes(store, redactor, texts, ids, metadatas)
    embed_pending(store, embeddings, tally)
    run(store, embeddings, changes, tally, drain=False)
    if tally.pending:
        count = f"{tally.pending:,} {'notes are' if tally.pending > 1 else 'note is'} stored without a vector yet"
        _LOG.warning("%s: keywords find it, and the next run embeds it. The reason: %s", count, tally.degraded)
    return public
