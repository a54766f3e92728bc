"""The index's life in one process: opened when it pays, kept while it is used, closed when it idles.

Only the holder of the index lock has it open. Everybody else answers exactly and commits to the catalog;
the holder drains what they commit. Large drains are done by a child process (``drainer.py``), so a search
never waits for one, and no search waits for the index to be opened.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from omnimemory.errors import ConfigError, IndexDamagedError, StoreBusyError, StoreError, StoreFullError
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.drain import StoreOptions, drain
from omnimemory.storage.generations import Generations
from omnimemory.storage.items import Found, ItemTable
from omnimemory.storage.lock import IndexLock
from omnimemory.storage.steps import STEP_KINDS

if TYPE_CHECKING:
    from omnimemory.storage.drainer import Drainer
    from omnimemory.storage.index import ChromaIndex

__all__ = ["IndexSession"]

_CHILD_ROWS = 512
_BUSY_INGEST_SECONDS = 5.0
_RETRY_SECONDS = 5.0
_KEEP_SECONDS = 1.0
_QUERY_WAIT = 0.1
_LEAVE_SECONDS = 1.0
_OFF = "the index is switched off (index.enabled)"


class IndexSession:
    """The index of one store in one process; safe for several threads, refused in a forked child."""

    def __init__(self, path: Path, catalog: Catalog, options: StoreOptions) -> None:
        self._path = path
        self._catalog = catalog
        self._options = options
        self._generations = Generations(catalog)
        self._pid = os.getpid()
        # _lock guards the open index, _drain_lock makes drains take turns, _start_lock starts one thread at a time.
        # Whoever needs several takes _drain_lock first. Only _start_lock is never held for long.
        self._lock, self._drain_lock, self._start_lock = threading.RLock(), threading.RLock(), threading.Lock()
        self._index_lock = IndexLock(path / "index.lock")
        self._index: ChromaIndex | None = None
        self._generation = 0
        self._drainer: Drainer | None = None
        self._opening: threading.Thread | None = None
        self._keeper: threading.Thread | None = None
        self._closing = threading.Event()
        self._large_searches = 0
        self._asked: NDArray[np.float32] | None = None
        self._failure, self._retry_at = "", 0.0
        self._last_use = self._last_commit = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether this process has the index open."""
        return self._index is not None

    def holder(self) -> int | None:
        """Return the process that holds the index, ``None`` if nobody does."""
        return self._index_lock.holder()

    # -- reading

    def query(self, table: ItemTable, vector: NDArray[np.float32], k: int) -> Found | str:
        """Return the k nearest items, or why the index cannot be asked now. Raises :class:`IndexDamagedError`."""
        if not self._lock.acquire(timeout=_QUERY_WAIT):
            return "the index is being written"
        try:
            if self._index is None:
                return "the index was closed meanwhile"
            self._last_use = time.monotonic()
            drained = self._generations.drained(self._generation, table.collection)
            ids, claims = self._index.query(table.collection, vector, k)
            return Found(ids, claims, self._generation, drained)
        finally:
            self._lock.release()

    def why_closed(self, vector: NDArray[np.float32]) -> str | None:
        """Return why a large search for ``vector`` cannot use the index, or ``None`` if it can.

        Opening costs seconds, so no search waits for it, and a process that searches once never pays it: the
        second large search starts to open it. Asking both kinds for one vector is one search.
        """
        if self._index is not None:
            return None
        if not self._options.index:
            return _OFF
        with self._start_lock:
            if self._drainer is not None and time.monotonic() - self._last_commit < _BUSY_INGEST_SECONDS:
                return "the index is being written"
            self._large_searches += vector is not self._asked
            self._asked = vector
            if self._large_searches < 2:
                return "the index is not open; the first search does not wait for it"
            if self._opening is None or not self._opening.is_alive():
                if time.monotonic() < self._retry_at:
                    return self._failure
                self._opening = threading.Thread(target=self._open_beside, name="omnimemory-warm", daemon=True)
                self._opening.start()
        return "the index is being opened"

    def _open_beside(self) -> None:
        try:
            failure = self.warm()
        except (StoreError, OSError) as error:
            failure = str(error)
        if failure:
            self._failure, self._retry_at = failure, time.monotonic() + _RETRY_SECONDS

    def warm(self) -> str | None:
        """Open the index now and drain what is pending; return why it is not open, or ``None``."""
        self._check_process()
        if not self._options.index:
            return _OFF
        if self._index is None and (self._drainer is not None or self._generations.waiting() >= _CHILD_ROWS):
            self.drain()
        with self._lock:
            if self._index is not None:
                return None
            if self._closing.is_set():
                return "the store is being closed"
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
        drain(self._catalog, self._index, self._generation, self._options.drain.batch_size)
        for collection in self._catalog.collections():
            if collection.name not in STEP_KINDS:
                self._index.count(collection)  # loads what the first query would wait for
        self._last_use = time.monotonic()
        if self._keeper is None or not self._keeper.is_alive():
            self._keeper = threading.Thread(target=self._keep, name="omnimemory-index", daemon=True)
            self._keeper.start()

    def _keep(self) -> None:
        """While the index is open: drain what other processes committed, and close it when idle."""
        while not self._closing.wait(_KEEP_SECONDS):
            with self._lock:
                if self._index is None:
                    return
                try:
                    if self._generations.waiting():
                        drain(self._catalog, self._index, self._generation, self._options.drain.batch_size)
                    if time.monotonic() - self._last_use >= self._options.idle_seconds:
                        self._close_index()
                        return
                except (StoreError, OSError):
                    self.drop()
                    return

    # -- writing

    def committed(self, *, last: bool = False) -> None:
        """Say that a batch was committed: once enough is pending, a child process starts to drain it.

        With ``last`` it need not wait for more. Never waits itself: while the index is opened or drained by another
        thread, that or the next call does it.
        """
        self._check_process()
        self._last_commit = time.monotonic()
        with self._writing_now() as free:
            if free and self._drainer is None and self._generations.waiting() >= self._many:
                self._start_drainer()
            if free and self._drainer is not None:
                self._drainer.nudge(last=last)

    @property
    def _many(self) -> int:
        """How many rows are pending when a child starts beside an ingest.

        Where the index is not waited for, the machine is the model's as long as searches compare all rows anyway.
        """
        return _CHILD_ROWS if self._options.wait else max(_CHILD_ROWS, self._options.exact_rows)

    def expect(self) -> None:
        """Say that many rows are about to be committed: the child process that will drain them starts to import.

        An index that is open here stays so, for searches, until so much is pending that the child has to take it over.
        """
        self._check_process()
        with self._writing_now() as free:
            if free and self._drainer is None and self._index is None and self._options.wait:
                self._start_drainer()

    def drain_beside(self) -> None:
        """Have a child process bring everything pending into the index and end, and wait for nothing.

        A few rows are left to the next larger batch or ingest.
        """
        self._check_process()
        with self._writing_now() as free:
            if free and self._drainer is None and self._generations.waiting() >= _CHILD_ROWS:
                self._start_drainer()
            if free and self._drainer is not None:
                self._drainer.leave()
                self._drainer = None

    @contextlib.contextmanager
    def _writing_now(self) -> Iterator[bool]:
        """Tell whether this thread may write the index at this very moment, and keep others from it meanwhile."""
        if not self._options.index or not self._drain_lock.acquire(blocking=False):
            yield False
            return
        try:
            free = self._lock.acquire(blocking=False)
            try:
                yield free
            finally:
                if free:
                    self._lock.release()
        finally:
            self._drain_lock.release()

    def _start_drainer(self) -> None:
        self._close_index()
        with contextlib.suppress(StoreError):  # the drain at the end tries again, and says why not
            self._drainer = self._new_drainer()

    def drain(self, tick: Callable[[], None] | None = None) -> str | None:
        """Bring everything pending into the index; return why that was not possible, or ``None``.

        When another process holds the index, its holder drains what is pending; that is no failure. ``tick`` is
        called a few times a second while a child process does it.
        """
        self._check_process()
        if not self._options.index:
            return None
        with self._drain_lock:
            try:
                if self._drained_here():
                    return None
                drainer, self._drainer = self._drainer or self._new_drainer(), None
                reason = drainer.finish(tick)
                if reason is None and self._generations.waiting() and self._index_lock.holder() is None:
                    # Whoever held it, such as a child that another command left behind, is done.
                    reason = self._new_drainer().finish(tick)
            except StoreError as error:
                self.drop()
                return str(error)
            return reason

    def _drained_here(self) -> bool:
        """Drain into the index this process has open; return whether there is nothing to do for a child."""
        with self._lock:
            if self._drainer is not None or self._index is None:
                return self._drainer is None and not self._generations.waiting()
            try:
                drain(self._catalog, self._index, self._generation, self._options.drain.batch_size)
            except IndexDamagedError:
                self.drop()  # the child will question it, and make it anew if it must
                return False
        return True

    def _new_drainer(self) -> Drainer:
        from omnimemory.storage.drainer import Drainer  # noqa: PLC0415 - a search needs none

        return Drainer(self._path, self._options.drain)

    def rebuild(self) -> int:
        """Make the index anew from the catalog, without embedding anything; return its generation.

        Raises :class:`StoreBusyError` while another process has the index open.
        """
        self._check_process()
        if not self._options.index:
            raise ConfigError("The index is switched off (index.enabled): there is nothing to rebuild.")
        with self._drain_lock:
            if self._drainer is not None:
                self.drain()  # whatever it says: what it left undone is done below
            with self._lock:
                self._close_index()
                if not self._index_lock.acquire(timeout=5.0):
                    raise StoreBusyError(f"{self._in_use()}; close that one and try again.")
                try:
                    from omnimemory.storage.rebuild import rebuild  # noqa: PLC0415 - as above

                    return rebuild(self._path, self._catalog, self._options.drain)
                finally:
                    self._index_lock.release()

    # -- the end

    def drop(self) -> None:
        """Let go of an index that failed, without the manifest that would call it sound."""
        with self._lock:
            index, self._index = self._index, None
            if index is not None:
                index.abandon()
            self._index_lock.release()

    def _close_index(self) -> None:
        with self._lock:
            index, self._index = self._index, None
            try:
                if index is not None:
                    index.close()
            except (StoreError, OSError):
                if index is not None:
                    index.abandon()  # its folder is questioned at the next use
            finally:
                self._index_lock.release()

    def close(self, *, wait: bool = True) -> None:
        """Finish draining (without ``wait``: leave it to a child process, or to the next run) and close the index."""
        if os.getpid() != self._pid:  # a forked child: all of it is the parent's
            return
        self._closing.set()
        busy = [t for t in (self._opening, self._keeper) if t is not None and t is not threading.current_thread()]
        for thread in busy:
            thread.join(None if wait else _LEAVE_SECONDS)
        try:
            if wait and self._options.wait and (self._drainer is not None or self._index is not None):
                self.drain()
            elif self._drainer is not None:
                self._drainer.leave()
        finally:
            self._drainer = None
            if not any(thread.is_alive() for thread in busy):  # such a one drops the index when the catalog closes
                self._close_index()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise StoreError("A store cannot be used after fork: open it in the child process instead.")

    def _in_use(self) -> str:
        holder = self._index_lock.holder()
        return f"the index is in use by process {holder}" if holder else "the index is in use by another process"
