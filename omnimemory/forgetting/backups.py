"""The store's backups, rewritten: what was forgotten goes from them as it went from the store.

A backup is changed in place, in one transaction of its own, and then written anew so that no freed page keeps the old
bytes. It may be of an older revision: only tables and columns are used that have been there from the first one on.
It is never migrated here.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from omnimemory.errors import StoreBusyError, StoreError
from omnimemory.forgetting.removal import Tables, drop_generations, remove_rows
from omnimemory.forgetting.selection import Blocks, Selection
from omnimemory.storage.backups import CATALOG
from omnimemory.storage.catalog import Catalog, catalog_errors
from omnimemory.storage.lock import IndexLock
from omnimemory.storage.tombstones import Tombstones

__all__ = [
    "Change",
    "catalog_of",
    "forget_in_backup",
    "merge_keywords",
    "read_backup",
    "rewrite_backup",
    "rewrite_file",
]

Change = Callable[[sqlite3.Connection], None]
"""What is done to a backup, inside a transaction."""

_BLOCK = 1000
_TABLES = frozenset({"chunks", "commands", "events", "sources", "collections", "spaces", "generations"})
_FTS = ("chunks_fts", "commands_fts")


def catalog_of(backup: Path) -> Path:
    """Return the file of a backup that holds its texts: a backup is a folder, or such a file itself."""
    return backup / CATALOG if backup.is_dir() else backup


@contextmanager
def read_backup(backup: Path) -> Iterator[Blocks]:
    """Open a backup for reading; gives what runs queries on it. Raises :class:`StoreError` if it cannot be read."""
    with _opened(backup) as connection:

        def blocks(query: str, parameters: Sequence[Any], size: int) -> Iterator[list[tuple[Any, ...]]]:
            cursor = connection.execute(query, parameters)
            while block := cursor.fetchmany(size):
                yield block

        yield blocks


def rewrite_backup(backup: Path, change: Change, *, wait: float) -> None:
    """Change a backup, and write its file anew. What was made of it, such as an index, goes: it would hold the rest.

    Raises :class:`StoreBusyError` while somebody uses it and :class:`StoreError` if it cannot be written.
    """
    with _opened(backup) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("BEGIN IMMEDIATE")
        try:
            change(connection)
            drop_generations(connection)
            merge_keywords(connection)
            # A seal beside it was made for what it was: this number says so, and the content is read once.
            connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'commits'")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        rewrite_file(connection, wait)
    if backup.is_dir() and (backup / "index").exists():
        _drop_index(backup, wait)


def merge_keywords(connection: sqlite3.Connection) -> None:
    """Merge the segments of the keyword tables: until then deleted words stay in the old ones."""
    for table in _FTS:
        connection.execute(f"INSERT INTO {table} ({table}) VALUES ('optimize')")  # noqa: S608 - names of our own


def rewrite_file(connection: sqlite3.Connection, wait: float) -> None:
    """Write a catalog's file anew, without the freed pages and the log that keep what was deleted from it.

    Raises :class:`StoreBusyError` while somebody reads what was there before, and waits ``wait`` seconds for it.
    """
    try:
        connection.execute("VACUUM")
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(wait * 1000)}")
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise StoreBusyError("another process is reading the catalog, which keeps the old pages alive")


def _drop_index(backup: Path, wait: float) -> None:
    lock = IndexLock(backup / "index.lock")
    if not lock.acquire(timeout=wait):
        raise StoreBusyError(f"its index is in use by process {lock.holder()}")
    try:
        shutil.rmtree(backup / "index")
    finally:
        lock.release()


@contextmanager
def _opened(backup: Path) -> Iterator[sqlite3.Connection]:
    path = catalog_of(backup)
    if not path.is_file():
        raise StoreError("it is not there now; connect its disk, or take it off the list of backups if it is gone")
    with catalog_errors(path), closing(sqlite3.connect(path, timeout=5.0, isolation_level=None)) as connection:
        found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if not {*_TABLES, *_FTS} <= found:
            raise StoreError("it is not a catalog of ours")
        yield connection


def forget_in_backup(backup: Path, catalog: Catalog, stones: Tombstones, *, wait: float) -> None:
    """Take everything out of a backup that has a tombstone. Errors are those of :func:`rewrite_backup`."""

    def change(connection: sqlite3.Connection) -> None:
        remove_rows(connection, Tables.of(connection, catalog), _buried(connection, stones))
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'tombstones'").fetchone():
            # Whoever goes back to this backup has not asked for what was forgotten.
            connection.executemany(
                "INSERT INTO tombstones (hash) VALUES (?) ON CONFLICT DO NOTHING", ((s,) for s in stones.hashes)
            )

    rewrite_backup(backup, change, wait=wait)


def _buried(connection: sqlite3.Connection, stones: Tombstones) -> Selection:
    """Return the rows of a catalog that have a tombstone."""
    chosen = Selection()
    sources = connection.execute("SELECT id, kind, uri FROM sources").fetchall()
    chosen.sources = [row for row, kind, uri in sources if stones.source(kind, uri) in stones.hashes]
    whole = set(chosen.sources)
    chunks = "SELECT c.id, s.id, s.uri, c.text FROM chunks c JOIN sources s ON s.id = c.source_id"
    chosen.chunks = [
        row for row, source, uri, text in connection.execute(chunks) if source in whole or stones.of_chunk(uri, text)
    ]
    events = (
        "SELECT e.id, s.id, s.uri, e.timestamp, c.text FROM events e JOIN commands c ON c.id = e.command_row "
        "JOIN sources s ON s.id = e.source_id"
    )
    chosen.events = [
        row
        for row, source, uri, timestamp, text in connection.execute(events)
        if source in whole or stones.of_event(uri, timestamp, text)
    ]
    commands = connection.execute("SELECT id, text FROM commands")
    chosen.commands = [row for row, text in commands if stones.command(text) in stones.hashes]
    return chosen
