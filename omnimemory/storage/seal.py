"""The seal of the catalog: what its file looked like when this package last wrote it.

SQLite cannot tell that a page was changed behind its back, and reading everything at each opening would cost more
than the search. So after each commit the size, the times and the inode of the file are written down beside it.
The next process that opens the catalog while nobody else has it open compares them: if they fit, nobody wrote to
the file and nothing is checked; if not, the content is checked once (``verification.py``). A seal that is gone or
broken costs such a check and nothing else, and a backup that was put back passes it.

The seal also holds how many transactions were acknowledged. Of a catalog that has fewer, the write-ahead log was
lost. And it holds a checksum of the keyword index, which has none of its own.

Everybody who has the catalog open holds a shared ``flock`` on the seal. Who gets an exclusive one is alone.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import time
import weakref
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from omnimemory.errors import StoreBusyError
from omnimemory.storage.lock import flock_within

__all__ = ["SEALED", "SUSPECT", "WRITING", "Look", "Record", "Seal", "look_at", "read_seal", "seal_file"]

SEALED, WRITING, SUSPECT = 0, 1, 2
"""Nothing is going on; a transaction is being committed, which may write to the file; a check found damage."""

_FORM = struct.Struct("<4sIqqqqqqI4x")
_MAGIC = b"OMS1"
_CHECK_SECONDS = 60.0
_TICK_NS = 10_000_000  # the coarsest clock that file systems stamp with: 100 times a second


@dataclass(frozen=True, slots=True)
class Look:
    """What the file system says of a file; any write changes it."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Record:
    """What the seal says. ``keywords`` is the checksum of the keyword index after ``keywords_at`` commits, -1: none."""

    state: int
    commits: int
    look: Look
    keywords: int = 0
    keywords_at: int = -1

    def packed(self) -> bytes:
        """Return the bytes of the record, the last of which are their checksum."""
        look = self.look
        body = _FORM.pack(
            _MAGIC,
            self.state,
            self.commits,
            look.size,
            look.mtime_ns,
            look.ctime_ns,
            look.inode,
            self.keywords_at,
            self.keywords,
        )
        return body + struct.pack("<I", zlib.crc32(body))


def _unpacked(data: bytes) -> Record | None:
    body, check = data[: _FORM.size], data[_FORM.size :]
    if len(body) < _FORM.size or check != struct.pack("<I", zlib.crc32(body)):
        return None
    magic, state, commits, size, mtime_ns, ctime_ns, inode, keywords_at, keywords = _FORM.unpack(body)
    if magic != _MAGIC:
        return None
    return Record(state, commits, Look(size, mtime_ns, ctime_ns, inode), keywords, keywords_at)


def read_seal(catalog: Path) -> Record | None:
    """Return what the seal of a catalog says, without becoming one of its users."""
    try:
        with seal_file(catalog).open("rb") as file:
            return _unpacked(file.read(_FORM.size + 5))
    except OSError:
        return None


def seal_file(catalog: Path) -> Path:
    """Return where the seal of a catalog is."""
    return catalog.with_name(f"{catalog.name}.seal")


def look_at(path: Path) -> Look | None:
    """Return what the file system says of a file now; ``None`` if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return Look(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class Seal:
    """The seal of one catalog, held open and locked by one of its users.

    Nothing that happens to it stops anybody: what cannot be read counts as "no seal", what cannot be written is
    left, and both only cost a check.
    """

    def __init__(self, catalog: Path) -> None:
        self._catalog = catalog
        self._descriptor: int | None = None
        self._close: Callable[[], object] = int
        self._writable = False

    def join(self) -> bool:
        """Become one of the users; return whether nobody else is one, who would have checked the content.

        Whoever is alone keeps others waiting until :meth:`share`. Raises :class:`StoreBusyError` when another
        process checks the content for too long.
        """
        self._open()
        if self._descriptor is None or _locked(self._descriptor, fcntl.LOCK_EX, 0.0):
            return True
        if not _locked(self._descriptor, fcntl.LOCK_SH, _CHECK_SECONDS):
            self.leave()
            raise StoreBusyError(f"Another process is checking {self._catalog}. Try again when it is done.")
        return False

    def share(self) -> None:
        """Let others in."""
        if self._descriptor is not None:
            _locked(self._descriptor, fcntl.LOCK_SH, _CHECK_SECONDS)

    def is_last(self) -> bool:
        """Return whether nobody else is a user; others wait from now on, until :meth:`leave`."""
        return self._descriptor is not None and _locked(self._descriptor, fcntl.LOCK_EX, 0.0)

    def leave(self) -> None:
        """Be no user any more."""
        self._descriptor = None
        _JOINED.discard(self)
        self._close()

    def read(self) -> Record | None:
        """Return what the seal says; ``None`` if it says nothing that could be believed."""
        if self._descriptor is None:
            return None
        try:
            return _unpacked(os.pread(self._descriptor, _FORM.size + 5, 0))
        except OSError:
            return None

    def write(self, record: Record) -> None:
        """Let the seal say this."""
        if self._descriptor is not None and self._writable:
            with suppress(OSError):
                os.pwrite(self._descriptor, record.packed(), 0)
                os.ftruncate(self._descriptor, _FORM.size + 4)

    def begin(self) -> None:
        """Say that the file may be written from now on."""
        record = self.read()
        if record is not None and record.state == SEALED:
            self.write(replace(record, state=WRITING))

    def end(self, commits: int) -> None:
        """Say that this many transactions are acknowledged, and that the file looks as it does now."""
        record, look = self.read(), look_at(self._catalog)
        if look is not None:
            known = {} if record is None else {"keywords": record.keywords, "keywords_at": record.keywords_at}
            self.write(Record(SEALED, commits, look, **known))

    def settle(self, record: Record) -> None:
        """Write the last word of the last user: ``record`` with what the file looks like now, if that is new."""
        look = look_at(self._catalog)
        if look is None:
            return
        if look != record.look:
            # Two writes within one tick of the file system's clock look alike: let it tick first.
            time.sleep(max(0, min(_TICK_NS, look.mtime_ns + _TICK_NS - time.time_ns())) / 1e9)
        final = replace(record, state=SEALED, look=look)
        if final != self.read():
            self.write(final)

    def _open(self) -> None:
        flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        for way in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
            with suppress(OSError):
                descriptor = os.open(seal_file(self._catalog), way | flags, 0o600)
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    os.close(descriptor)
                    return
                self._descriptor, self._writable = descriptor, way != os.O_RDONLY
                self._close = weakref.finalize(self, os.close, descriptor)  # also of a catalog that nobody closed
                _JOINED.add(self)
                return


def _locked(descriptor: int, kind: int, timeout: float) -> bool:
    try:
        return flock_within(descriptor, kind, timeout)
    except OSError:  # a file system without locks: everybody is alone there, and checks
        return True


_JOINED: weakref.WeakSet[Seal] = weakref.WeakSet()


def _after_fork() -> None:
    for seal in list(_JOINED):
        seal.leave()  # closes the child's copy; the parent goes on holding its lock


os.register_at_fork(after_in_child=_after_fork)
