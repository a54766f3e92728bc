"""Histories in SQLite databases, read without ever writing to them.

Rows are read by their ``rowid``, which grows; the cursor remembers the last one and a digest of it, so that a database
that was cleared or replaced is noticed and read as a whole (events with a time are known again by it). Some programs
insert a row when a command starts and complete it when it ends: a row without outcome waits, unless its session has
gone on (nushell names none unless it is told to) or a day has passed; nothing is read twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from omnimemory.errors import SourceError
from omnimemory.sources.history import jsonl
from omnimemory.sources.history.entry import LAST_SECOND, MAX_COMMAND_BYTES, Entries
from omnimemory.sources.history.found import HistoryRead, RowCursor
from omnimemory.sources.history.layouts import Layout, layout_of

__all__ = ["read_database"]

_LOCK_SECONDS = 2.0
_ABANDONED_SECONDS = 86_400.0
_MOST_WAITING = 1000
_TEXT_EXPORT = "Export it as text, for example: atuin history list --cmd-only > FILE"


@dataclass(slots=True)
class _Rows:
    """What one read found: columns for the entries, and the rows that wait."""

    entries: Entries
    last: int
    waiting: list[int]
    oversize: int = 0
    unreadable: int = 0


def read_database(path: Path, *, shell: str | None, cursor: object, key: bytes, now: float) -> HistoryRead:
    """Read the rows of a history database that are new since ``cursor``; ``now`` is in seconds since the epoch.

    Raises ``SourceError`` when it is locked, damaged, or no history that is known.
    """
    with _opened(path) as sql:
        layout = _layout(sql, path, shell)
        known = cursor if isinstance(cursor, RowCursor) and cursor.shell == layout.name else None
        if known and _digest(sql, layout, known.offset, key) != known.digest:
            known = None
        rows = _rows(sql, layout, known, now)
        digest = _digest(sql, layout, rows.last, key)
    first = known.count if known else 0
    after = RowCursor(layout.name, rows.last, first + len(rows.entries), digest, tuple(rows.waiting))
    return HistoryRead(
        path,
        layout.name,
        rows.entries,
        first,
        rewritten=cursor is not None and known is None,
        unchanged=known == after and not rows.oversize and not rows.unreadable,
        cursor=after,
        oversize=rows.oversize,
        unreadable=rows.unreadable,
    )


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a read-only connection within one snapshot; what SQLite says becomes a ``SourceError``."""
    try:
        with closing(_connect(path)) as sql:
            sql.text_factory = lambda raw: raw.decode("utf-8", "replace")
            sql.execute("PRAGMA query_only = 1")
            sql.execute("BEGIN")
            yield sql
    except sqlite3.DatabaseError as error:
        raise _source_error(path, error) from error


def _connect(path: Path) -> sqlite3.Connection:
    name = f"file:{quote(os.fsencode(os.path.realpath(path)))}?mode=ro"
    sql = sqlite3.connect(name, uri=True, timeout=_LOCK_SECONDS, isolation_level=None)
    try:
        sql.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
    except sqlite3.OperationalError as error:
        sql.close()
        log = Path(f"{os.path.realpath(path)}-wal")
        # A log's shared memory cannot be made in a folder that may not be written; without a log none is needed.
        if "unable to open" not in str(error) or (log.exists() and log.stat().st_size):
            raise
        return sqlite3.connect(f"{name}&immutable=1", uri=True, isolation_level=None)
    return sql


def _source_error(path: Path, error: sqlite3.DatabaseError) -> SourceError:
    text = str(error)
    if "locked" in text or "busy" in text:
        return SourceError(f"{path} is locked by another program. Nothing was read of it: run it again in a while.")
    if "unable to open" in text:
        return SourceError(
            f"{path} is an SQLite database with a log in a folder that may not be written, so it cannot be read. "
            "Copy both files elsewhere and give the copy."
        )
    return SourceError(f"{path} is an SQLite database that is damaged ({text}). {_TEXT_EXPORT}")


def _layout(sql: sqlite3.Connection, path: Path, shell: str | None) -> Layout:
    names = [name for (name,) in sql.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    tables = {
        name: frozenset(column for (column,) in sql.execute("SELECT name FROM pragma_table_info(?)", (name,)))
        for name in names
    }
    layout = layout_of(tables)
    if layout is None:
        raise SourceError(
            f"{path} is an SQLite database, but no history of atuin, nushell or IPython as they are known here."
            f" {_TEXT_EXPORT}"
        )
    if shell not in (None, layout.name):
        raise SourceError(f"{path} is a history of {layout.name}, not of {shell}. Give it without --shell.")
    return layout


def _select(sql: sqlite3.Connection, layout: Layout) -> str:
    columns = sql.execute("SELECT name FROM pragma_table_info(?)", (layout.table,))
    return layout.select(frozenset(name for (name,) in columns))


def _digest(sql: sqlite3.Connection, layout: Layout, rowid: int, key: bytes) -> str:
    """Return a keyed digest of what never changes in a row; of nothing if it is gone."""
    row = sql.execute(f"{_select(sql, layout)} AND rowid = ?", (rowid,)).fetchone() if rowid else ()
    said = json.dumps([rowid, *row[1:3], row[6]] if row else [rowid], default=repr)
    return hashlib.blake2b(
        said.encode("utf-8", "replace"), key=hashlib.blake2b(key).digest(), digest_size=32
    ).hexdigest()


def _rows(sql: sqlite3.Connection, layout: Layout, known: RowCursor | None, now: float) -> _Rows:
    select = _select(sql, layout)
    waited = list(known.waiting) if known else []
    marks = ",".join("?" * len(waited))
    after = known.offset if known else -(2**63)
    newest = sql.execute(f"SELECT coalesce(max(rowid), 0) FROM {layout.table}").fetchone()[0]  # noqa: S608 - a constant
    found = _Rows(Entries(layout.name, event=jsonl.event), max(int(newest), 0), [])
    query = f"{select} AND (rowid > ? OR rowid IN ({marks})) ORDER BY rowid"
    going_on = _last_rows(sql, select) if _has_running(sql, query, after, waited) else {}
    for row in sql.execute(query, (after, *waited)):
        rowid, session, running = row[0], row[6], row[8]
        recent = isinstance(row[2], float) and now - row[2] < _ABANDONED_SECONDS
        gone_on = session is not None and going_on.get(session) != rowid
        if running and recent and not gone_on and len(found.waiting) < _MOST_WAITING:
            found.waiting.append(rowid)
        else:
            _add(found, row)
    return found


def _has_running(sql: sqlite3.Connection, query: str, after: int, waited: list[int]) -> bool:
    return any(row[8] for row in sql.execute(query, (after, *waited)))


def _last_rows(sql: sqlite3.Connection, select: str) -> dict[Any, int]:
    """Return the last row of each session: behind it a command may still be running."""
    last: dict[Any, int] = {}
    for row in sql.execute(f"{select} ORDER BY rowid"):
        last[row[6]] = row[0]
    return last


def _add(found: _Rows, row: tuple[Any, ...]) -> None:
    rowid, command, timestamp, duration, cwd, exit_code, session, host, _ = row
    if isinstance(command, bytes):
        command = command.decode("utf-8", "replace")
    if not isinstance(command, str):
        found.unreadable += 1
        return
    said = {"command": command, "cwd": cwd, "exit_code": exit_code, "session": session, "host": host}
    kept = {name: value for name, value in said.items() if isinstance(value, str | int)}
    raw = json.dumps(kept, ensure_ascii=False).encode("utf-8", "replace")
    when = timestamp if isinstance(timestamp, float) and 0 < timestamp <= LAST_SECOND else None
    took = duration if isinstance(duration, float) and duration >= 0 else None
    if not found.entries.add((raw, when, took, rowid, rowid, True)):
        found.oversize += len(raw) > MAX_COMMAND_BYTES
