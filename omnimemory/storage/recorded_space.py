"""Which model a store was made with, read before the store is opened, because opening it needs that model's name.

Nothing is written. Most stores show it in the main file, which is read as it is. Where there is a write-ahead log,
SQLite reads it as well: a new store may have its space there only, and one that was moved to another model the new one.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from omnimemory.storage.catalog import HEAD
from omnimemory.storage.revision import written_revision

__all__ = ["RecordedSpace", "recorded_space"]

_QUERY = (
    "SELECT s.model, s.dim, s.fingerprint FROM collections c JOIN spaces s ON s.id = c.space_id "
    "WHERE c.name NOT LIKE '%:%' ORDER BY c.id LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class RecordedSpace:
    """The vector space of a store: the model's name, the size of its vectors, and the fingerprint."""

    model: str
    dim: int
    fingerprint: str


def recorded_space(store: Path) -> RecordedSpace | None:
    """Return the space of the store in a folder; ``None`` for a new one, and for one that cannot be read."""
    path = store / "catalog.sqlite3"
    try:
        if not path.is_file():
            return None
        address = path.absolute().as_uri()
    except (OSError, ValueError):
        return None
    as_it_is = f"{address}?mode=ro&immutable=1"
    # SQLite notes who reads a log beside it, and in what a newer version wrote not a byte may change.
    if _has_log(path) and (written_revision(path, ()) or "") <= HEAD:
        return _read(f"{address}?mode=ro") or _read(as_it_is)
    return _read(as_it_is)


def _has_log(path: Path) -> bool:
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size > 0
    except OSError:
        return False


def _read(address: str) -> RecordedSpace | None:
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=1.0)) as connection:
            row = connection.execute(_QUERY).fetchone()
    except (sqlite3.Error, UnicodeDecodeError):
        return None
    return RecordedSpace(str(row[0]), int(row[1]), str(row[2])) if row else None
