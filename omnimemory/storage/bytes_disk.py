"""diskcache without pickle: a cache file that holds bytes and gives nothing else back.

diskcache 5.6.3 (the last release) unpickles keys and values, opens and deletes files by names that it
finds in the file, and runs pragmas that it finds there: whoever can write the cache can run code
(CVE-2025-69872, not fixed). Here nothing of that is left. Keys and values are bytes in the row itself;
rows of any other kind are refused; the settings are ours, whatever the file says; no file besides the
database is ever read, written or deleted. Nor does SQLite run what it finds there: a file is refused whose
tables, indexes and triggers are not, to the letter, those that diskcache makes.

Private parts of diskcache are used on purpose: ``_con`` and ``_sql`` (many rows in one statement, which
the public API has not, and one connection that can be closed) and ``_sql_retry`` (it waits a minute for
a lock). The package is unmaintained and pinned below 6.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn

import diskcache
from diskcache.core import METADATA, MODE_RAW, UNKNOWN

__all__ = ["BUSY_SECONDS", "BytesCache", "BytesDisk", "DamagedFileError", "RefusedRowError"]

PAGE_BYTES: Final = 16_384
"""Fourteen 256-d vectors a page instead of three: a sixth of overhead instead of two fifths."""

BUSY_SECONDS: Final = 5.0

SETTINGS: Final[dict[str, Any]] = {
    "statistics": 0,
    "tag_index": 0,
    "eviction_policy": "none",
    "size_limit": 2**62,
    "cull_limit": 0,
    "sqlite_auto_vacuum": 0,
    "sqlite_cache_size": -4_096,  # KiB: every process that embeds pays it; 16 MiB made random reads 6 % faster
    "sqlite_journal_mode": "wal",
    "sqlite_mmap_size": 0,  # a mapped file that somebody cuts short kills the process
    "sqlite_synchronous": 1,
    "disk_min_file_size": 2**62,
    "disk_pickle_protocol": 0,
}
"""Every setting diskcache knows. They are passed, not read from the file."""

_PRAGMAS: Final = (
    ("page_size", PAGE_BYTES),
    ("trusted_schema", 0),
    ("cell_size_check", 1),
    ("secure_delete", 1),
    *((name.removeprefix("sqlite_"), value) for name, value in SETTINGS.items() if name.startswith("sqlite_")),
)


class DamagedFileError(sqlite3.DatabaseError):
    """The database is not one that this module wrote, or not any more."""


class RefusedRowError(OSError):
    """A row is not bytes in the database itself. diskcache answers a miss when it sees an OSError."""


class BytesDisk(diskcache.Disk):  # type: ignore[misc] # diskcache has no type information
    """Accepts bytes (and str as a key), stores them in the row, and refuses everything else it finds."""

    def __init__(self, directory: str, **_from_file: object) -> None:
        super().__init__(directory, min_file_size=SETTINGS["disk_min_file_size"], pickle_protocol=0)

    def put(self, key: object) -> tuple[object, bool]:
        """Return the key as the database keeps it."""
        if type(key) is bytes:
            return sqlite3.Binary(key), True
        if type(key) is str:
            return key, True
        raise TypeError(f"a cache key is bytes or str, not {type(key).__name__}")

    def get(self, key: object, raw: object) -> object:
        """Return a key found in the file."""
        if raw in {0, None} or type(key) not in {bytes, str}:
            raise RefusedRowError("a cache row has a pickled key")
        return key

    def store(self, value: object, read: object, key: object = UNKNOWN) -> tuple[int, int, None, object]:  # noqa: ARG002 - diskcache's signature
        """Return the columns of a value."""
        if read or type(value) is not bytes:
            raise TypeError(f"a cache value is bytes, not {type(value).__name__}")
        return 0, MODE_RAW, None, sqlite3.Binary(value)

    def fetch(self, mode: object, filename: object, value: object, read: object) -> bytes:
        """Return a value found in the file."""
        if read or mode != MODE_RAW or filename is not None or type(value) is not bytes:
            raise RefusedRowError("a cache row is not plain bytes")
        return value

    def filename(self, key: object = UNKNOWN, value: object = UNKNOWN) -> NoReturn:  # noqa: ARG002 - diskcache's signature
        """Refuse: nothing is kept in files."""
        raise TypeError("cache values are kept in the database, never in files")

    def remove(self, file_path: object) -> None:
        """Delete nothing: a file name in a row is not ours."""


class BytesCache(diskcache.Cache):  # type: ignore[misc] # diskcache has no type information
    """diskcache.Cache with a bytes-only disk, our settings and one connection for all threads.

    Not safe to use from two threads at once: the caller holds a lock.
    """

    _connection: sqlite3.Connection | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inode = path.stat().st_ino
        try:
            _refuse_other_schema(self._con)
            _forget_unknown_settings(self._con)
            super().__init__(str(path.parent), timeout=BUSY_SECONDS, disk=BytesDisk, **SETTINGS)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            self.disconnect()
            raise DamagedFileError(f"its settings make no sense: {error}") from error
        except BaseException:
            self.disconnect()
            raise

    @property
    def connection(self) -> sqlite3.Connection:
        """The one connection, opened if it is not."""
        return self._con

    @property
    def _con(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                for name, value in _PRAGMAS:
                    connection.execute(f"PRAGMA {name} = {value}").fetchall()
            except UnicodeDecodeError as error:  # SQLite quotes a name of a damaged schema, which is no text any more
                connection.close()
                raise DamagedFileError(error.object.decode("utf-8", "replace")) from error
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    @property
    def _sql_retry(self) -> Any:
        return self._sql

    def reset(self, key: str, value: object = None, update: bool = True) -> object:  # noqa: ARG002 - diskcache's signature
        """Take the value from our settings, never from the file; pragmas are set once, when connecting."""
        if key in SETTINGS or key in METADATA:
            value = SETTINGS.get(key, 0)
            setattr(self, key, value)
            return value
        return None

    def close(self) -> None:
        """Keep the connection, which diskcache wants to reopen while it starts; ``disconnect`` ends it."""

    def disconnect(self) -> None:
        """Close the connection, for all threads."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def execute(self, statement: str, parameters: Any = ()) -> list[Any]:
        """Run one statement and return its rows."""
        rows: list[Any] = self._con.execute(statement, parameters).fetchall()
        return rows

    def execute_many(self, statement: str, rows: list[tuple[Any, ...]]) -> int:
        """Run one statement for each row; return how many rows of the table it changed."""
        return self._con.executemany(statement, rows).rowcount

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction: everything inside happens, or nothing."""
        self._con.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._con.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._con.execute("ROLLBACK")
            raise

    def is_gone(self) -> bool:
        """Whether the file was deleted or replaced since it was opened."""
        try:
            return self.path.stat().st_ino != self.inode
        except FileNotFoundError:
            return True


def _refuse_other_schema(connection: sqlite3.Connection) -> None:
    """Raise :class:`DamagedFileError` for a trigger, view, table or index that diskcache does not make."""
    other = set(connection.execute(_SCHEMA)) - _schema()
    if other:
        raise DamagedFileError(f"it holds what diskcache does not make: {sorted(name for _, name, _ in other)[:3]}")


_SCHEMA: Final = "SELECT type, name, sql FROM sqlite_master"


@cache
def _schema() -> frozenset[tuple[object, ...]]:
    """Return what diskcache, as it is installed, makes of an empty file."""

    class Fresh(BytesCache):
        def __init__(self) -> None:
            self._connection = sqlite3.connect(":memory:", isolation_level=None)
            diskcache.Cache.__init__(self, "/", disk=BytesDisk, **SETTINGS)

    fresh = Fresh()
    try:
        return frozenset(fresh.execute(_SCHEMA))
    finally:
        fresh.disconnect()


def _forget_unknown_settings(connection: sqlite3.Connection) -> None:
    """Delete settings that this version does not know: diskcache would take them for pragmas or attributes."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'Settings'").fetchone():
        return
    known = [*SETTINGS, *METADATA]
    unknown = f"typeof(key) != 'text' OR key NOT IN ({','.join('?' * len(known))})"
    if connection.execute(f"SELECT 1 FROM Settings WHERE {unknown}", known).fetchone():
        connection.execute(f"DELETE FROM Settings WHERE {unknown}", known)
