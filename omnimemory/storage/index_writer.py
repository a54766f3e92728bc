"""Who brings what is committed into the index: a child process for much of it, the holder itself for a little."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from omnimemory.errors import ConfigError, IndexDamagedError, StoreError
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.drain import StoreOptions
from omnimemory.storage.generations import Generations
from omnimemory.storage.held_index import HeldIndex

if TYPE_CHECKING:
    from omnimemory.storage.drainer import Drainer

__all__ = ["IndexWriter"]

_CHILD_ROWS = 512
_BUSY_INGEST_SECONDS = 5.0


class IndexWriter:
    """Brings the pending rows of one store into its index, one drain at a time; ``held`` is that index here."""

    def __init__(self, path: Path, catalog: Catalog, options: StoreOptions, held: HeldIndex) -> None:
        self._path = path
        self._options = options
        self._held = held
        self._generations = Generations(catalog)
        # Whoever needs the lock of ``held`` as well takes this one first.
        self._lock = threading.RLock()
        self._drainer: Drainer | None = None
        self._last_commit = float("-inf")

    @property
    def has_child(self) -> bool:
        """Whether a child process of this one is writing the index, or about to."""
        return self._drainer is not None

    @property
    def needs_child(self) -> bool:
        """Whether a child process writes the index, or is to: a little is written by the holder itself."""
        return self.has_child or self._generations.waiting() >= _CHILD_ROWS

    @property
    def is_busy(self) -> bool:
        """Whether a child process follows an ingest that goes on."""
        return self.has_child and time.monotonic() - self._last_commit < _BUSY_INGEST_SECONDS

    def committed(self, *, last: bool = False) -> None:
        """Say that a batch was committed: once enough is pending, a child process starts to drain it.

        With ``last`` it need not wait for more. Never waits itself: while the index is opened or drained by another
        thread, that or the next call does it.
        """
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
        with self._writing_now() as free:
            if free and self._drainer is None and not self._held.is_open and self._options.wait:
                self._start_drainer()

    def drain_beside(self) -> None:
        """Have a child process bring everything pending into the index and end, and wait for nothing.

        A few rows are left to the next larger batch or ingest.
        """
        with self._writing_now() as free:
            if free and self._drainer is None and self._generations.waiting() >= _CHILD_ROWS:
                self._start_drainer()
            if free:
                self.leave()

    @contextlib.contextmanager
    def _writing_now(self) -> Iterator[bool]:
        """Tell whether this thread may write the index at this very moment, and keep others from it meanwhile."""
        if not self._options.index or not self._lock.acquire(blocking=False):
            yield False
            return
        try:
            free = self._held.lock.acquire(blocking=False)
            try:
                yield free
            finally:
                if free:
                    self._held.lock.release()
        finally:
            self._lock.release()

    def _start_drainer(self) -> None:
        self._held.close()
        with contextlib.suppress(StoreError):  # the drain at the end tries again, and says why not
            self._drainer = self._new_drainer()

    def drain(self, tick: Callable[[], None] | None = None) -> str | None:
        """Bring everything pending into the index; return why that was not possible, or ``None``.

        When another process holds the index, its holder drains what is pending; that is no failure. ``tick`` is
        called a few times a second while a child process does it.
        """
        if not self._options.index:
            return None
        with self._lock:
            try:
                if self._drained_here():
                    return None
                drainer, self._drainer = self._drainer or self._new_drainer(), None
                reason = drainer.finish(tick)
                if reason is None and self._generations.waiting() and self._held.holder() is None:
                    # Whoever held it, such as a child that another command left behind, is done.
                    reason = self._new_drainer().finish(tick)
            except StoreError as error:
                self._held.drop()
                return str(error)
            return reason

    def _drained_here(self) -> bool:
        """Drain into the index this process has open; return whether there is nothing to do for a child."""
        with self._held.lock:
            if self._drainer is not None:
                return False
            try:
                return self._held.drain() or not self._generations.waiting()
            except IndexDamagedError:
                self._held.drop()  # the child will question it, and make it anew if it must
                return False

    def _new_drainer(self) -> Drainer:
        from omnimemory.storage.drainer import Drainer  # noqa: PLC0415 - a search needs none

        return Drainer(self._path, self._options.drain)

    def rebuild(self) -> int:
        """Make the index anew from the catalog, without embedding anything; return its generation.

        Raises :class:`StoreBusyError` while another process has the index open.
        """
        if not self._options.index:
            raise ConfigError("The index is switched off (index.enabled): there is nothing to rebuild.")
        with self._lock:
            if self._drainer is not None:
                self.drain()  # whatever it says: what it left undone is done below
            return self._held.rebuild()

    def leave(self) -> None:
        """Let the child process, if there is one, finish alone."""
        drainer, self._drainer = self._drainer, None
        if drainer is not None:
            drainer.leave()
