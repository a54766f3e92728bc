"""Forgetting: choose, show, remove in one commit, purge. A run that dies anywhere is completed by the next one."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from omnimemory.config import Settings
from omnimemory.embedding_service import EmbeddingService
from omnimemory.errors import ConfigError, EmbedderError, StoreError
from omnimemory.forgetting.backups import read_backup
from omnimemory.forgetting.criteria import Criteria
from omnimemory.forgetting.purge import Purged, finish, note_purges
from omnimemory.forgetting.removal import Removed, Tables, cache_keys, drop_generations, remove_rows
from omnimemory.forgetting.report import ForgetReport
from omnimemory.forgetting.selection import Selection, select
from omnimemory.procedure.stored_steps import store_steps
from omnimemory.records import Progress
from omnimemory.search import KINDS, Query, search
from omnimemory.storage.backups import known_backups
from omnimemory.storage.store import Store
from omnimemory.storage.tombstones import add_stones, read_tombstones
from omnimemory.wiring import redactor_of

__all__ = ["Confirm", "Nearest", "finish_purging", "forget", "forget_matching", "index_tick"]

Confirm = Callable[[ForgetReport], bool]
ProgressCallback = Callable[[Progress], None]

_SHOWN = 500
_MOST_HITS = 10_000


@dataclass(frozen=True, slots=True)
class Nearest:
    """What is to be forgotten, as a question: its ``k`` best hits, those of at least ``min_score``, or both."""

    text: str
    k: int | None = None
    min_score: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise ConfigError("The question is empty: say what to forget.")
        if self.k is None and self.min_score is None:
            raise ConfigError("A question has no end of answers: say how many to forget (k), or how near (min_score).")


def forget(
    store: Store,
    embeddings: EmbeddingService,
    settings: Settings,
    criteria: Criteria,
    *,
    nearest: Nearest | None = None,
    dry_run: bool = False,
    confirm: Confirm | None = None,
    progress: ProgressCallback | None = None,
) -> ForgetReport:
    """See :meth:`omnimemory.memory.Memory.forget`."""
    if nearest is not None:
        criteria = _answered(store, embeddings, settings, criteria, nearest)
    return forget_matching(store, settings, criteria, dry_run=dry_run, confirm=confirm, progress=progress)


def forget_matching(
    store: Store,
    settings: Settings,
    criteria: Criteria,
    *,
    dry_run: bool = False,
    confirm: Confirm | None = None,
    progress: ProgressCallback | None = None,
) -> ForgetReport:
    """Forget what fits the criteria; no model is asked."""
    started = time.monotonic()
    chosen = _chosen(store, criteria)
    if dry_run or confirm is not None:
        shown = _rehearsed(store, chosen, criteria)
        if dry_run or (confirm is not None and not confirm(shown)):
            return replace(shown, seconds=round(time.monotonic() - started, 3))
    removed = _removed(store, chosen, criteria)
    history = settings.history
    with contextlib.suppress(StoreError):  # the steps that are left; else the next ingest makes them
        store_steps(store, history.session_gap, history.sequence_decay, history.steps)
    purged = finish(store, settings, tick=index_tick(store, progress))
    report = _report(store, removed, criteria)
    return replace(
        report, backups=purged.backups, unpurged=purged.unpurged, seconds=round(time.monotonic() - started, 3)
    )


def finish_purging(store: Store, settings: Settings, progress: ProgressCallback | None) -> ForgetReport:
    """Purge what earlier runs could not."""
    started = time.monotonic()
    purged: Purged = finish(store, settings, tick=index_tick(store, progress))
    return ForgetReport(backups=purged.backups, unpurged=purged.unpurged, seconds=round(time.monotonic() - started, 3))


def index_tick(store: Store, progress: ProgressCallback | None) -> Callable[[], None] | None:
    """Return what tells the progress of an index that is made anew."""
    if progress is None:
        return None
    total = store.generations.rows()

    def tell() -> None:
        progress(Progress("index", max(0, total - store.generations.waiting()), total))

    return tell


def _answered(
    store: Store, embeddings: EmbeddingService, settings: Settings, criteria: Criteria, nearest: Nearest
) -> Criteria:
    """Return the criteria with the ids of what a question finds; both have to hold."""
    query = Query(
        text=redactor_of(settings).document(nearest.text).text,
        k=_MOST_HITS if nearest.k is None else nearest.k,
        kinds=tuple(kind for kind in KINDS if criteria.wants(kind)),
        min_score=nearest.min_score,
    )
    hits = search(store, embeddings, query)
    if hits.degraded:
        raise EmbedderError(f"Nothing was forgotten, because what a question means cannot be told: {hits.degraded}")
    found = {kind: frozenset(hit.id for hit in hits if hit.kind == kind) for kind in KINDS}
    if criteria.ids is not None:
        found = {kind: found[kind] & criteria.ids[kind] for kind in KINDS}
    return replace(criteria, ids=found, words=(*criteria.words, nearest.text, query.text))


def _chosen(store: Store, criteria: Criteria) -> Selection:
    """Return the rows of the catalog to be forgotten; their tombstones are also those of what only backups hold."""
    stones = read_tombstones(store.catalog)
    chosen = select(store.catalog.blocks, criteria, stones, limit=_SHOWN)
    for backup in known_backups(store.path):
        with contextlib.suppress(StoreError), read_backup(backup) as blocks:  # finish() tells why it is out of reach
            chosen.stones |= select(blocks, criteria, stones).stones
    return chosen


class _TakenBackError(Exception):
    """Rolls a rehearsal back."""


def _rehearsed(store: Store, chosen: Selection, criteria: Criteria) -> ForgetReport:
    removed = None
    with contextlib.suppress(_TakenBackError), store.catalog.transaction() as sql:
        removed = remove_rows(sql, Tables(store.documents, store.commands), chosen)
        raise _TakenBackError
    assert removed is not None
    report = _report(store, removed, criteria)
    return replace(report, dry_run=True, found=chosen.found, items=tuple(chosen.items))


def _removed(store: Store, chosen: Selection, criteria: Criteria) -> Removed:
    with store.catalog.transaction() as sql:
        removed = remove_rows(sql, Tables(store.documents, store.commands), chosen)
        add_stones(sql, chosen.stones)
        drop_generations(sql)
        note_purges(sql, store, cache_keys(sql, (*removed.texts, *criteria.words)))
    return removed


def _report(store: Store, removed: Removed, criteria: Criteria) -> ForgetReport:
    return ForgetReport(
        chunks=removed.chunks,
        commands=removed.commands,
        events=removed.events,
        sources=removed.sources,
        still_in=tuple(uri for uri in removed.uris if os.path.lexists(uri)),
        notes=tuple(_notes(store, removed, criteria)),
    )


def _notes(store: Store, removed: Removed, criteria: Criteria) -> Iterator[str]:
    if not removed.rows:
        yield "nothing stored matches"
    if criteria.contains is None:
        return
    for query, name in (
        ("SELECT uri FROM sources ORDER BY uri", "source"),
        ("SELECT DISTINCT cwd FROM events WHERE cwd IS NOT NULL ORDER BY cwd", "cwd"),
    ):
        places = [place for (place,) in store.catalog.rows(query) if criteria.contains(place)]
        if places:
            yield f"{len(places)} of the paths hold the pattern and stay ({name}={places[0]!r} forgets what is from it)"
