"""SQLite connections: one for each thread, given back when threads end, never carried across a fork.

What a fork means for them is told in ``forked_sqlite.py``.

Reading goes on where SQLite cannot make its files beside a catalog in WAL mode. On a full disk the file is
locked for each single use and its shared memory is kept on the heap (the VFS "unix-excl", sqlite.org/vfs.html);
in a folder that may not be written the catalog is opened as immutable (sqlite.org/wal.html, "Read-only
databases"), as long as no commit waits in its log.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from omnimemory.errors import StoreError
from omnimemory.forks import inside_sqlite
from omnimemory.storage.forked_sqlite import keep_for_ever, refuse_after_busy_fork, watch_forks

__all__ = ["Connections", "waiting"]

BUSY_SECONDS = 30.0

_NO_SHARED_MEMORY = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_SHMOPEN,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_SHMMAP,
    sqlite3.SQLITE_IOERR_WRITE,
)

_SHARED_MEMORY_BYTES = 32_768  # the least that SQLite makes (sqlite.org/walformat.html, "The WAL-Index File Format")

_CLOSED = "The store was closed: open it again to use it."
_FORKED = "A store cannot be used after fork: open it in the child process instead."


@dataclass(slots=True)
class _Held:
    """A thread's connection; ``users`` counts how often the thread is using it at this moment, under the lock.

    ``once``: it keeps others out, or would not see what they commit, so it is closed when it is not being used.
    """

    connection: sqlite3.Connection
    thread: threading.Thread
    once: bool = False
    users: int = 0


class Connections:
    """The connections of one process to one SQLite file (autocommit; rows are tuples)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._held: list[_Held] = []
        self._lock = threading.RLock()
        self._opening = threading.Lock()
        self._refusal = ""
        refuse_after_busy_fork()
        watch_forks(self)

    @contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """Give this thread's connection. Raises :class:`StoreError` after ``close`` and in a forked child."""
        if self._refusal:
            raise StoreError(self._refusal)
        with inside_sqlite():
            held: _Held | None = getattr(self._local, "held", None)
            if held is None:
                held = self._local.held = self._connect()
            with self._lock:
                if self._refusal:
                    raise StoreError(self._refusal)
                held.users += 1
            try:
                yield held.connection
            finally:
                self._give_back(held)

    def _give_back(self, held: _Held) -> None:
        with self._lock:
            held.users -= 1
            last = not held.users and (held.once or self._refusal == _CLOSED)
            if last and held in self._held:
                self._held.remove(held)
                self._local.held = None
        if last:
            held.connection.close()

    def close(self) -> None:
        """Close every connection; one that another thread is using is closed by that thread, when it is done.

        What such a thread is waiting for is interrupted. The file can then be moved or deleted.
        """
        with self._lock:
            self._refusal = self._refusal or _CLOSED
            held, self._held = self._held, []
            self._local = threading.local()
            for one in held:
                if one.users:  # closing it under the feet of its thread would crash the process
                    one.connection.interrupt()
            idle = [one for one in held if not one.users]
        with inside_sqlite():
            for one in idle:
                one.connection.close()

    def _connect(self) -> _Held:
        self._close_ended()
        with self._opening:  # on a full disk an attempt that is failing would take another thread's along with it
            held = self._open()
        with self._lock:
            if not self._refusal:
                self._held.append(held)
                return held
        held.connection.close()
        raise StoreError(self._refusal)

    def _open(self) -> _Held:
        try:
            connection = _opened(self._path)
            return _Held(connection, threading.current_thread(), once=_shares_heap(self._path))
        except sqlite3.OperationalError as error:
            how = _way_to_read(self._path, error)
            if how is None:
                raise
            return _Held(_opened(self._path, how), threading.current_thread(), once=True)

    def _close_ended(self) -> None:
        # A server may start a thread for each request: what they leave behind must not pile up.
        with self._lock:
            ended = [held for held in self._held if not held.thread.is_alive()]
            self._held = [held for held in self._held if held.thread.is_alive()]
        for held in ended:
            held.connection.close()

    def leave_to_parent(self, *, close: bool) -> None:
        """See :class:`~omnimemory.storage.forked_sqlite.Holder`."""
        self._lock = threading.RLock()  # a thread that does not exist here may have held the old one
        self._opening = threading.Lock()
        self._refusal = _FORKED
        held, self._held = self._held, []
        self._local = threading.local()
        for one in held:
            if close:
                one.connection.close()
            else:
                keep_for_ever(one.connection)


def _opened(path: Path, how: str = "") -> sqlite3.Connection:
    name = f"{path.absolute().as_uri()}?{how}" if how else path
    connection = sqlite3.connect(
        name, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=bool(how)
    )
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")  # what a file defines calls no functions with effects
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA synchronous = FULL")  # reads the file: what cannot be opened fails here
    except UnicodeDecodeError as error:  # SQLite quotes a name of a damaged schema, which is no text any more
        connection.close()
        raise sqlite3.DatabaseError(error.object.decode("utf-8", "replace")) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _shares_heap(path: Path) -> bool:
    """Return whether an open connection has its shared memory on the heap, with another one of this process.

    Then that one keeps others out of the file, and SQLite lets go of it only when the process has it open no more.
    What was tried on a full disk may have left the beginning of a file behind.
    """
    try:
        return path.with_name(f"{path.name}-shm").stat().st_size < _SHARED_MEMORY_BYTES
    except OSError:
        return True


@contextmanager
def waiting(connection: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Let a connection wait only so long for others, for a while."""
    connection.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {round(BUSY_SECONDS * 1000)}")


def _way_to_read(path: Path, error: sqlite3.OperationalError) -> str | None:
    """Return how a catalog can be opened all the same whose log and shared memory cannot be made."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code in _NO_SHARED_MEMORY:
        return "vfs=unix-excl"
    log = path.with_name(f"{path.name}-wal")
    unwritable = code & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
    if unwritable and os.access(path, os.R_OK) and not (log.exists() and log.stat().st_size):
        return "mode=ro&immutable=1"
    return None
