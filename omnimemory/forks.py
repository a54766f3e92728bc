"""Locks that a fork cannot leave locked for ever, and a watch over those of SQLite that it can.

A forked child has one thread, the one that forked. A lock that another thread of its parent held at that moment
stays locked in the child, and who waits for it there waits for ever. SQLite has locks of its own, some of them of the
whole library: a child whose parent was inside it at the fork must leave SQLite alone, whatever the file.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

__all__ = ["ForkLock", "begins_again", "inside_sqlite", "is_sqlite_stuck", "was_busy_at_fork"]


class _BeginsAgain(Protocol):
    def begin_again(self) -> None: ...


def begins_again(thing: _BeginsAgain) -> None:
    """Have ``begin_again`` called in every forked child, as long as somebody else keeps the thing alive."""
    _LIVE.add(thing)


class ForkLock:
    """A lock for ``with`` that is free in a forked child. What it guards must make sense at any moment."""

    def __init__(self) -> None:
        self.begin_again()
        begins_again(self)

    def begin_again(self) -> None:
        """Be free, whoever held it."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


@contextmanager
def inside_sqlite() -> Iterator[None]:
    """Say that this thread may be inside SQLite until the block ends."""
    _INSIDE.append(None)
    try:
        yield
    finally:
        if _INSIDE:  # empty in a child that was forked within the block
            _INSIDE.pop()


def is_sqlite_stuck() -> bool:
    """Return whether SQLite may wait for ever here, because this process or one above it was forked inside of it."""
    return bool(_BUSY_FORKS)


def was_busy_at_fork() -> bool:
    """Return whether this very process was forked while a thread of its parent was inside SQLite."""
    return os.getpid() in _BUSY_FORKS


# A fork happens to the process, not to an object: these belong to the process. Appending and popping are atomic.
_LIVE: weakref.WeakSet[_BeginsAgain] = weakref.WeakSet()
_INSIDE: list[None] = []
_BUSY_FORKS: list[int] = []


def _after_fork() -> None:
    if _INSIDE:
        _BUSY_FORKS.append(os.getpid())
    _INSIDE.clear()
    for thing in list(_LIVE):
        thing.begin_again()


os.register_at_fork(after_in_child=_after_fork)
