"""Locks that a fork cannot leave locked for ever.

A forked child has one thread, the one that forked. A lock that another thread of its parent held at that moment
stays locked in the child, and who waits for it there waits for ever.
"""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType

__all__ = ["ForkLock"]


class ForkLock:
    """A lock for ``with`` that is free in a forked child. What it guards must make sense at any moment."""

    def __init__(self) -> None:
        self.begin_again()
        _LIVE.add(self)

    def begin_again(self) -> None:
        """Be free, whoever held it."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


# A fork happens to the process, not to an object.
_LIVE: weakref.WeakSet[ForkLock] = weakref.WeakSet()


def _after_fork() -> None:
    for lock in list(_LIVE):
        lock.begin_again()


os.register_at_fork(after_in_child=_after_fork)
