"""Rows of the catalog that are not what was stored, put right from the copies there are of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from omnimemory.care.catalog_checks import RESTORE
from omnimemory.care.findings import ERROR, Finding
from omnimemory.care.outcome import Deed
from omnimemory.config import Settings
from omnimemory.storage import mending, restoring
from omnimemory.storage.catalog import Catalog, Collection
from omnimemory.storage.consistency import ITEM_TABLES, mark_missing, missing_vectors, orphan_vectors, remove_orphans
from omnimemory.storage.steps import drop_steps
from omnimemory.storage.verification import content_problems
from omnimemory.wiring import embedding_cache

__all__ = ["mend_rows", "mend_vectors"]

_LOST = "restore a backup; or `omnimemory repair --discard` takes them out, and the next ingest reads their files again"


def mend_rows(catalog: Catalog, settings: Settings, *, discard: bool) -> tuple[list[Deed], list[Finding]]:
    """Mend what the checksums tell; return what was done, and what there is no copy of."""
    wrong = {problem.part: list(problem.rows) for problem in content_problems(catalog) if problem.rows}
    mending_ = _Mending(catalog, settings, discard)
    for part, mend in (
        ("meta", mending_.meta),
        ("chunks", mending_.chunks),
        ("commands", mending_.commands),
        ("events", mending_.events),
        ("sources", mending_.sources),
        ("vectors", mending_.vectors),
        ("steps", mending_.steps),
        ("counters", mending_.counters),
    ):
        if part in wrong:
            mend(wrong[part])
    return mending_.done, mending_.left


@dataclass(slots=True)
class _Mending:
    """One run of :func:`mend_rows`."""

    catalog: Catalog
    settings: Settings
    discard: bool
    done: list[Deed] = field(default_factory=list)
    left: list[Finding] = field(default_factory=list)

    def meta(self, rows: Sequence[int]) -> None:
        """Put back the catalog's key."""
        with restoring.raw_transaction(self.catalog) as sql:
            mended = restoring.restore_key(sql)
        if mended:
            self.done.append(Deed("meta", len(rows), "flipped bits put right"))
        else:
            self.left.append(Finding("content", ERROR, "The key of the catalog is damaged.", RESTORE))

    def chunks(self, rows: Sequence[int]) -> None:
        """Put back texts, headings and metadata."""
        copies = restoring.copies_in_index(self.settings.store.path, self._ids("chunks", "chunk_id", rows))
        with restoring.raw_transaction(self.catalog) as sql:
            lost = restoring.restore_chunks(sql, rows, copies)
            if self.discard:
                mending.discard_chunks(sql, self._collection("documents"), lost)
        self._tell("documents", rows, lost)

    def commands(self, rows: Sequence[int]) -> None:
        """Put back texts."""
        copies = restoring.copies_in_index(self.settings.store.path, self._ids("commands", "command_id", rows))
        with restoring.raw_transaction(self.catalog) as sql:
            lost = restoring.restore_commands(sql, rows, copies)
            if self.discard:
                mending.discard_commands(sql, self._collection("commands"), lost)
        self._tell("commands", rows, lost)

    def events(self, rows: Sequence[int]) -> None:
        """Put back what can be put back without a copy: there is none."""
        with restoring.raw_transaction(self.catalog) as sql:
            lost = restoring.restore_events(sql, rows)
            if self.discard:
                mending.discard_events(sql, lost)
        self._tell("events", rows, lost)

    def sources(self, rows: Sequence[int]) -> None:
        """Put back what sources remember, or let them be read again."""
        with restoring.raw_transaction(self.catalog) as sql:
            lost = restoring.restore_sources(sql, rows)
            histories = {row for (row,) in sql.execute("SELECT id FROM sources WHERE kind = 'history'")}
            # A history that is read from its beginning again may tell of events twice; a file cannot.
            again = [row for row in lost if self.discard or row not in histories]
            mending.reset_sources(sql, again)
        if again:
            self.done.append(Deed("sources", len(again), "to be read again by the next ingest"))
        self._tell("sources", rows, [row for row in lost if row not in again], kept=len(lost))

    def vectors(self, rows: Sequence[int]) -> None:
        """Take vectors from the cache, or put a flipped bit right, or let them be embedded again.

        Those of a space that is not searched are taken out: a move to another model makes them again.
        """
        with restoring.raw_transaction(self.catalog) as sql:
            aside = mending.remove_unsearched(sql, rows)
            steps = mending.are_of_steps(sql, rows)
        if aside:
            self.done.append(Deed("vectors", aside, "taken out of a space that is not searched"))
        if steps:
            self.steps(range(steps))
        for collection in self.catalog.collections():
            if collection.name not in ITEM_TABLES:
                continue
            with _cached(self.settings, collection) as cached, restoring.raw_transaction(self.catalog) as sql:
                restored, postponed = mending.restore_vectors(sql, collection, rows, cached)
            if restored:
                self.done.append(Deed(collection.name, restored, "vectors put back"))
            if postponed:
                self.done.append(Deed(collection.name, postponed, "marked: the next ingest embeds them again"))

    def steps(self, rows: Sequence[int]) -> None:
        """Take all transitions and sequences out: they are made of events and of other vectors."""
        with restoring.raw_transaction(self.catalog) as sql:
            drop_steps(sql)
            mending.forget_index(sql)
        self.done.append(Deed("steps", len(rows), "taken out with all others: the next ingest makes them again"))

    def counters(self, rows: Sequence[int]) -> None:
        """Let the index be made anew."""
        with self.catalog.transaction() as sql:
            mending.forget_index(sql)
        self.done.append(Deed("index", len(rows), "generations given up whose book-keeping made no sense"))

    def _tell(self, part: str, rows: Sequence[int], lost: Sequence[int], kept: int | None = None) -> None:
        restored = len(rows) - (len(lost) if kept is None else kept)
        if restored:
            self.done.append(Deed(part, restored, "put back as they were stored"))
        if lost and self.discard:
            self.done.append(Deed(part, len(lost), "taken out, because there is no copy of them"))
        elif lost:
            message = f"{len(lost):,} of the {part} are damaged, and there is no copy of them."
            self.left.append(Finding("content", ERROR, message, _LOST))

    def _ids(self, table: str, column: str, rows: Sequence[int]) -> list[str]:
        query = f"SELECT {column} FROM {table} WHERE id = ?"  # noqa: S608 - our own names
        with restoring.raw_transaction(self.catalog) as sql:
            found = [sql.execute(query, (row,)).fetchone() for row in rows]
        return [row[0] for row in found if row is not None]

    def _collection(self, name: str) -> Collection:
        return next(collection for collection in self.catalog.collections() if collection.name == name)


class _cached:  # noqa: N801 - used with `with`
    """The cache as a function from texts to vectors, for as long as a block runs."""

    def __init__(self, settings: Settings, collection: Collection) -> None:
        self._cache = embedding_cache(settings)
        self._collection = collection

    def __enter__(self) -> Callable[[Sequence[str]], tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        return self._ask

    def _ask(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        if self._cache is None:
            dim = self._collection.dim
            return np.zeros((len(texts), dim), dtype=np.float32), np.zeros(len(texts), dtype=np.bool_)
        return self._cache.get_many(self._collection.fingerprint, "document", self._collection.dim, texts)

    def __exit__(self, *_: object) -> None:
        if self._cache is not None:
            with closing(self._cache):
                pass


def mend_vectors(catalog: Catalog, settings: Settings) -> list[Deed]:
    """Give items without a vector that of the cache, or let them wait for one; remove vectors without an item."""
    done = []
    for collection in catalog.collections():
        if collection.name not in ITEM_TABLES:
            continue
        orphans, missing = orphan_vectors(catalog, collection), missing_vectors(catalog, collection)
        if not orphans and not missing:
            continue
        with _cached(settings, collection) as cached, catalog.transaction() as sql:
            if orphans:
                remove_orphans(sql, collection, orphans)
                mending.forget_index(sql)
            filled = mending.fill_vectors(sql, collection, missing, cached)
            marked = mark_missing(sql, collection)
        if filled:
            done.append(Deed(collection.name, filled, "vectors taken from the cache"))
        if orphans:
            done.append(Deed(collection.name, len(orphans), "vectors removed that belonged to nothing"))
        if marked:
            done.append(Deed(collection.name, marked, "marked: the next ingest embeds them"))
    return done
