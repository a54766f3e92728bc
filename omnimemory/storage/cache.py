"""The cache of vectors: no text is embedded twice, in any store, by any process of this user.

It only saves work. Losing it loses nothing, so nothing that happens to its file stops anybody: a file
that is broken is moved aside, one that cannot be used is left alone for a while, both are said once in
the log (``cache_connection``), and everything asked for meanwhile is a miss. Only what must not fail in
silence raises: asking for entries to be deleted.

Layers, in the order they are asked: vectors used lately in memory (``hot_vectors``), those that are not
written yet (``unwritten_vectors``), then one SQLite file through diskcache (``bytes_disk``), whose rows
are believed only after a check (``cache_rows``).
Nothing is evicted unless a size limit is set; then what was stored first goes first.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omnimemory.errors import ConfigError, InvalidVectorError
from omnimemory.faults import reach
from omnimemory.forks import ForkLock
from omnimemory.storage.bytes_disk import BytesCache
from omnimemory.storage.cache_connection import CacheConnection
from omnimemory.storage.cache_folder import damaged_file
from omnimemory.storage.cache_rows import Scope, row_keys
from omnimemory.storage.hot_vectors import HotVectors
from omnimemory.storage.unwritten_vectors import UnwrittenVectors

__all__ = ["EmbeddingCache"]

Row = tuple[int, bytes, bytes | None]
"""Row number, key, and the value if it may be one."""

_LEAST_LIMIT = 1 << 20
_ROWS_A_STATEMENT = 900  # SQLite before 3.32 takes 999 parameters

_SELECT = (
    "SELECT rowid, key, CASE WHEN raw = 1 AND mode = 1 AND filename IS NULL AND typeof(value) = 'blob'"
    " AND length(value) = ? THEN value END FROM Cache WHERE key IN ({})"
)
_INSERT = (
    "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, access_count, tag, size, mode, filename, value)"
    " VALUES (?, 1, ?, NULL, NULL, 0, NULL, 0, 1, NULL, ?) ON CONFLICT (key, raw) DO UPDATE SET"
    " store_time = excluded.store_time, expire_time = NULL, size = 0, mode = 1, filename = NULL, value = excluded.value"
)
_COUNT_UP = "UPDATE Settings SET value = ifnull(CAST(value AS INTEGER), 0) + ? WHERE key = ?"
_EVICT = "DELETE FROM Cache WHERE rowid IN (SELECT rowid FROM Cache ORDER BY rowid LIMIT ?)"


class EmbeddingCache:
    """Vectors by (space fingerprint, role, dimensions, text), on disk and shared by all processes.

    ``directory`` is made private (0700, files 0600) and is opened on first use. ``size_limit`` bounds the
    database file in bytes (``None``: never evict); ``hot_items`` vectors are also kept in memory. After
    an error the file is left alone for ``retry_seconds``. Safe to use from several threads and after a
    fork.
    """

    def __init__(
        self, directory: Path, *, size_limit: int | None = None, hot_items: int = 4096, retry_seconds: float = 30.0
    ) -> None:
        if size_limit is not None and size_limit < _LEAST_LIMIT:
            raise ConfigError(f"The cache's size limit is {size_limit} bytes; the least is {_LEAST_LIMIT} (1 MiB).")
        if hot_items < 0:
            raise ConfigError(f"The cache cannot keep {hot_items} items in memory; use 0 to keep none.")
        self.directory = Path(directory)
        self.size_limit = size_limit
        self._hot = HotVectors(hot_items)
        self._unwritten = UnwrittenVectors()
        self._connection = CacheConnection(self.directory, retry_seconds=retry_seconds)
        self._lock, self._pid = ForkLock(), os.getpid()
        self._hot_hits = self._refused = 0
        self._unsaved = {"hits": 0, "misses": 0}

    def get_many(
        self, space: str, role: str, dim: int, texts: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return (n, dim) float32 vectors and an (n,) mask of those that were found; the others are zero.

        Each vector is exactly what was put for this text. Never raises for the state of the file.
        """
        self._notice_fork()
        scope = Scope(space, role, dim)
        found = self._hot.get_many(scope.prefix, texts)
        cold = [place for place, vector in enumerate(found) if vector is None]
        for place, vector in zip(cold, self._unwritten.get_many(scope.prefix, [texts[c] for c in cold]), strict=True):
            found[place] = vector
        cold = [place for place in cold if found[place] is None]
        refused = self._fill(scope, texts, cold, found)
        mask = np.fromiter((vector is not None for vector in found), dtype=np.bool_, count=len(found))
        # A bytearray, because an array over bytes would be read-only for the caller.
        hits = np.frombuffer(bytearray().join(filter(None, found)), dtype="<f4").reshape(-1, dim)
        vectors = hits if len(hits) == len(found) else np.zeros((len(found), dim), dtype=np.float32)
        if vectors is not hits:
            vectors[mask] = hits
        self._count(len(hits), len(found), len(found) - len(cold), refused)
        return vectors, mask

    def put_many(
        self,
        space: str,
        role: str,
        dim: int,
        texts: Sequence[str],
        vectors: ArrayLike,
        *,
        later: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        """Store (n, dim) vectors, one for each text, in one transaction; what was there is replaced.

        Here they are found from now on. What writes to disk is given to ``later``, if that is given, to be called soon.

        Raises InvalidVectorError for a wrong shape, NaN or infinity; never for the state of the file.
        """
        self._notice_fork()
        scope = Scope(space, role, dim)
        rows = np.ascontiguousarray(vectors, dtype="<f4")
        if rows.shape != (len(texts), dim):
            raise InvalidVectorError(f"vectors have shape {rows.shape}; expected ({len(texts)}, {dim})")
        if not np.isfinite(rows).all():
            raise InvalidVectorError("a vector with NaN or infinity is not cached")
        if not len(rows):
            return
        plain = memoryview(rows.tobytes())
        parts = [plain[start : start + 4 * dim] for start in range(0, len(plain), 4 * dim)]
        pairs = [(text, bytes(part)) for text, part in zip(texts, parts, strict=True)]
        self._unwritten.put_many(scope.prefix, pairs)
        self._hot.put_many(scope.prefix, pairs)
        write = partial(self._write_vectors, scope, pairs)
        if later is None:
            write()
        else:
            later(write)

    def delete_many(self, space: str, role: str, dim: int, texts: Sequence[str]) -> int:
        """Delete the vectors of these texts, overwriting their bytes; return how many there were.

        A damaged file that was moved aside goes as a whole: it may hold them too.

        Raises StoreError if they cannot be deleted.
        """
        self._notice_fork()
        scope = Scope(space, role, dim)
        self._hot.discard(scope.prefix, texts)
        self._unwritten.discard(scope.prefix, texts)
        keys = [(key,) for key in row_keys(scope.materials(dict.fromkeys(texts)))]

        def delete(file: BytesCache) -> int:
            with file.writing():
                deleted = file.execute_many("DELETE FROM Cache WHERE key = ?", keys)
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return deleted

        damaged_file(self.directory).unlink(missing_ok=True)
        return self._connection.insist(delete, "delete from") if self._connection.exists() else 0

    def clear(self) -> int:
        """Delete everything and give the disk space back; return how many vectors there were.

        Raises StoreError if it cannot be done.
        """
        self._notice_fork()
        self._hot.clear()
        self._unwritten.clear()

        def clear(file: BytesCache) -> int:
            with file.writing():
                items = _items(file)
                file.execute("DELETE FROM Cache")
            with suppress(sqlite3.OperationalError):  # another process reads: its pages stay, empty, in the file
                file.execute("VACUUM")
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return items

        removed = self._connection.insist(clear, "clear") if self._connection.exists() else 0
        damaged_file(self.directory).unlink(missing_ok=True)
        return removed

    def stats(self) -> dict[str, Any]:
        """Return items and bytes on disk, hits and misses since the cache was made, and this process's share.

        ``refused`` counts rows that were not believed. Does not make the file.
        """
        self._notice_fork()
        nothing = (0, 0, 0)
        items, hits, misses = self._connection.attempt(_totals, nothing) if self._connection.exists() else nothing
        return {
            "directory": str(self.directory),
            "items": items,
            "bytes": _bytes_in(self.directory),
            "size_limit": self.size_limit,
            "hits": hits + self._unsaved["hits"],
            "misses": misses + self._unsaved["misses"],
            "hot_hits": self._hot_hits,
            "refused": self._refused,
        }

    def close(self) -> None:
        """Save the counts and close the file, for all threads. Using the cache again opens it again."""
        self._notice_fork()
        if self._connection.is_open() and any(self._unsaved.values()):
            self._connection.attempt(lambda file: self._write(file, []), None, writes=True)
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fill(self, scope: Scope, texts: Sequence[str], places: list[int], found: list[bytes | None]) -> int:
        """Look on disk for the texts at these places, and put what is believed into ``found``.

        Return how many rows were refused; they are deleted.
        """
        refused: set[int] = set()
        for start in range(0, len(places), _ROWS_A_STATEMENT):
            some = places[start : start + _ROWS_A_STATEMENT]
            materials = scope.materials(texts[place] for place in some)
            keys = row_keys(materials)
            rows: list[Row] = self._connection.attempt(partial(_select, keys=keys, size=scope.value_bytes), [])
            values = {key: value for _, key, value in rows if value is not None}
            wrong: set[bytes] = set()
            believed = []
            for place, key, material in zip(some, keys, materials, strict=True):
                value = values.get(key)
                if value is not None:
                    vector = found[place] = scope.open(material, value)
                    if vector is None:
                        wrong.add(key)
                    else:
                        believed.append((texts[place], vector))
            refused.update(rowid for rowid, key, value in rows if value is None or key in wrong)
            self._hot.put_many(scope.prefix, believed)
        if refused:
            self._connection.attempt(partial(_delete_rows, rowids=refused), None, writes=True)
        return len(refused)

    def _write_vectors(self, scope: Scope, pairs: list[tuple[str, bytes]]) -> None:
        texts = [text for text, _ in pairs]
        materials, now = scope.materials(texts), time.time()
        sealed = [
            (key, now, scope.seal(material, part))
            for key, material, (_, part) in zip(row_keys(materials), materials, pairs, strict=True)
        ]

        def write(file: BytesCache) -> None:
            # Looked up while nobody else here has the file: what is deleted meanwhile is not written, or goes then.
            kept = self._unwritten.get_many(scope.prefix, texts)
            rows = [row for row, (_, part), there in zip(sealed, pairs, kept, strict=True) if there is part]
            rows.sort()  # in the order of the index, which is also that in which a batch is read
            self._write(file, rows)

        try:
            self._connection.attempt(write, None, writes=True)
        finally:
            self._unwritten.written(scope.prefix, pairs)

    def _write(self, file: BytesCache, rows: list[tuple[bytes, float, bytes]]) -> None:
        with file.writing():
            file.execute_many(_INSERT, rows)
            reach("cache.write")
            if self.size_limit is not None:
                _evict(file, self.size_limit)
            with self._lock:
                saved = dict(self._unsaved) if len(rows) != 1 else {}  # a question's counts wait for more
            for name, count in saved.items():
                if count:
                    file.execute(_COUNT_UP, (count, name))
        with self._lock:
            for name, count in saved.items():
                self._unsaved[name] -= count

    def _count(self, hits: int, asked: int, hot: int, refused: int) -> None:
        with self._lock:
            self._hot_hits += hot
            self._refused += refused
            self._unsaved["hits"] += hits
            self._unsaved["misses"] += asked - hits

    def _notice_fork(self) -> None:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._unsaved = dict.fromkeys(self._unsaved, 0)
            self._unwritten.clear()  # the parent writes them


def _select(file: BytesCache, keys: list[bytes], size: int) -> list[Row]:
    reach("cache.read")
    return file.execute(_SELECT.format(",".join("?" * len(keys))), [size, *keys])


def _delete_rows(file: BytesCache, rowids: set[int]) -> None:
    with file.writing():
        file.execute_many("DELETE FROM Cache WHERE rowid = ?", [(rowid,) for rowid in rowids])


def _items(file: BytesCache) -> int:
    return int(file.execute("SELECT count(*) FROM Cache")[0][0])


def _totals(file: BytesCache) -> tuple[int, int, int]:
    saved = dict(
        file.execute("SELECT key, ifnull(CAST(value AS INTEGER), 0) FROM Settings WHERE key IN ('hits', 'misses')")
    )
    return _items(file), saved.get("hits", 0), saved.get("misses", 0)


def _evict(file: BytesCache, limit: int) -> None:
    """Delete what was stored first until the pages in use are a tenth below the limit."""
    ((pages,), (free,), (page_bytes,)) = (
        file.execute(f"PRAGMA {name}")[0] for name in ("page_count", "freelist_count", "page_size")
    )
    used = (pages - free) * page_bytes
    if used <= limit:
        return
    items = _items(file)
    file.execute(_EVICT, (max(1, round(items * (used - 0.9 * limit) / used)),))


def _bytes_in(directory: Path) -> int:
    try:
        return sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(directory))
    except OSError:
        return 0
