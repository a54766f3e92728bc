"""Taking vectors out of the cache by their keys, so that not a byte of them is left in its files.

Unlike everything else that is done with the cache this must not fail in silence, and it is done also where the cache
is switched off but an older one lies in its folder.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from omnimemory.errors import StoreBusyError, StoreError
from omnimemory.storage.bytes_disk import BytesCache
from omnimemory.storage.cache_folder import FILE_ERRORS, cache_file, damaged_file, open_cache

__all__ = ["purge_cache"]

_KEY_BYTES = 16


def purge_cache(directory: Path, keys: bytes) -> int:
    """Delete the vectors under these keys (16 bytes each), overwriting their bytes; return how many there were.

    A damaged file that was moved aside goes as a whole: it may hold them too. Raises :class:`StoreBusyError` while
    another process keeps the old bytes alive, and :class:`StoreError` when the file cannot be written.
    """
    try:
        damaged_file(directory).unlink(missing_ok=True)
        if not cache_file(directory).exists():
            return 0
        file, damage = open_cache(directory)
        try:
            return _delete(file, keys)
        finally:
            file.disconnect()
            if damage is not None:
                damage.moved.unlink(missing_ok=True)
    except FILE_ERRORS as error:
        busy = isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
        raise (StoreBusyError if busy else StoreError)(
            f"the cache in {directory} cannot be written ({error})"
        ) from error


def _delete(file: BytesCache, keys: bytes) -> int:
    rows = [(keys[start : start + _KEY_BYTES],) for start in range(0, len(keys), _KEY_BYTES)]
    with file.writing():
        deleted = file.execute_many("DELETE FROM Cache WHERE key = ?", rows) if rows else 0
    ((busy, _, _),) = file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if busy:
        raise StoreBusyError("another process is reading the cache")
    return deleted
