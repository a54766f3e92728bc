"""One of the ways into the memory, put together: shell history. Apart, because who reads one reads no documents."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

from omnimemory.config.settings import HistorySettings
from omnimemory.embedding_service import EmbeddingService
from omnimemory.errors import ConfigError, SourceError
from omnimemory.ingest.history import history_changes
from omnimemory.ingest.paths import path_uri
from omnimemory.ingest.pipeline import embed_pending, run
from omnimemory.ingest.tally import Tally, ignore_progress
from omnimemory.procedure.stored_steps import store_steps
from omnimemory.records import Failure, FoundHistory, IngestReport, Progress
from omnimemory.sources.history import locate_all
from omnimemory.sources.redaction import Redactor
from omnimemory.storage.store import Store
from omnimemory.storage.tombstones import forgets

__all__ = ["ingest_history"]


def ingest_history(
    store: Store,
    embeddings: EmbeddingService,
    target: str | Path | IO[bytes] | None,
    *,
    shell: str | None,
    redactor: Redactor,
    restore: bool,
    progress: Callable[[Progress], None] | None,
    history: HistorySettings,
    name: str = "stdin",
    every: bool = False,
) -> IngestReport:
    """See :meth:`omnimemory.memory.Memory.ingest_history`."""
    if every and (target is not None or shell is not None):
        raise ConfigError("every=True finds the histories and their shells by itself: give no target and no shell.")
    tally, show = Tally(forgets=forgets(store.catalog)), progress or ignore_progress
    change = partial(
        history_changes,
        store,
        redactor=redactor,
        tally=tally,
        name=name,
        part=embeddings.batch_size,
        restore=restore,
        progress=show,
    )
    embed_pending(store, embeddings, tally)
    if not every:
        run(store, embeddings, change(target, shell), tally, progress=show, drain=False)
        store_steps(store, history.session_gap, embeddings.sequence_decay, history.steps)
        run(store, embeddings, (), tally, progress=show)
        return tally.report()
    for path, found in locate_all(Path.home(), os.environ):
        before = tally.events
        try:
            run(store, embeddings, change(path, found), tally, drain=False)
        except SourceError as error:  # one bad history never keeps the others out
            tally.failures.append(Failure(path_uri(path), str(error)))
        tally.histories.append(FoundHistory(found, path_uri(path), tally.events - before))
    store_steps(store, history.session_gap, embeddings.sequence_decay, history.steps)
    run(store, embeddings, (), tally, progress=show)
    return tally.report()
