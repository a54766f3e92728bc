"""Room on the disk: asked for before much is written, and told when there is none.

A disk that runs full in the midst of a write costs the index (chromadb 1.5.9 leaves torn files behind), so
whoever writes much says beforehand about how much. The figures are estimates on the safe side; an error of
the disk itself, should they be wrong, becomes the same exception.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omnimemory.errors import StoreError, StoreFullError

__all__ = [
    "LEAST_ROOM",
    "catalog_room",
    "disk_error",
    "disk_errors",
    "free_bytes",
    "full_message",
    "index_room",
    "is_disk_error",
    "require_room",
]

LEAST_ROOM = 8 << 20
"""Bytes that any change may need for a while: SQLite's log grows to 8 MiB before it is folded in."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def free_bytes(path: Path) -> int | None:
    """Return the bytes that this user may still write beside ``path``; ``None`` if the file system does not say."""
    for place in (path, *path.absolute().parents):
        try:
            status = os.statvfs(place)
        except OSError:
            continue
        return status.f_bavail * status.f_frsize if status.f_blocks else None
    return None


def require_room(path: Path, needed: int, purpose: str) -> None:
    """Raise :class:`StoreFullError` unless there is room for ``needed`` bytes and a little more beside ``path``."""
    free = free_bytes(path)
    if free is not None and free < needed + LEAST_ROOM:
        raise StoreFullError(f"There is no room for {purpose}. {full_message(path, needed + LEAST_ROOM)}")


def catalog_room(rows: int, dim: int, characters: int) -> int:
    """Return about how many bytes committing rows takes: in SQLite's log and, before that is emptied, in the file."""
    return 2 * (rows * (5 * dim + 640) + 3 * characters)


def index_room(rows: int, dim: int, characters: int) -> int:
    """Return about how many bytes the index needs for rows of ``dim`` components and so many characters of text.

    Measured with chromadb 1.5.9: 1,560 bytes a row at 256 dimensions, 2,140 at 384; 5.4 a character.
    """
    return rows * (4 * dim + 640) + 6 * characters


def full_message(path: Path, needed: int = LEAST_ROOM) -> str:
    """Return how much room is needed and free, and what to do."""
    free = free_bytes(path)
    have = "" if free is None else f", {_mebibytes(free)} are free"
    return (
        f"The disk of {path} is full: about {_mebibytes(needed)} are needed{have}. What was committed is safe; "
        "free some space and run the same command again."
    )


def _mebibytes(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB"


def is_disk_error(error: OSError) -> bool:
    """Return whether an error says that the disk is full or failing."""
    return error.errno in (*_FULL, errno.EIO)


def disk_error(path: Path, error: OSError, needed: int = LEAST_ROOM) -> StoreError:
    """Return what an error of the file system means for the store, saying what to do."""
    if error.errno in _FULL:
        return StoreFullError(full_message(path, needed))
    if error.errno == errno.EIO:
        return StoreFullError(
            f"The disk of {path} is failing ({error.strerror}). What was committed is safe as long as the disk can "
            "be read: look at the system's log, copy the store to another disk, and run the same command there."
        )
    return StoreError(f"{path} cannot be used ({error.strerror or error}). Check its owner and its permissions.")


@contextmanager
def disk_errors(path: Path, needed: int = LEAST_ROOM) -> Iterator[None]:
    """Turn errors of the file system into ours; see :func:`disk_error`."""
    try:
        yield
    except OSError as error:
        raise disk_error(path, error, needed) from error
