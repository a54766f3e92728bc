"""The store: catalog, exact search and index as one thing with one rule each for reading and writing.

Writing: the catalog first, then the index is drained from it (``drainer.py``). Reading: small
collections, filtered searches and everything the index does not hold yet are answered exactly from the
catalog's vectors; large unfiltered searches by Chroma, whose hits are scored again with the true vectors.
Only the holder of the index lock has the index open; everybody else answers exactly and commits to the
catalog, and the holder drains it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnimemory.errors import ConfigError, IndexDamagedError, SpaceMismatchError, StoreError
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.commands import CommandTable
from omnimemory.storage.documents import DocumentTable
from omnimemory.storage.drain import DrainOptions, drain
from omnimemory.storage.drainer import Drainer
from omnimemory.storage.exact import ExactIndex
from omnimemory.storage.generations import Generations
from omnimemory.storage.index import ChromaIndex
from omnimemory.storage.items import ItemTable
from omnimemory.storage.lock import IndexLock
from omnimemory.storage.rebuild import open_index, rebuild
from omnimemory.storage.vectors import read_vectors, rows_above, vectors_of
from omnimemory.storage.where import check_where

__all__ = ["Nearest", "Store", "StoreOptions", "open_store"]

_CHILD_ROWS = 512
_TAIL_ROWS = 4096
_EXTRA = 32


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How a store reads and writes its index; see :class:`~omnimemory.config.Settings`."""

    drain: DrainOptions = field(default_factory=DrainOptions)
    index: bool = True
    exact_rows: int = 20_000
    idle_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Nearest:
    """The rows nearest to a query, best first, their cosines, and who answered and why."""

    rows: list[int]
    scores: list[float]
    answered_by: str
    reason: str


class Store:
    """An open store directory. Use :func:`open_store`: one object a directory and process.

    Safe for several threads; not across ``fork``.
    """

    def __init__(self, path: Path, options: StoreOptions, *, fingerprint: str, model: str, dim: int) -> None:
        self.path = path
        self.options = options
        self._lock = threading.RLock()
        self._index_lock = IndexLock(path / "index.lock")
        self._index: ChromaIndex | None = None
        self._generation = 0
        self._drainer: Drainer | None = None
        self._large_searches = 0
        self._opening: threading.Thread | None = None
        self._keeper: threading.Thread | None = None
        self._last_use = 0.0
        self._closing = threading.Event()
        self.catalog = _open_catalog(path)
        try:
            collections = {
                name: self.catalog.ensure_collection(name, fingerprint=fingerprint, model=model, dim=dim)
                for name in ("documents", "commands")
            }
            for collection in collections.values():
                _check_space(path, collection.model, collection.fingerprint, model, fingerprint)
            self.documents = DocumentTable(self.catalog, collections["documents"])
            self.commands = CommandTable(self.catalog, collections["commands"])
        except BaseException:
            self.catalog.close()
            raise
        self.tables: dict[str, ItemTable] = {"documents": self.documents, "commands": self.commands}
        self.generations = Generations(self.catalog)
        self._exact = {kind: ExactIndex(self.catalog, table.collection) for kind, table in self.tables.items()}
        self._sizes: dict[str, tuple[tuple[int, int], int]] = {}

    # -- reading

    def nearest(self, kind: str, query: NDArray[np.float32], k: int, where: Mapping[str, Any] | None = None) -> Nearest:
        """Return the k rows of a kind nearest to the unit vector ``query`` (dim,)."""
        table = self.tables[kind]
        if where is not None:
            check_where(where)
            snapshot, mask = self._exact[kind].mask(where, table.stamp(), table.column)
            rows, scores = self._exact[kind].search(query, k, mask, snapshot)
            return Nearest(rows, scores, "exact", f"filtered: {int(mask.sum())} of {len(snapshot)} match")
        size = self._size(kind)
        if size <= self.options.exact_rows:
            return self._answer_exactly(kind, query, k, f"{size} vectors, exact up to {self.options.exact_rows}")
        why_not = self._want_index()
        if why_not:
            return self._answer_exactly(kind, query, k, why_not)
        try:
            return self._ask_index(kind, query, k)
        except IndexDamagedError as error:
            self._drop_index()
            return self._answer_exactly(kind, query, k, str(error))

    def matching(self, kind: str, where: Mapping[str, Any]) -> set[int]:
        """Return the rows of a kind that match a filter and have a vector."""
        check_where(where)
        table = self.tables[kind]
        snapshot, mask = self._exact[kind].mask(where, table.stamp(), table.column)
        return set(snapshot.items[mask].tolist())

    def scores(self, kind: str, query: NDArray[np.float32], rows: list[int]) -> dict[int, float]:
        """Return the cosine of ``query`` with each of these rows that has a vector."""
        vectors = vectors_of(self.catalog, self.tables[kind].collection, rows)
        return {row: float(vector @ query) for row, vector in vectors.items()}

    def _answer_exactly(self, kind: str, query: NDArray[np.float32], k: int, reason: str) -> Nearest:
        rows, scores = self._exact[kind].search(query, k)
        return Nearest(rows, scores, "exact", reason)

    def _size(self, kind: str) -> int:
        collection = self.tables[kind].collection
        deletes, newest = self.catalog.rows(
            "SELECT deletes, (SELECT max(row) FROM vectors WHERE collection_id = c.id) FROM collections c WHERE id = ?",
            (collection.id,),
        )[0]
        version = (deletes, newest or 0)
        if self._sizes.get(kind, ((-1, -1), 0))[0] != version:
            self._sizes[kind] = (version, rows_above(self.catalog, collection, 0))
        return self._sizes[kind][1]

    def _ask_index(self, kind: str, query: NDArray[np.float32], k: int) -> Nearest:
        table = self.tables[kind]
        with self._lock:
            index, generation = self._index, self._generation
            if index is None:
                return self._answer_exactly(kind, query, k, "the index was closed meanwhile")
            self._last_use = time.monotonic()
            drained = self.generations.drained(generation, table.collection)
            tail = rows_above(self.catalog, table.collection, drained)
            if tail > _TAIL_ROWS:
                return self._answer_exactly(kind, query, k, f"{tail} vectors are not in the index yet")
            ids, claimed = index.query(table.collection, query, min(k + _EXTRA, max(1, self._size(kind) - tail)))
        rows_by_id = table.rows_of(ids)
        rows = [rows_by_id[public] for public in ids if public in rows_by_id]
        scored = self.scores(kind, query, rows)
        for public, claim in zip(ids, claimed, strict=True):
            row = rows_by_id.get(public)
            if row in scored and abs(scored[row] - claim) > 1e-3 and self._is_drained(table, row, drained):
                raise IndexDamagedError("the index gave a wrong distance: it is damaged and will be rebuilt")
        if tail:
            for _, items, vectors in read_vectors(self.catalog, table.collection, drained):
                scored.update(zip(items.tolist(), (vectors @ query).tolist(), strict=True))
        order = sorted(scored, key=lambda row: (-scored[row], row))[:k]
        reason = f"index generation {generation}" + (f", {tail} newer vectors exactly" if tail else "")
        return Nearest(order, [scored[row] for row in order], "chroma", reason)

    def _is_drained(self, table: ItemTable, item: int, drained: int) -> bool:
        row = self.catalog.value(
            "SELECT row FROM vectors WHERE collection_id = ? AND item = ?", (table.collection.id, item)
        )
        return row is not None and row <= drained

    # -- the index's life

    def warm(self) -> str | None:
        """Open the index now, so that no later search waits for it; return why it is not open, or ``None``."""
        if not self.options.index:
            return "the index is switched off (index.enabled)"
        with self._lock:
            if self._index is not None:
                return None
            if self._closing.is_set():
                return "the store is being closed"
            if self._drainer is not None:
                self.drain()
            if not self._index_lock.acquire():
                return f"the index is in use by process {self._index_lock.holder()}"
            try:
                self._index, self._generation = open_index(self.path, self.catalog, self.options.drain)
                drain(self.catalog, self._index, self._generation, self.options.drain.batch_size)
                for table in self.tables.values():
                    self._index.count(table.collection)
            except IndexDamagedError as error:
                self._drop_index()
                return str(error)
            except BaseException:
                self._drop_index()
                raise
            self._last_use = time.monotonic()
            if self._keeper is None or not self._keeper.is_alive():
                self._keeper = threading.Thread(target=self._keep, name="omnimemory-index", daemon=True)
                self._keeper.start()
        return None

    def _want_index(self) -> str | None:
        """Return why a large search cannot use the index, or ``None`` if it can.

        Opening costs seconds, so a process that searches once never pays it: the second large search
        opens the index beside the exact answers, at once only where chromadb is imported anyway.
        """
        if self._index is not None:
            return None
        if not self.options.index:
            return "the index is switched off (index.enabled)"
        self._large_searches += 1
        if "chromadb" in sys.modules and self._opening is None:
            return self.warm()
        if self._large_searches < 2:
            return "the index is not open; the first search does not wait for it"
        with self._lock:
            if self._opening is None or not self._opening.is_alive():
                self._opening = threading.Thread(target=self.warm, name="omnimemory-warm", daemon=True)
                self._opening.start()
        return "the index is being opened"

    def _keep(self) -> None:
        """While the index is open: drain what other processes committed, and close it when idle."""
        while not self._closing.wait(1.0):
            with self._lock:
                if self._index is None:
                    return
                try:
                    if self.generations.waiting():
                        drain(self.catalog, self._index, self._generation, self.options.drain.batch_size)
                    if time.monotonic() - self._last_use >= self.options.idle_seconds:
                        self._close_index()
                        return
                except (StoreError, OSError):
                    self._drop_index()
                    return

    def _close_index(self) -> None:
        with self._lock:
            index, self._index = self._index, None
            try:
                if index is not None:
                    index.close()
            finally:
                self._index_lock.release()

    def _drop_index(self) -> None:
        """Let go of an index that failed, without the manifest that would call it sound."""
        with self._lock:
            index, self._index = self._index, None
            if index is not None:
                index.abandon()
            self._index_lock.release()

    # -- writing

    def committed(self) -> None:
        """Say that a batch was committed: once enough is pending, a child process starts to drain it."""
        with self._lock:
            if not self.options.index:
                return
            if self._drainer is None:
                if self.generations.waiting() < _CHILD_ROWS:
                    return
                self._close_index()
                self._drainer = Drainer(self.path, self.options.drain)
            self._drainer.nudge()

    def drain(self) -> str | None:
        """Bring everything pending into the index; return why that was not possible, or ``None``.

        When another process holds the index, its holder drains what is pending; that is no failure.
        """
        with self._lock:
            if not self.options.index:
                return None
            if self._drainer is None and not self.generations.waiting():
                return None
            if self._drainer is None and self._index is not None:
                try:
                    drain(self.catalog, self._index, self._generation, self.options.drain.batch_size)
                except IndexDamagedError as error:
                    self._drop_index()
                    return str(error)
                return None
            drainer, self._drainer = self._drainer or Drainer(self.path, self.options.drain), None
        return drainer.finish()

    def rebuild(self) -> int:
        """Make the index anew from the catalog, without embedding anything; return its generation.

        Raises :class:`StoreError` while another process has the index open.
        """
        if not self.options.index:
            raise ConfigError("The index is switched off (index.enabled): there is nothing to rebuild.")
        with self._lock:
            self._close_index()
            if not self._index_lock.acquire(timeout=5.0):
                raise StoreError(f"The index is in use by process {self._index_lock.holder()}; close it and try again.")
            try:
                return rebuild(self.path, self.catalog, self.options.drain)
            finally:
                self._index_lock.release()

    # -- the whole

    def status(self) -> dict[str, Any]:
        """Return what the store holds: counts, the state of the index, bytes on disk."""
        table = self.documents.collection
        sources = dict(self.catalog.rows("SELECT kind, count(*) FROM sources GROUP BY kind"))
        return {
            "path": str(self.path),
            "model": table.model,
            "dim": table.dim,
            "documents": {
                "sources": sources.get("file", 0) + sources.get("notes", 0),
                "chunks": self.documents.count(),
                "pending": self.catalog.value("SELECT count(*) FROM chunks WHERE pending"),
            },
            "commands": {
                "sources": sources.get("history", 0),
                "commands": self.commands.count(),
                "events": self.catalog.value("SELECT count(*) FROM events"),
                "pending": self.catalog.value("SELECT count(*) FROM commands WHERE pending"),
            },
            "index": {
                "enabled": self.options.index,
                "generation": self.generations.active(),
                "waiting": self.generations.waiting() if self.options.index else 0,
                "open": self._index is not None,
                "holder": self._index_lock.holder(),
            },
            "bytes": sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file()),
        }

    def close(self) -> None:
        """Finish draining, close the index and the catalog."""
        self._closing.set()
        for thread in (self._opening, self._keeper):
            if thread is not None and thread is not threading.current_thread():
                thread.join()
        with self._lock:
            if self._drainer is not None or self._index is not None:
                self.drain()
            self._close_index()
        self.catalog.close()


def _open_catalog(path: Path) -> Catalog:
    file = path / "catalog.sqlite3"
    if not file.exists() and (path / "index").is_dir():
        raise StoreError(
            f"{path} has an index but its catalog is gone ({file.name}). The catalog is the truth: restore it from a "
            f"backup, or delete {path} and ingest again."
        )
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.stat().st_uid == os.getuid():
            path.chmod(0o700)
    except OSError as error:
        raise StoreError(f"The store {path} cannot be made: {error.strerror}. Choose another with --store.") from error
    return Catalog(file)


def _check_space(path: Path, stored: str, stored_fingerprint: str, model: str, fingerprint: str) -> None:
    if stored_fingerprint != fingerprint:
        raise SpaceMismatchError(
            f"{path} holds vectors of {stored}, not of {model}: distances between the two mean nothing. "
            f"Open it with the model it was made with, or choose another store with --store."
        )


_OPEN: dict[tuple[int, Path], tuple[Store, int]] = {}
_OPEN_LOCK = threading.Lock()


class open_store:  # noqa: N801 - used like the function it stands for
    """Open a store, shared with everybody in this process who opened the same directory.

    ``.store`` is the shared :class:`Store`; ``.close()`` closes it when the last one lets go.
    """

    def __init__(self, path: Path, options: StoreOptions, *, fingerprint: str, model: str, dim: int) -> None:
        self._path = path.expanduser().resolve()
        self._key = (os.getpid(), self._path)  # a forked child must not be handed its parent's store
        self._done = False
        with _OPEN_LOCK:
            found, users = _OPEN.get(self._key, (None, 0))
            if found is None:
                found = Store(self._path, options, fingerprint=fingerprint, model=model, dim=dim)
            else:
                stored = found.documents.collection
                _check_space(self._path, stored.model, stored.fingerprint, model, fingerprint)
            _OPEN[self._key] = (found, users + 1)
        self.store = found

    def close(self) -> None:
        """Let go of the store; calling it again does nothing."""
        with _OPEN_LOCK:
            if self._done:
                return
            self._done = True
            store, users = _OPEN[self._key]
            if users > 1:
                _OPEN[self._key] = (store, users - 1)
                return
            del _OPEN[self._key]
        store.close()
