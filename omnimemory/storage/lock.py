"""One process at a time may have the Chroma index open: a file lock held as long as its client lives.

A lock for each write is not enough, a second client's view of the index is wrong for ever (measured with
chromadb 1.5.9). ``flock`` is released by the kernel when its holder dies, so there are no stale locks. It
belongs to the open file, which a forked child shares: the child closes its copy at once, otherwise the
lock would outlive the parent.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
import weakref
from pathlib import Path

from omnimemory.errors import StoreError
from omnimemory.faults import reach
from omnimemory.storage.room import disk_error, is_disk_error

__all__ = ["IndexLock", "flock_within", "holders_of"]

# Whoever asks who holds the lock takes a shared one for a moment; that must not make taking it fail.
_LEAST_WAIT = 0.1


class IndexLock:
    """An exclusive lock on a file; ``holder()`` tells whose it is. Raises :class:`StoreError` if it cannot be made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self, timeout: float = 0.0) -> bool:
        """Take the lock, waiting up to ``timeout`` seconds; return whether it is held now."""
        if self.held:
            return True
        descriptor = self._open(os.O_CREAT | os.O_RDWR)
        try:
            if not flock_within(descriptor, fcntl.LOCK_EX, max(timeout, _LEAST_WAIT)):
                os.close(descriptor)
                return False
            reach("lock.take")
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        except OSError as error:
            os.close(descriptor)
            if is_disk_error(error):
                raise disk_error(self._path, error) from error
            raise StoreError(f"{self._path} cannot be locked ({error.strerror}).") from error
        self._descriptor = descriptor
        _HELD.add(self)
        return True

    def release(self) -> None:
        """Give the lock back; nothing happens if it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            _HELD.discard(self)
            # Unlocking frees it for everybody; closing alone would not, if a process forked just now.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def leave_to_parent(self) -> None:
        """Close a forked child's copy; the parent's lock stays."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def holder(self) -> int | None:
        """Return the process id that holds the lock, ``None`` if nobody does, 0 if it cannot be told."""
        if self.held:
            return os.getpid()
        if not self._path.exists():
            return None
        descriptor = self._open(os.O_RDONLY)
        try:
            if flock_within(descriptor, fcntl.LOCK_SH, 0.0):
                return None
            return int(os.pread(descriptor, 20, 0))
        except ValueError:  # it took the lock this very moment
            return 0
        finally:
            os.close(descriptor)

    def _open(self, flags: int) -> int:
        try:
            # A link or a pipe in its place: it must not be written through, nor waited for.
            descriptor = os.open(self._path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        except OSError as error:
            if is_disk_error(error):
                raise disk_error(self._path, error) from error
            raise StoreError(
                f"{self._path} cannot be opened ({error.strerror}). Check the permissions of its folder."
            ) from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            os.close(descriptor)
            raise StoreError(f"{self._path} is a link or no file, so it is not written to. Delete it and try again.")
        return descriptor


def flock_within(descriptor: int, kind: int, timeout: float) -> bool:
    """Take a lock of this kind on an open file, waiting up to ``timeout`` seconds; return whether it was had."""
    start = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - start
            if waited >= timeout:
                return False
            # Often at first: those who ask for the holder again and again leave gaps of microseconds only.
            time.sleep(0.001 if waited < _LEAST_WAIT else 0.02)
        else:
            return True


def holders_of(*paths: Path, shared: bool = False) -> str:
    """Return "process 123" (or "another process") for who keeps others from one of these files, to be told to a user.

    With ``shared`` those count as well who only read.

    The kernel tells, where it is Linux. Opening the file to ask would free this process's own locks on it.
    """
    held, kinds = set(), ("READ", "WRITE") if shared else ("WRITE",)
    try:
        table = [line.split() for line in Path("/proc/locks").read_text("ascii").splitlines()]
        for path in paths:
            status = path.stat()
            place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
            held |= {int(line[4]) for line in table if line[3] in kinds and line[5] == place}
    except (OSError, ValueError, IndexError):
        pass
    found = sorted(held - {0, os.getpid()})
    return f"process {', '.join(map(str, found))}" if found else "another process"


_HELD: weakref.WeakSet[IndexLock] = weakref.WeakSet()


def _after_fork() -> None:
    for lock in list(_HELD):
        lock.leave_to_parent()
    _HELD.clear()


os.register_at_fork(after_in_child=_after_fork)
