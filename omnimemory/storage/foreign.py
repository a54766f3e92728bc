"""What lies under one of our names but is not ours: links, special files, files of another user.

SQLite, Chroma and this package open, lengthen, cut and delete files by name. Were a link put there (a store can
be an archive that somebody sent), they would do all that to a file somewhere else; a pipe would stop them for ever;
and what belongs to another user can be changed by that user at any moment.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import stat
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from omnimemory.errors import SchemaError, StoreError

__all__ = [
    "database_files",
    "refuse_foreign",
    "refuse_foreign_folder",
    "refuse_foreign_schema",
    "remove_tree",
    "tree_is_ours",
    "why_folder_is_foreign",
    "why_foreign",
]


def database_files(path: Path) -> list[Path]:
    """Return the files that SQLite uses for the database ``path``, whether they are there or not."""
    return [path, *(path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm", "-journal"))]


def why_foreign(path: Path, *, one_name: bool = False) -> str | None:
    """Return why a path is no ordinary file of this user; ``None`` if it is one, or not there.

    With ``one_name`` a file that has another name as well (a hard link) is foreign, too.
    """
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(status.st_mode):
        return "is a symbolic link"
    if not stat.S_ISREG(status.st_mode):
        return "is not a file"
    if one_name and status.st_nlink > 1:
        return "has a second name (a hard link)"
    return _why_not_ours(status)


def why_folder_is_foreign(path: Path) -> str | None:
    """Return why a path is no ordinary folder of this user; ``None`` if it is one, or not there."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(status.st_mode):
        return "is a symbolic link"
    return _why_not_ours(status) if stat.S_ISDIR(status.st_mode) else "is not a folder"


def _why_not_ours(status: os.stat_result) -> str | None:
    return None if status.st_uid == os.geteuid() else f"belongs to another user (uid {status.st_uid})"


def tree_is_ours(directory: Path) -> bool:
    """Return whether a folder and everything in it are ordinary files and folders of this user, each with one name."""
    if why_folder_is_foreign(directory):
        return False
    return not any(
        why_folder_is_foreign(Path(folder, name)) if name in folders else why_foreign(Path(folder, name), one_name=True)
        for folder, folders, files in os.walk(directory)
        for name in (*folders, *files)
    )


def remove_tree(path: Path) -> None:
    """Remove a folder with everything in it, or a link to one but nothing behind it; what cannot go stays."""
    if path.is_symlink():
        with contextlib.suppress(OSError):
            path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)  # follows no links


def refuse_foreign_folder(path: Path) -> None:
    """Raise :class:`StoreError` when this is there and no ordinary folder of this user."""
    why = why_folder_is_foreign(path)
    if why is not None:
        raise StoreError(
            f"{path} {why}: it is not used. Move it away, run this as its owner, or choose another folder with --store."
        )


def refuse_foreign(paths: Iterable[Path]) -> None:
    """Raise :class:`StoreError` for the first of these files that is not an ordinary one of this user."""
    for path in paths:
        why = why_foreign(path)
        if why is not None:
            raise StoreError(
                f"{path} {why}: it is not used. Put back the file that belongs there, run this as its owner, "
                "or choose another folder with --store."
            )


def refuse_foreign_schema(path: Path, sql: sqlite3.Connection) -> None:
    """Raise :class:`SchemaError` when a catalog has triggers or views that ``schema.sql`` does not make.

    They would run with every statement: rows vanish as they are written, or a query never ends.
    """
    found = sql.execute("SELECT type, name, sql FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchall()
    foreign = [f"the {kind} {name!r}" for kind, name, made in found if _words(made) not in _own_triggers()]
    if foreign:
        raise SchemaError(
            f"{path} holds {', '.join(foreign[:5])}, which this version of omnimemory does not make: somebody changed "
            "the catalog. Nothing was changed now. Restore a backup, or drop what was added with the sqlite3 command."
        )


@cache
def _own_triggers() -> frozenset[str]:
    schema = Path(__file__).with_name("schema.sql").read_text("utf-8")
    return frozenset(map(_words, re.findall(r"^CREATE TRIGGER\b.*?\bEND(?=;$)", schema, re.DOTALL | re.MULTILINE)))


def _words(statement: str) -> str:
    return " ".join(statement.split())
