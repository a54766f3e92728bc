"""The cache's file when all goes wrong: opened late, repaired once, given up for a while, never fatal.

A broken or foreign file is moved aside and a new one begun; a file that was deleted or replaced is opened
again; one that cannot be had (locked, read-only, no permission, full disk) is left alone for some
seconds. Each kind of trouble is said once in the log ``omnimemory``.

A forked child opens the file anew, or cannot use it at all: see ``forked_sqlite.py``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from omnimemory.errors import StoreError
from omnimemory.forks import inside_sqlite
from omnimemory.storage.bytes_disk import BytesCache
from omnimemory.storage.cache_folder import FILE_ERRORS, Damage, cache_file, is_damage, open_cache, set_aside
from omnimemory.storage.forked_sqlite import keep_for_ever, refuse_after_busy_fork, watch_forks

__all__ = ["CacheConnection"]

_T = TypeVar("_T")
_LOG = logging.getLogger("omnimemory")


class CacheConnection:
    """One connection to the cache file for all threads, opened on first use, a new one after a fork."""

    def __init__(self, directory: Path, *, retry_seconds: float) -> None:
        self.directory = directory
        self._retry_seconds = retry_seconds
        self._read_after = self._write_after = 0.0
        self._said: set[str] = set()
        self._file: BytesCache | None = None
        self._lock = threading.Lock()
        watch_forks(self)

    def exists(self) -> bool:
        """Whether there is a file; nothing is made or opened."""
        return cache_file(self.directory).exists()

    def is_open(self) -> bool:
        """Whether the file is open."""
        return self._file is not None

    def attempt(self, operation: Callable[[BytesCache], _T], otherwise: _T, *, writes: bool = False) -> _T:
        """Do something with the file; answer ``otherwise`` when it cannot be used.

        A file that can be read but not written (locked, full) goes on answering.
        """
        with self._lock:
            if time.monotonic() < (self._write_after if writes else self._read_after):
                return otherwise
            try:
                return self._recovering(operation)
            except (*FILE_ERRORS, StoreError) as error:
                self._write_after = time.monotonic() + self._retry_seconds
                if not writes or self._file is None:
                    self._read_after = self._write_after
                    self._disconnect()
                self._say("unusable", f"The cache in {self.directory} is not used for now ({error}); work goes on.")
                return otherwise

    def insist(self, operation: Callable[[BytesCache], _T], verb: str) -> _T:
        """Do something with the file; raise StoreError when it cannot be done."""
        with self._lock:
            try:
                return self._recovering(operation)
            except FILE_ERRORS as error:
                raise StoreError(
                    f"Cannot {verb} the cache in {self.directory} ({error}). Close what uses it, or delete the folder."
                ) from error

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            self._disconnect()

    def leave_to_parent(self, *, close: bool) -> None:
        """See :class:`~omnimemory.storage.forked_sqlite.Holder`."""
        self._lock = threading.Lock()  # a thread that does not exist here may have held the old one
        if not close and self._file is not None:
            keep_for_ever(self._file.connection)
            self._file = None
        self._disconnect()

    def _recovering(self, operation: Callable[[BytesCache], _T]) -> _T:
        """Do it; when the file turns out to be broken or replaced, do it once more with a good one."""
        refuse_after_busy_fork()
        with inside_sqlite():
            file = self._connected()
            try:
                return operation(file)
            except FILE_ERRORS as error:
                gone, damaged = file.is_gone(), is_damage(error)
                if not gone and not damaged:
                    raise
                self._disconnect()
                if not gone:
                    self._say_damage(set_aside(self.directory, file.inode, error))
            return operation(self._connected())

    def _connected(self) -> BytesCache:
        if self._file is not None and self._file.is_gone():
            self._disconnect()
        if self._file is None:
            self._file, damage = open_cache(self.directory)
            self._say_damage(damage)
        return self._file

    def _disconnect(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with inside_sqlite():
                file.disconnect()

    def _say_damage(self, damage: Damage | None) -> None:
        if damage is not None:
            self._say(
                "damaged", f"The cache was damaged ({damage.reason}): a new one begins, the old is {damage.moved}."
            )

    def _say(self, kind: str, message: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            _LOG.warning(message)
