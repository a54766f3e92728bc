"""The index's life in one process: opened when it pays, kept while it is used, closed when it idles.

Only the holder of the index lock has it open (``held_index.py``). Everybody else answers exactly and commits to the
catalog; the holder drains what they commit. Large drains are done by a child process (``index_writer.py``), so a search
never waits for one, and no search waits for the index to be opened.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omnimemory.errors import StoreError
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.drain import StoreOptions
from omnimemory.storage.generations import Generations
from omnimemory.storage.held_index import HeldIndex
from omnimemory.storage.index_writer import IndexWriter
from omnimemory.storage.items import Found, ItemTable

__all__ = ["IndexSession"]

_RETRY_SECONDS = 5.0
_KEEP_SECONDS = 1.0
_LEAVE_SECONDS = 1.0
_OFF = "the index is switched off (index.enabled)"


class IndexSession:
    """The index of one store in one process; safe for several threads, refused in a forked child."""

    def __init__(self, path: Path, catalog: Catalog, options: StoreOptions) -> None:
        self._options = options
        self._generations = Generations(catalog)
        self._held = HeldIndex(path, catalog, options)
        self._writer = IndexWriter(path, catalog, options, self._held)
        self._pid = os.getpid()
        # Starts one thread at a time, and is never held for long.
        self._start_lock = threading.Lock()
        self._opening: threading.Thread | None = None
        self._keeper: threading.Thread | None = None
        self._closing = threading.Event()
        self._large_searches = 0
        self._asked: NDArray[np.float32] | None = None
        self._failure, self._retry_at = "", 0.0

    @property
    def is_open(self) -> bool:
        """Whether this process has the index open."""
        return self._held.is_open

    def holder(self) -> int | None:
        """Return the process that holds the index, ``None`` if nobody does."""
        return self._held.holder()

    # -- reading

    def query(self, table: ItemTable, vector: NDArray[np.float32], k: int) -> Found | str:
        """Return the k nearest items, or why the index cannot be asked now. Raises :class:`IndexDamagedError`."""
        return self._held.query(table, vector, k)

    def why_closed(self, vector: NDArray[np.float32]) -> str | None:
        """Return why a large search for ``vector`` cannot use the index, or ``None`` if it can.

        Opening costs seconds, so no search waits for it, and a process that searches once never pays it: the
        second large search starts to open it. Asking both kinds for one vector is one search.
        """
        if self._held.is_open:
            return None
        if not self._options.index:
            return _OFF
        with self._start_lock:
            if self._writer.is_busy:
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
        if not self._held.is_open and self._writer.needs_child:
            self._writer.drain()
        with self._held.lock:
            if self._held.is_open:
                return None
            if self._closing.is_set():
                return "the store is being closed"
            why_not = self._held.open()
            if why_not is None:
                self._start_keeper()
            return why_not

    def _start_keeper(self) -> None:
        if self._keeper is not None and self._keeper.is_alive():
            return
        self._keeper = threading.Thread(target=self._keep, name="omnimemory-index", daemon=True)
        try:
            self._keeper.start()
        except BaseException:
            self._held.drop()  # nobody would close it
            raise

    def _keep(self) -> None:
        """While the index is open: drain what other processes committed, and close it when idle."""
        while not self._closing.wait(_KEEP_SECONDS):
            with self._held.lock:
                if not self._held.is_open:
                    return
                try:
                    if self._generations.waiting():
                        self._held.drain()
                    if self._held.is_idle():
                        self._held.close()
                        return
                except (StoreError, OSError):
                    self._held.drop()
                    return

    # -- writing

    def committed(self, *, last: bool = False) -> None:
        """See :meth:`IndexWriter.committed`."""
        self._check_process()
        self._writer.committed(last=last)

    def expect(self) -> None:
        """See :meth:`IndexWriter.expect`."""
        self._check_process()
        self._writer.expect()

    def drain_beside(self) -> None:
        """See :meth:`IndexWriter.drain_beside`."""
        self._check_process()
        self._writer.drain_beside()

    def drain(self, tick: Callable[[], None] | None = None) -> str | None:
        """See :meth:`IndexWriter.drain`."""
        self._check_process()
        return self._writer.drain(tick)

    def rebuild(self) -> int:
        """See :meth:`IndexWriter.rebuild`."""
        self._check_process()
        return self._writer.rebuild()

    # -- the end

    def drop(self) -> None:
        """See :meth:`HeldIndex.drop`."""
        self._held.drop()

    def close(self, *, wait: bool = True) -> None:
        """Finish draining (without ``wait``: leave it to a child process, or to the next run) and close the index."""
        if os.getpid() != self._pid:  # a forked child: all of it is the parent's
            return
        self._closing.set()
        busy = [t for t in (self._opening, self._keeper) if t is not None and t is not threading.current_thread()]
        for thread in busy:
            thread.join(None if wait else _LEAVE_SECONDS)
        try:
            if wait and self._options.wait and (self._writer.has_child or self._held.is_open):
                self._writer.drain()
        finally:
            self._writer.leave()
            if not any(thread.is_alive() for thread in busy):  # such a one drops the index when the catalog closes
                self._held.close()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise StoreError("A store cannot be used after fork: open it in the child process instead.")
