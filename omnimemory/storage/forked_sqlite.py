"""SQLite across a fork: what a child inherits is closed at once, or never touched again.

Two things are forbidden (sqlite.org/howtocorrupt.html, 2.6). A child must not use its parent's connections. And as
long as an inherited one is there, a connection that the child opens anew to the same file believes in locks that
only the parent holds: what the child then writes can vanish without an error when the parent closes. So a fork
closes the child's inherited connections, while the parent still holds its locks, which keeps that from touching
the file.

But closing waits for ever if another thread of the parent was inside SQLite at that moment: it held mutexes, some
of them of the whole library, that nobody frees in the child. Then the child leaves SQLite alone altogether.
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from typing import Protocol

from omnimemory.errors import StoreError
from omnimemory.forks import is_sqlite_stuck, was_busy_at_fork

__all__ = ["Holder", "keep_for_ever", "refuse_after_busy_fork", "watch_forks"]


class Holder(Protocol):
    """Whoever holds connections."""

    def leave_to_parent(self, *, close: bool) -> None:
        """Let go of the connections in a forked child: close them, or else never touch them again."""


def watch_forks(holder: Holder) -> None:
    """Tell a holder of connections when it finds itself in a forked child."""
    _HOLDERS.add(holder)


def refuse_after_busy_fork() -> None:
    """Raise :class:`StoreError` where SQLite may wait for ever, because the parent was inside it at the fork."""
    if is_sqlite_stuck():
        raise StoreError(
            "This process was forked while a store or a cache was being used, so SQLite cannot be used safely here. "
            "Start processes with the 'spawn' method, or fork before they are used."
        )


def keep_for_ever(connection: sqlite3.Connection) -> None:
    """Keep a connection from being closed, even when the interpreter ends."""
    import ctypes  # noqa: PLC0415 - hardly ever needed

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


# A fork happens to the process, not to an object.
_HOLDERS: weakref.WeakSet[Holder] = weakref.WeakSet()


def _after_fork() -> None:
    for holder in list(_HOLDERS):
        holder.leave_to_parent(close=not was_busy_at_fork())


os.register_at_fork(after_in_child=_after_fork)
