"""Checksums of vectors, chunks, events and what sources remember, computed for everything that is there.

The functions are a copy of those in ``omnimemory/storage/checksums.py`` at this revision.

Revision: 0003, after 0002
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import sqlalchemy
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BLOCK = 1000
_SOURCE = ("state", "uri", "kind")
_CHUNK = ("chunk_id", "start_char", "end_char", "heading", "metadata", "text", "source_id")
_SAID = ("timestamp", "cwd", "exit_code", "duration", "session", "host", "shell")
_EVENT = (*_SAID, "key", "command_row", "source_id", "position")

FORGET_STALE = (
    """
    CREATE TRIGGER sources_changed AFTER UPDATE OF state, uri, kind ON sources WHEN new.checksum IS old.checksum BEGIN
        UPDATE sources SET checksum = NULL WHERE id = new.id;
    END
    """,
    """
    CREATE TRIGGER events_moved AFTER UPDATE OF key, command_row ON events WHEN new.checksum IS old.checksum BEGIN
        UPDATE events SET checksum = NULL WHERE id = new.id;
    END
    """,
)


def upgrade() -> None:
    for table in ("sources", "chunks", "events", "vectors"):
        op.execute(f"ALTER TABLE {table} ADD COLUMN checksum INTEGER")
    connection = op.get_bind()
    _fill(connection, "sources", "id", _SOURCE, _of_texts)
    _fill(connection, "chunks", "id", _CHUNK, _of_texts)
    _fill(connection, "events", "id", _EVENT, _of_texts)
    _fill(connection, "vectors", "row", ("item", "vector"), _of_vectors)
    for statement in FORGET_STALE:
        op.execute(statement)
    ((key,),) = connection.exec_driver_sql("SELECT value FROM meta WHERE key = 'key'").fetchall() or [("",)]
    if key:
        connection.exec_driver_sql("INSERT INTO meta VALUES ('key_checksum', ?)", (str(_crc((key,))),))


def _fill(
    connection: sqlalchemy.Connection,
    table: str,
    key: str,
    columns: tuple[str, ...],
    checksums: Callable[[list[Any]], list[int]],
) -> None:
    for rows in _blocks(connection, table, key, columns):
        values = zip(checksums([row[1:] for row in rows]), (row[0] for row in rows), strict=True)
        connection.exec_driver_sql(f"UPDATE {table} SET checksum = ? WHERE {key} = ?", list(values))  # noqa: S608 - our own names


def _blocks(
    connection: sqlalchemy.Connection, table: str, key: str, columns: tuple[str, ...]
) -> Iterator[list[tuple[Any, ...]]]:
    last = -1
    query = f"SELECT {key}, {', '.join(columns)} FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT {_BLOCK}"  # noqa: S608 - as above
    while rows := [tuple(row) for row in connection.exec_driver_sql(query, (last,)).fetchall()]:
        yield rows
        last = rows[-1][0]


def _of_texts(rows: list[tuple[Any, ...]]) -> list[int]:
    return [_crc(row) for row in rows]


def _crc(parts: tuple[Any, ...]) -> int:
    texts = ["" if part is None else f"{len(str(part))}:{part}" for part in parts]
    return zlib.crc32("\0".join(texts).encode("utf-8", "surrogatepass"))


def _of_vectors(rows: list[tuple[int, bytes]]) -> list[int]:
    return [_vector_checksum(item, np.frombuffer(vector, dtype="<u4")) for item, vector in rows]


def _vector_checksum(item: int, words: Any) -> int:
    mixed = np.arange(1, len(words) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    factors = (mixed ^ (mixed >> np.uint64(31))) | np.uint64(1)
    total = int((words * factors).sum(dtype=np.uint64)) + item * 0xC2B2AE3D27D4EB4F + 1
    return (total + 2**63) % 2**64 - 2**63
