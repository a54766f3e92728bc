"""A damaged catalog written anew: what can be read of it goes into a fresh file, whose indexes are made from that.

Most damage hits what is derived: an index of SQLite's, the keyword index, a free page. The rows of the tables are
then all there, and nothing is lost. Where a page of a table itself is damaged, the rows before it are read from the
beginning and those behind it from the end. Whether rows are missing is told by the table's own indexes, which have
an entry for each.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from omnimemory.errors import CatalogDamagedError
from omnimemory.storage.catalog import HEAD
from omnimemory.storage.checksums import chunk_checksum
from omnimemory.storage.commands import command_id
from omnimemory.storage.log_frames import kept_log, lay_over
from omnimemory.storage.new_catalog import new_catalog
from omnimemory.storage.steps import drop_steps
from omnimemory.storage.verification import KEYWORD_TABLES, as_stored, index_words

__all__ = ["Salvaged", "fill_keywords", "salvage"]

_TABLES = (
    "meta",
    "spaces",
    "collections",
    "sources",
    "chunks",
    "commands",
    "events",
    "vectors",
    "tombstones",
    "purges",
)
"""The truth. What is known of the index is left out: the index is made anew."""

_SUFFIXES = ("", "-wal", "-shm", "-journal")
_NARROW_GAP, _WIDEST_GAP = 1_000, 100_000


@dataclass(slots=True)
class Salvaged:
    """What became of it, by table: how many rows were copied, and what could not be copied, in words."""

    rows: dict[str, int] = field(default_factory=dict)
    losses: dict[str, str] = field(default_factory=dict)


def salvage(path: Path, draft: Path) -> Salvaged:
    """Write what can be read of the catalog at ``path`` into a new one at ``draft``; ``path`` is not touched.

    A log that was kept because SQLite did not believe it is laid over a copy of the file first. Nobody may have it
    open. Raises :class:`CatalogDamagedError` when not even its list of tables can be read.
    """
    copy = draft.with_name(f"{draft.name}-source")
    done = Salvaged()
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    new_catalog(draft, HEAD)
    try:
        _copy_file(path, copy)
        if kept_log(path).exists():
            lay_over(kept_log(path), copy)
        with closing(_opened(copy, draft)) as source, closing(sqlite3.connect(draft, isolation_level=None)) as target:
            target.text_factory = as_stored
            target.execute("BEGIN")
            target.execute("DELETE FROM meta")
            for table in _TABLES:
                _copy_table(source, target, table, done)
            for table, column in (("chunks", "chunk_id"), ("commands", "command_id")):
                _restore_ids(source, target, table, column)
            _copy_sequences(source, target)
            drop_steps(target)  # made anew from the events
            for table in KEYWORD_TABLES:
                fill_keywords(target, table)
            target.execute("COMMIT")
    except (sqlite3.DatabaseError, OSError) as error:
        raise CatalogDamagedError(f"{path} is so damaged that its tables cannot be read ({error}).") from error
    finally:
        for suffix in _SUFFIXES:
            copy.with_name(copy.name + suffix).unlink(missing_ok=True)
    return done


def _copy_file(path: Path, copy: Path) -> None:
    for suffix in ("", "-wal"):
        original = path.with_name(path.name + suffix)
        if original.exists():
            target = copy.with_name(copy.name + suffix)
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            shutil.copyfile(original, target)
    with copy.open("r+b") as file:
        header = file.read(32)
        size = int.from_bytes(header[16:18], "big")
        whole = (65536 if size == 1 else size) * int.from_bytes(header[28:32], "big")
        if file.seek(0, 2) < whole < 2**40:
            file.truncate(whole)  # SQLite opens no file that was cut; what is missing are pages of zeros now


def _opened(copy: Path, draft: Path) -> sqlite3.Connection:
    """Open a copy so that each table can be read, also one whose definition is damaged: a new catalog has it whole."""
    with closing(sqlite3.connect(draft)) as target:
        whole = dict(target.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall())
    connection = _connected(copy)
    lost = [table for table in _TABLES if not _is_known(connection, table)]
    for table in lost:
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (whole[table], table))
    if not lost:
        return connection
    connection.close()
    return _connected(copy)


def _connected(copy: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(copy, isolation_level=None)
    connection.text_factory = as_stored
    connection.execute("PRAGMA writable_schema = ON")  # one table that is not understood must not hide the others
    return connection


def _is_known(connection: sqlite3.Connection, table: str) -> bool:
    try:
        connection.execute(f"SELECT 1 FROM {table} LIMIT 0").fetchall()
    except (sqlite3.DatabaseError, UnicodeDecodeError):  # the latter: a message that quotes a damaged name
        return False
    return True


def _copy_table(source: sqlite3.Connection, target: sqlite3.Connection, table: str, done: Salvaged) -> None:
    described = target.execute(f"PRAGMA table_info({table})").fetchall()
    columns = ", ".join(name for _, name, *_ in described)
    # A text that is no UTF-8 any more is handed over as the bytes that it is.
    marks = ", ".join("CAST(? AS TEXT)" if kind == "TEXT" else "?" for _, _, kind, *_ in described)
    insert = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})"
    reader = _Reader(source, table, columns)
    before = target.total_changes
    for row in reader.rows():
        try:
            target.execute(insert, [_as_bytes(value) for value in row])
        except sqlite3.IntegrityError as error:
            reader.error = f"a row makes no sense ({error})"
    done.rows[table] = target.total_changes - before
    missing = _expected(source, table) - done.rows[table]
    if missing > 0 or reader.error:
        count = f"{missing:,} rows" if missing > 0 else "an unknown number of rows"
        done.losses[table] = f"{count} of {table}" + (f": {reader.error}" if reader.error else "")


def _as_bytes(value: object) -> object:
    return value if not isinstance(value, str) or _is_text(value) else value.encode("utf-8", "surrogateescape")


def _is_text(value: str) -> bool:
    return not any("\ud800" <= sign <= "\udfff" for sign in value)


class _Reader:
    """Reads a table from its beginning, and when that breaks off, from its end; ``error`` says so."""

    def __init__(self, source: sqlite3.Connection, table: str, columns: str) -> None:
        self._source, self._table, self._columns = source, table, columns
        self.error = ""

    def rows(self) -> Iterator[tuple[object, ...]]:
        """Yield the columns of every row that can be read, each once."""
        definition = self._source.execute("SELECT sql FROM sqlite_master WHERE name = ?", (self._table,)).fetchone()
        if definition is None:
            self.error = "it is not there"
        elif "WITHOUT ROWID" in definition[0].upper():
            yield from self._until_broken(f"SELECT {self._columns} FROM {self._table}", ())
        else:
            yield from self._by_rowid(f"SELECT rowid, {self._columns} FROM {self._table} NOT INDEXED WHERE rowid")

    def _by_rowid(self, query: str) -> Iterator[tuple[object, ...]]:
        last, first = -(2**63), None
        for rowid, *row in self._until_broken(f"{query} > ? ORDER BY rowid", (last,)):
            last = int(str(rowid))
            yield tuple(row)
        if not self.error:
            return
        for rowid, *row in self._until_broken(f"{query} > ? ORDER BY rowid DESC", (last,)):
            first = int(str(rowid))
            yield tuple(row)
        gap = range(last + 1, min(last + _WIDEST_GAP, last + _NARROW_GAP if first is None else first))
        for number in gap:  # what lies on the damaged page itself
            yield from (tuple(row[1:]) for row in self._until_broken(f"{query} = ?", (number,)))

    def _until_broken(self, query: str, parameters: tuple[int, ...]) -> Iterator[tuple[object, ...]]:
        try:
            yield from self._source.execute(query, parameters)
        except sqlite3.DatabaseError as error:
            self.error = str(error)


def _expected(source: sqlite3.Connection, table: str) -> int:
    """Return how many rows the fullest of a table's indexes knows."""
    most = 0
    for _, name, _, _, partial in source.execute(f"PRAGMA index_list({table})").fetchall():
        if not partial and not _has_no_rowid(source, table):
            try:
                count = source.execute(f"SELECT count(*) FROM {table} INDEXED BY {name}").fetchone()[0]
            except sqlite3.DatabaseError:
                continue
            most = max(most, int(count))
    return most


def _has_no_rowid(source: sqlite3.Connection, table: str) -> bool:
    (sql,) = source.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone() or ("",)
    return "WITHOUT ROWID" in sql.upper()


def _restore_ids(source: sqlite3.Connection, target: sqlite3.Connection, table: str, column: str) -> None:
    """Take public ids from the index that has them as well, where only that makes a row what was stored."""
    query = f"SELECT rowid, {column} FROM {table} INDEXED BY sqlite_autoindex_{table}_1"
    with suppress(sqlite3.DatabaseError):
        for row, public in source.execute(query):
            stored = target.execute(f"SELECT {column} FROM {table} WHERE id = ?", (row,)).fetchone()
            if stored is not None and stored[0] != public and _fits(target, table, row, str(public)):
                target.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (public, row))


def _fits(target: sqlite3.Connection, table: str, row: int, public: str) -> bool:
    if table == "commands":
        ((text,),) = target.execute("SELECT text FROM commands WHERE id = ?", (row,)).fetchall()
        return command_id(str(text)) == public
    query = "SELECT start_char, end_char, heading, metadata, text, source_id, checksum FROM chunks WHERE id = ?"
    *content, check = target.execute(query, (row,)).fetchone()
    return bool(chunk_checksum(public, *content) == check)


def _copy_sequences(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Let no number be given twice: what was deleted may still be known to the index of a backup."""
    try:
        sequences = source.execute("SELECT name, seq FROM sqlite_sequence").fetchall()
    except sqlite3.DatabaseError:
        return
    for name, number in sequences:
        target.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (number, name))
        if not target.execute("SELECT 1 FROM sqlite_sequence WHERE name = ?", (name,)).fetchone():
            target.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, number))


def fill_keywords(sql: sqlite3.Connection, table: str) -> int:
    """Make a keyword index anew from the texts; return of how many."""
    columns, query = KEYWORD_TABLES[table]
    marks = ", ".join("?" * (columns.count(",") + 2))
    sql.execute(f"INSERT INTO {table} ({table}) VALUES ('delete-all')")
    texts = ((row, *map(index_words, content)) for row, *content in sql.execute(query).fetchall())
    return sql.executemany(f"INSERT INTO {table} (rowid, {columns}) VALUES ({marks})", texts).rowcount
