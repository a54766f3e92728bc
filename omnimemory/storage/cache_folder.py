"""The cache's folder: private to the user, with one database in it and at most one damaged one beside it.

What lies there is not trusted to be what was put there. Links and foreign files are not opened, a
database that is broken is renamed, and all of this happens under a lock on the folder itself, so that
two processes that start together do not make, or move, the same file twice.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from diskcache.core import DBNAME

from omnimemory.errors import StoreBusyError, StoreError
from omnimemory.storage.bytes_disk import BUSY_SECONDS, BytesCache, DamagedFileError
from omnimemory.storage.foreign import database_files, why_foreign
from omnimemory.storage.lock import holders_of

__all__ = [
    "FILE_ERRORS",
    "Damage",
    "cache_file",
    "damaged_file",
    "is_damage",
    "open_cache",
    "set_aside",
]

_LOG = logging.getLogger("omnimemory")

FILE_ERRORS: Final = (sqlite3.Error, OSError, UnicodeDecodeError)
"""What using a file that may be broken can raise; the last when SQLite quotes its garbage in a message."""

_UNAVAILABLE: Final = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    }
)


class Damage(NamedTuple):
    """What was wrong with a database that had to be moved, and where it is now."""

    reason: str
    moved: Path


def cache_file(directory: Path) -> Path:
    """Return the path of the database in a cache directory."""
    return directory / str(DBNAME)


def damaged_file(directory: Path) -> Path:
    """Return where a damaged database is kept for whoever wants to look into it."""
    return directory / "cache.damaged"


def open_cache(directory: Path) -> tuple[BytesCache, Damage | None]:
    """Open the cache in this directory; makes both private (0700 and 0600) when they are new or open.

    A damaged file is moved aside and a new one begun. Raises StoreError when the directory belongs to
    somebody else, StoreBusyError when another process holds it for more than five seconds, FILE_ERRORS as
    they come.
    """
    with _private_directory(directory):
        try:
            return _opened(directory), None
        except FILE_ERRORS as error:
            if not is_damage(error):
                raise
            damage = Damage(str(error), _move(directory))
        return _opened(directory), damage


def set_aside(directory: Path, inode: int, error: BaseException) -> Damage | None:
    """Move a damaged database out of the way, unless another process did so already.

    ``inode`` is that of the file in which the damage was seen.
    """
    with _private_directory(directory), suppress(FileNotFoundError):
        if cache_file(directory).lstat().st_ino == inode:
            return Damage(str(error), _move(directory))
    return None


def is_damage(error: BaseException) -> bool:
    """Whether an error says that the file is broken, rather than that it cannot be had right now."""
    if isinstance(error, DamagedFileError | UnicodeDecodeError):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF not in _UNAVAILABLE


def _opened(directory: Path) -> BytesCache:
    path = cache_file(directory)
    with suppress(FileExistsError):
        # Never opened here once it exists: closing it would drop the locks of this process's connections.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    for file in database_files(path):  # SQLite would write through a link in the place of its logs, too
        why = why_foreign(file, one_name=True)
        if why is not None:
            raise DamagedFileError(f"{file.name} {why}")
        with suppress(FileNotFoundError):
            if file.lstat().st_mode & 0o077:
                file.chmod(0o600)
    return BytesCache(path)


def _move(directory: Path) -> Path:
    """Rename the database, without following a link, and delete its logs, which would spoil the next one."""
    path = cache_file(directory)
    for log in database_files(path)[1:]:
        log.unlink(missing_ok=True)
    return path.replace(damaged_file(directory))


@contextmanager
def _private_directory(directory: Path) -> Iterator[None]:
    """Make the directory if needed, check that it is ours alone, and lock out other processes meanwhile."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    owners = {directory.lstat().st_uid, directory.stat().st_uid}
    if owners != {os.geteuid()}:
        raise StoreError(f"The cache directory {directory} belongs to another user: set another one")
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if mode & 0o022:
            _LOG.warning("The cache %s could be written by other users; it is closed to them now.", directory)
        if mode & 0o077:
            os.fchmod(descriptor, 0o700)
        _lock(descriptor, directory)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, directory: Path) -> None:
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                raise StoreBusyError(f"{holders_of(directory)} keeps the cache directory {directory} locked") from None
            time.sleep(0.005)
        except OSError:
            return  # a file system without locks: SQLite's own will have to do
        else:
            return
