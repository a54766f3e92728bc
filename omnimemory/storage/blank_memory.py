"""Memory that goes to disk without having been filled, blanked before it can.

chromadb 1.5.9 (hnswlib in it) allocates the buffer of a graph for 100 rows and more, fills as many as there are, and
writes all of it to ``data_level0.bin``: for the others whatever this process had there before, for example a text that
was forgotten, or a command as it was before its secrets were taken out. Measured: with blanked memory all the 116,400
bytes of a new graph were the blank. glibc blanks what it hands out when it is told to (``M_PERTURB``, mallopt(3)).
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from contextlib import suppress
from functools import cache

__all__ = ["BlankMemory"]

_M_PERTURB = -6
_BLANK = 0xFF  # what is handed out is filled with the complement: zeros


@cache
def _mallopt() -> ctypes._FuncPointer | None:
    with suppress(OSError, AttributeError):
        if sys.platform == "linux" and hasattr(os, "confstr") and "glibc" in (os.confstr("CS_GNU_LIBC_VERSION") or ""):
            return ctypes.CDLL(None).mallopt
    return None


class BlankMemory:
    """While any of these is entered, memory that this process allocates begins blank. Elsewhere than glibc: nothing."""

    _lock = threading.Lock()
    _users = 0

    def __enter__(self) -> None:
        self._use(1)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._use(-1)

    @classmethod
    def _use(cls, more: int) -> None:
        mallopt = _mallopt()
        if mallopt is None:
            return
        with cls._lock:
            before, cls._users = cls._users, cls._users + more
            if not before or not cls._users:
                mallopt(_M_PERTURB, _BLANK if cls._users else 0)


def _after_fork() -> None:
    BlankMemory._lock = threading.Lock()  # noqa: SLF001 - of this module; a thread that does not exist here may have held the old one


os.register_at_fork(after_in_child=_after_fork)
