"""The index while this process holds it: opened under the index lock, asked, written to, let go of."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from omnimemory.errors import IndexDamagedError, StoreBusyError, StoreError, StoreFullError
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.drain import StoreOptions, drain
from omnimemory.storage.generations import Generations
from omnimemory.storage.items import Found, ItemTable
from omnimemory.storage.lock import IndexLock
from omnimemory.storage.steps import STEP_KINDS

if TYPE_CHECKING:
    from omnimemory.storage.index import ChromaIndex

__all__ = ["HeldIndex"]

_QUERY_WAIT = 0.1
_REBUILD_WAIT = 5.0


class HeldIndex:
    """The index of one store, open in this process or not; safe for several threads, which ``lock`` keeps apart."""

    def __init__(self, path: Path, catalog: Catalog, options: StoreOptions) -> None:
        self.lock = threading.RLock()
        self._path = path
        self._catalog = catalog
        self._options = options
        self._generations = Generations(catalog)
        self._index_lock = IndexLock(path / "index.lock")
        self._index: ChromaIndex | None = None
        self._generation = 0
        self._last_use = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether this process has the index open."""
        return self._index is not None

    def holder(self) -> int | None:
        """Return the process that holds the index, ``None`` if nobody does."""
        return self._index_lock.holder()

    def is_idle(self) -> bool:
        """Whether nobody asked it for as long as the options allow."""
        return time.monotonic() - self._last_use >= self._options.idle_seconds

    def query(self, table: ItemTable, vector: NDArray[np.float32], k: int) -> Found | str:
        """Return the k nearest items, or why the index cannot be asked now. Raises :class:`IndexDamagedError`."""
        if not self.lock.acquire(timeout=_QUERY_WAIT):
            return "the index is being written"
        try:
            if self._index is None:
                return "the index was closed meanwhile"
            self._last_use = time.monotonic()
            drained = self._generations.drained(self._generation, table.collection)
            ids, claims = self._index.query(table.collection, vector, k)
            return Found(ids, claims, self._generation, drained)
        finally:
            self.lock.release()

    def open(self) -> str | None:
        """Open it, drain what is pending and load what the first query would wait for; return why not, or ``None``."""
        with self.lock:
            if not self._index_lock.acquire():
                return self._in_use()
            try:
                self._open()
            except BaseException as error:
                self.drop()
                if isinstance(error, IndexDamagedError | StoreFullError):
                    return str(error)
                raise
        return None

    def _open(self) -> None:
        from omnimemory.storage.rebuild import open_index  # noqa: PLC0415 - most searches need no index

        self._index, self._generation = open_index(self._path, self._catalog, self._options.drain)
        self.drain()
        for collection in self._catalog.collections():
            if collection.name not in STEP_KINDS:
                self._index.count(collection)
        self._last_use = time.monotonic()

    def drain(self) -> bool:
        """Bring everything pending into it; return whether it is open. Raises :class:`IndexDamagedError`."""
        with self.lock:
            if self._index is None:
                return False
            drain(self._catalog, self._index, self._generation, self._options.drain.batch_size)
            return True

    def rebuild(self) -> int:
        """Make it anew from the catalog; return its generation. Raises :class:`StoreBusyError`."""
        with self.lock:
            self.close()
            if not self._index_lock.acquire(timeout=_REBUILD_WAIT):
                raise StoreBusyError(f"{self._in_use()}; close that one and try again.")
            try:
                from omnimemory.storage.rebuild import rebuild  # noqa: PLC0415 - as above

                return rebuild(self._path, self._catalog, self._options.drain)
            finally:
                self._index_lock.release()

    def drop(self) -> None:
        """Let go of an index that failed, without the manifest that would call it sound."""
        with self.lock:
            index, self._index = self._index, None
            if index is not None:
                index.abandon()
            self._index_lock.release()

    def close(self) -> None:
        """Close it and give the index lock back."""
        with self.lock:
            index, self._index = self._index, None
            try:
                if index is not None:
                    index.close()
            except (StoreError, OSError):
                if index is not None:
                    index.abandon()  # its folder is questioned at the next use
            finally:
                self._index_lock.release()

    def _in_use(self) -> str:
        holder = self._index_lock.holder()
        return f"the index is in use by process {holder}" if holder else "the index is in use by another process"
