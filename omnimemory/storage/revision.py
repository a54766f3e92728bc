"""The revision of a catalog, read without touching anything.

Whoever opens a catalog in the usual way folds its log in when it closes. One that a newer version wrote must stay as it
is to the last byte, so its revision is read from the file alone. Migrations fold the log in before the file takes its
name: what the file says is the revision.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

__all__ = ["written_revision"]


def written_revision(path: Path, tables: Sequence[str]) -> str | None:
    """Return the revision that a catalog with these tables has, or ``None`` where its file alone does not show that."""
    address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "alembic_version" not in names:  # a view of that name may never end
                return None
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.Error, UnicodeDecodeError):  # the latter: a name in the schema that was damaged
        return None
    return str(row[0]) if row and names.issuperset(tables) else None
