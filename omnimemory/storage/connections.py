"""SQLite connections: one for each thread, given back when threads end, never carried across a fork.

SQLite forbids two things that are easy to do by accident. A connection must not be used by a forked child
(sqlite.org/howtocorrupt.html, 2.6). And as long as the inherited one is there, a connection that the child
opens anew to the same file believes in locks that only the parent holds: what the child then writes can
vanish without an error when the parent closes. So a fork closes the child's inherited connections at once,
while the parent still holds its locks, which keeps that from touching the file.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from omnimemory.errors import StoreError

__all__ = ["Connections"]

BUSY_SECONDS = 30.0

_CLOSED = "The store was closed: open it again to use it."
_FORKED = "A store cannot be used after fork: open it in the child process instead."


@dataclass(slots=True)
class _Held:
    """A thread's connection; ``users`` counts how often the thread is using it at this moment, under the lock."""

    connection: sqlite3.Connection
    thread: threading.Thread
    users: int = 0


class Connections:
    """The connections of one process to one SQLite file (autocommit; rows are tuples)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._held: list[_Held] = []
        self._lock = threading.RLock()
        self._refusal = ""
        if path.resolve() in _UNSAFE:
            raise StoreError(
                f"This process was forked while {path} was being read or written, so SQLite cannot be used safely "
                "here. Start processes with the 'spawn' method, or fork before the store is used."
            )
        _LIVE.add(self)

    @contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """Give this thread's connection. Raises :class:`StoreError` after ``close`` and in a forked child."""
        if self._refusal:
            raise StoreError(self._refusal)
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
            with self._lock:
                held.users -= 1
                last = self._refusal == _CLOSED and not held.users
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
        for one in idle:
            one.connection.close()

    def _connect(self) -> _Held:
        self._close_ended()
        connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        held = _Held(connection, threading.current_thread())
        with self._lock:
            if not self._refusal:
                self._held.append(held)
                return held
        connection.close()
        raise StoreError(self._refusal)

    def _close_ended(self) -> None:
        # A server may start a thread for each request: what they leave behind must not pile up.
        with self._lock:
            ended = [held for held in self._held if not held.thread.is_alive()]
            self._held = [held for held in self._held if held.thread.is_alive()]
        for held in ended:
            held.connection.close()

    def leave_to_parent(self) -> None:
        """Let go of everything in a forked child: close what was idle, keep the rest for ever untouched."""
        self._lock = threading.RLock()  # a thread that does not exist here may have held the old one
        self._refusal = _FORKED
        held, self._held = self._held, []
        self._local = threading.local()
        for one in held:
            if one.users:
                _UNSAFE.setdefault(self._path.resolve(), []).append(one.connection)
            else:
                one.connection.close()


# A fork happens to the process, not to an object: these two belong to the process.
_LIVE: weakref.WeakSet[Connections] = weakref.WeakSet()
_UNSAFE: dict[Path, list[sqlite3.Connection]] = {}


def _after_fork() -> None:
    for connections in list(_LIVE):
        connections.leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)
