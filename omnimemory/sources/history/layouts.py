"""Histories that are kept in an SQLite database: what each program's tables are called and mean.

Sources: nushell, reedline src/history/sqlite_backed.rs; IPython, core/history.py; atuin, crates/atuin-client/src/
database.rs with its migrations. Each query gives the columns of :data:`COLUMNS`, in this order, by ``rowid``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from omnimemory.sources.history import nushell
from omnimemory.sources.history.histfile import data_folders, expand

__all__ = ["COLUMNS", "LAYOUTS", "Layout", "layout_of"]

COLUMNS = ("rowid", "command", "timestamp", "duration", "cwd", "exit_code", "session", "host", "running")
"""Times are in seconds; ``running`` is true while the row has no outcome yet."""

Tables = Mapping[str, frozenset[str]]
"""The columns of each table of a database."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One program's database. ``needs`` are tables and columns it cannot be without.

    ``select`` makes the query of all rows that are to be read, from the columns that the table has.
    """

    name: str
    table: str
    needs: Tables
    select: Callable[[frozenset[str]], str]
    default_paths: Callable[[Path, Mapping[str, str]], list[Path]]


def _nushell(has: frozenset[str]) -> str:
    running = "exit_status IS NULL AND duration_ms IS NULL AND start_timestamp IS NOT NULL"
    host = "hostname" if "hostname" in has else "NULL"
    return (
        "SELECT rowid, command_line, start_timestamp / 1e3, duration_ms / 1e3, cwd, exit_status, session_id, "  # noqa: S608 - of constants
        f"{host}, {running} FROM history WHERE true"
    )


def _ipython(has: frozenset[str]) -> str:
    text = "source_raw" if "source_raw" in has else "source"
    return f"SELECT rowid, {text}, NULL, NULL, NULL, NULL, session, NULL, 0 FROM history WHERE true"  # noqa: S608 - one of two names


def _atuin(has: frozenset[str]) -> str:
    # What was imported into atuin says so by its folder; nobody knows how it ended, or in which session it ran.
    # Hosts are written host:user.
    deleted = "deleted_at IS NULL" if "deleted_at" in has else "true"
    known = "duration >= 0 AND cwd <> 'unknown'"
    return (
        f"SELECT rowid, command, timestamp / 1e9, CASE WHEN {known} THEN duration / 1e9 END, nullif(cwd, 'unknown'), "  # noqa: S608 - of constants
        f"CASE WHEN {known} THEN exit END, CASE WHEN cwd <> 'unknown' THEN session END, hostname, "
        f"duration < 0 AND cwd <> 'unknown' FROM history WHERE {deleted}"
    )


def _ipython_paths(home: Path, environ: Mapping[str, str]) -> list[Path]:
    named = environ.get("IPYTHONDIR", "")
    folders = [expand(named, home)] if named else []
    return [folder / "profile_default" / "history.sqlite" for folder in (*folders, home / ".ipython")]


def _atuin_paths(home: Path, environ: Mapping[str, str]) -> list[Path]:
    named = environ.get("ATUIN_DB_PATH", "")
    return [
        *([expand(named, home)] if named else []),
        *(folder / "atuin" / "history.db" for folder in data_folders(home, environ)),
    ]


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        layout.name: layout
        for layout in (
            Layout(
                "nushell",
                "history",
                {"history": frozenset({"command_line", "start_timestamp", "session_id", "cwd", "exit_status"})},
                _nushell,
                nushell.default_paths,
            ),
            Layout(
                "atuin",
                "history",
                {"history": frozenset({"command", "timestamp", "duration", "exit", "cwd", "session", "hostname"})},
                _atuin,
                _atuin_paths,
            ),
            Layout(
                "ipython",
                "history",
                {"history": frozenset({"session", "line", "source"}), "sessions": frozenset({"session", "start"})},
                _ipython,
                _ipython_paths,
            ),
        )
    }
)


def layout_of(tables: Tables) -> Layout | None:
    """Return whose history a database is, ``None`` if nobody's that is known."""
    none: frozenset[str] = frozenset()
    for layout in LAYOUTS.values():
        if all(columns <= tables.get(name, none) for name, columns in layout.needs.items()):
            return layout
    return None
