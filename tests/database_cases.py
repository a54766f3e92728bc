"""Databases as atuin, nushell and IPython make them: their schemas, and rows of theirs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

__all__ = ["SCHEMAS", "insert", "make"]

SCHEMAS = {
    "atuin": (
        "CREATE TABLE history (id text primary key, timestamp integer not null, duration integer not null, "
        "exit integer not null, command text not null, cwd text not null, session text not null, "
        "hostname text not null, deleted_at integer, unique(timestamp, cwd, command))"
    ),
    "nushell": (
        "CREATE TABLE history (id integer primary key autoincrement, command_line text not null, start_timestamp "
        "integer, session_id integer, hostname text, cwd text, duration_ms integer, exit_status integer, "
        "more_info text) strict"
    ),
    "ipython": (
        "CREATE TABLE sessions (session integer primary key autoincrement, start timestamp, end timestamp, num_cmds "
        "integer, remark text);CREATE TABLE history (session integer, line integer, source text, source_raw text, "
        "PRIMARY KEY (session, line));CREATE TABLE output_history (session integer, line integer, output text, "
        "PRIMARY KEY (session, line))"
    ),
}


def make(path: Path, program: str, rows: Iterable[dict[str, Any]] = ()) -> Path:
    """Make the database of a program, with rows in its history."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as sql:
        sql.executescript(f"PRAGMA journal_mode = wal;{SCHEMAS[program]}")
    insert(path, rows)
    return path


def insert(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Add rows to the history of a database."""
    with closing(sqlite3.connect(path)) as sql, sql:
        for row in rows:
            marks = ", ".join(f":{name}" for name in row)
            sql.execute(f"INSERT INTO history ({', '.join(row)}) VALUES ({marks})", row)
