"""The cache's file looked through without changing it: what of it would be refused.

A row says which text its vector is of only to somebody who has the text. So the rows of known texts are compared
with them, and of all others the form is: bytes of the right length that are finite numbers. Either
way a damaged row would be a miss, never a wrong vector; it is deleted when it is read.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnimemory.storage.cache_folder import FILE_ERRORS, cache_file, open_cache, set_aside
from omnimemory.storage.cache_rows import HEADER_BYTES, MAGIC, Scope, row_keys

__all__ = ["CacheLook", "begin_anew", "inspect_cache", "remove_rows"]

_ROWS = 900
_FIRST_FLOAT = 24


@dataclass(frozen=True, slots=True)
class CacheLook:
    """What was seen: why the file is broken, the numbers of the rows to be refused, known texts that are not there."""

    broken: str | None = None
    rows: int = 0
    refused: tuple[int, ...] = ()
    missing: int = 0


def inspect_cache(directory: Path, known: Iterable[tuple[Scope, Sequence[str]]]) -> CacheLook:
    """Look through the cache in a directory; ``known`` are texts by scope that it may hold."""
    refused: set[int] = set()
    missing = 0
    try:
        with _reading(directory) as connection:
            ((said,), *_) = connection.execute("PRAGMA integrity_check(1)").fetchall()
            if said != "ok":
                return CacheLook(broken=" ".join(said.split()))
            for scope, texts in known:
                wrong, absent = _compare(connection, scope, texts)
                refused |= wrong
                missing += absent
            refused.update(_misshapen(connection))
            ((rows,),) = connection.execute("SELECT count(*) FROM Cache").fetchall()
            return CacheLook(None, rows, tuple(sorted(refused)), missing)
    except (*FILE_ERRORS, UnicodeDecodeError) as error:  # SQLite quotes names of a damaged schema
        return CacheLook(broken=str(error))


@contextmanager
def _reading(directory: Path) -> Iterator[sqlite3.Connection]:
    address = f"{cache_file(directory).absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=5.0)) as connection:
        connection.execute("PRAGMA trusted_schema = 0")
        connection.execute("BEGIN")
        yield connection


def _compare(connection: sqlite3.Connection, scope: Scope, texts: Sequence[str]) -> tuple[set[int], int]:
    """Return the rows of these texts that are not what was stored, and how many texts have none."""
    wrong: set[int] = set()
    missing = 0
    for start in range(0, len(texts), _ROWS):
        materials = dict(zip(*_keyed(scope, texts[start : start + _ROWS]), strict=True))
        marks = ",".join("?" * len(materials))
        rows = connection.execute(f"SELECT rowid, key, value FROM Cache WHERE key IN ({marks})", tuple(materials))
        for number, key, value in rows:
            material = materials.pop(key, None)
            if material is not None and (type(value) is not bytes or scope.open(material, value) is None):
                wrong.add(number)
        missing += len(materials)
    return wrong, missing


def _keyed(scope: Scope, texts: Sequence[str]) -> tuple[list[bytes], list[bytes]]:
    materials = scope.materials(texts)
    return row_keys(materials), materials


def _misshapen(connection: sqlite3.Connection) -> Iterator[int]:
    for number, key, raw, mode, filename, value in connection.execute(
        "SELECT rowid, key, raw, mode, filename, value FROM Cache"
    ):
        plain = type(key) is bytes and len(key) == 16 and (raw, mode, filename) == (1, 1, None)
        if not plain or type(value) is not bytes or not _is_vector(value):
            yield number


def _is_vector(value: bytes) -> bool:
    if len(value) < _FIRST_FLOAT or value[:4] != MAGIC:
        return False
    (dim,) = struct.unpack("<I", value[4:HEADER_BYTES])
    if len(value) != _FIRST_FLOAT + 4 * dim:
        return False
    return bool(np.isfinite(np.frombuffer(value, dtype="<f4", offset=_FIRST_FLOAT)).all())


def remove_rows(directory: Path, rows: Sequence[int]) -> None:
    """Delete rows by their numbers. Raises FILE_ERRORS and :class:`StoreError` as they come."""
    file, _ = open_cache(directory)
    try:
        with file.writing():
            file.execute_many("DELETE FROM Cache WHERE rowid = ?", [(row,) for row in rows])
    finally:
        file.disconnect()


def begin_anew(directory: Path, reason: str) -> Path | None:
    """Move a broken file aside; return where it is now. Raises FILE_ERRORS and :class:`StoreError` as they come."""
    file = cache_file(directory)
    try:
        inode = file.lstat().st_ino
    except FileNotFoundError:
        return None
    damage = set_aside(directory, inode, sqlite3.DatabaseError(reason))
    return damage.moved if damage else None
