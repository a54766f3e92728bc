"""Scrubbing: the redaction rules of today over everything that is stored, and the old texts purged like forgotten ones.

There are no tombstones for what is scrubbed: whatever reads the source again redacts it with the same rules.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from omnimemory.config import Settings
from omnimemory.embedding_service import EmbeddingService
from omnimemory.errors import StoreError
from omnimemory.forgetting.backups import read_backup
from omnimemory.forgetting.forget import index_tick
from omnimemory.forgetting.purge import finish, note_purges
from omnimemory.forgetting.removal import Tables, cache_keys, drop_generations
from omnimemory.forgetting.report import ScrubReport
from omnimemory.forgetting.secrets import Replaced, Secrets, find_secrets, replace_secrets
from omnimemory.ingest.pipeline import embed_pending
from omnimemory.ingest.tally import Tally
from omnimemory.records import Progress
from omnimemory.sources.redaction import Redactor
from omnimemory.storage.backups import known_backups
from omnimemory.storage.store import Store
from omnimemory.storage.tombstones import add_purges, add_stones
from omnimemory.wiring import redactor_of

__all__ = ["scrub"]


def scrub(
    store: Store,
    embeddings: EmbeddingService,
    settings: Settings,
    *,
    dry_run: bool,
    progress: Callable[[Progress], None] | None,
) -> ScrubReport:
    """See :meth:`omnimemory.memory.Memory.scrub`."""
    started = time.monotonic()
    redactor, keep = redactor_of(settings), settings.history.keep_secrets
    found = find_secrets(store.catalog.blocks, redactor, keep=keep)
    if dry_run:
        report = _report(found, _rehearsed(store, found, keep=keep))
        return replace(report, dry_run=True, seconds=round(time.monotonic() - started, 3))
    replaced = _replaced(store, found, redactor, keep=keep)
    tally = Tally()
    embed_pending(store, embeddings, tally)
    purged = finish(store, settings, tick=index_tick(store, progress))
    return replace(
        _report(found, replaced),
        embedded=tally.embedded + tally.cache_hits,
        pending=sum(int(store.catalog.value(query)) for query in _PENDING),
        backups=purged.backups,
        unpurged=purged.unpurged,
        seconds=round(time.monotonic() - started, 3),
    )


_PENDING = ("SELECT count(*) FROM chunks WHERE pending", "SELECT count(*) FROM commands WHERE pending")


class _TakenBackError(Exception):
    """Rolls a rehearsal back."""


def _rehearsed(store: Store, found: Secrets, *, keep: bool) -> Replaced:
    replaced = None
    with contextlib.suppress(_TakenBackError), store.catalog.transaction() as sql:
        replaced = replace_secrets(sql, Tables(store.documents, store.commands), found, keep=keep)
        raise _TakenBackError
    assert replaced is not None
    return replaced


def _replaced(store: Store, found: Secrets, redactor: Redactor, *, keep: bool) -> Replaced:
    """Replace all of it in one commit, and note what is to be purged; without a finding, backups that have some."""
    suspects = [] if found else list(_backups_with_secrets(store, redactor, keep=keep))
    with store.catalog.transaction() as sql:
        replaced = replace_secrets(sql, Tables(store.documents, store.commands), found, keep=keep)
        if found:
            add_stones(sql, ())
            drop_generations(sql)
            note_purges(sql, store, cache_keys(sql, replaced.texts), backups="scrub")
        add_purges(sql, [("scrub", str(backup), b"") for backup in suspects])
    return replaced


def _backups_with_secrets(store: Store, redactor: Redactor, *, keep: bool) -> Iterator[Path]:
    for backup in known_backups(store.path):
        suspect = True  # one that is out of reach
        with contextlib.suppress(StoreError), read_backup(backup) as blocks:
            suspect = bool(find_secrets(blocks, redactor, keep=keep))
        if suspect:
            yield backup


def _report(found: Secrets, replaced: Replaced) -> ScrubReport:
    notes = [f"{path} looks like a secret itself: rename it and ingest it again" for path in found.paths]
    return ScrubReport(
        chunks=replaced.chunks,
        commands=replaced.commands,
        events=replaced.events,
        deleted=replaced.deleted,
        kept=found.kept,
        redactions=dict(found.counts),
        notes=tuple(notes),
    )
