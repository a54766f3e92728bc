"""Which copies of a store exist, so that what is forgotten can be taken out of them as well.

A backup is written down before its first byte is copied: there is never one that nobody knows of. The list is
JSON Lines in the store's folder, one synchronised append for each backup. Backups that migrations make lie inside
the store's folder and are found there.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from omnimemory.errors import StoreError, StoreFullError

__all__ = ["CATALOG", "LIST", "confirm_backup", "draft_of", "known_backups", "record_backup"]

CATALOG = "catalog.sqlite3"
LIST = "backups.jsonl"
_MIGRATED = f"{CATALOG}.schema-*.backup"


def draft_of(backup: Path) -> Path:
    """Return the folder in which a backup is made before it takes its name; one that was killed leaves it behind."""
    return backup.with_name(f"{backup.name}.partial")


def record_backup(store_folder: Path, backup: Path) -> None:
    """Write down that a backup of the store is about to be made at ``backup``; returns once that is safe on disk.

    Raises :class:`StoreError` when it cannot be written.
    """
    _record(store_folder, backup, "begun")


def confirm_backup(store_folder: Path, backup: Path) -> None:
    """Write down that the backup at ``backup`` is complete; see :func:`record_backup`."""
    _record(store_folder, backup, "made")


def _record(store_folder: Path, backup: Path, state: str) -> None:
    file, entry = store_folder / LIST, (str(backup.expanduser().resolve()), state)
    try:
        if entry not in _recorded(file):
            _append(file, json.dumps(dict(zip(("path", "state"), entry, strict=True))))
    except OSError as error:
        kind = StoreFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreError
        raise kind(
            f"{file} cannot be written ({error.strerror}), and a backup that is not written down would never be "
            "reached by forget. Free some space or check its permissions."
        ) from error


def _append(file: Path, line: str) -> None:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, f"{chr(10) if torn else ''}{line}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _recorded(file: Path) -> list[tuple[str, str]]:
    """Return (path, state) of each line."""
    try:
        lines = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{file} cannot be read ({error.strerror}). Check its permissions.") from error
    # A line without its end was torn while it was written, so its backup was never begun.
    return [_entry(file, number, line) for number, line in enumerate(lines, 1) if line.endswith(b"}")]


def _entry(file: Path, number: int, line: bytes) -> tuple[str, str]:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        found = json.loads(line)
        if Path(found["path"]).is_absolute():
            return str(found["path"]), str(found["state"])
    raise StoreError(
        f"{file}, line {number}, is damaged: it should name a backup of this store. Put its path right or delete the "
        "line."
    )


def known_backups(store_folder: Path) -> list[Path]:
    """Return every copy of the store that this package made, oldest first, each once.

    A folder is a backup that opens as a store (its catalog is ``CATALOG`` in it); a file is a catalog, which a
    migration left in its old form. Backups of backups are among them. One that is not there at the moment is named
    as well: the disk it is on may be away. A folder where another store has taken the place of the backup is not.
    Raises :class:`StoreError` when the list is damaged.
    """
    found: dict[Path, None] = {}
    _collect(store_folder.expanduser().resolve(), found)
    return list(found)


def _collect(store: Path, found: dict[Path, None]) -> None:
    found.update(dict.fromkeys(sorted(store.glob(_MIGRATED))))
    for place, state in _recorded(store / LIST):
        backup = Path(place)
        for copy, due in ((backup, state == "made"), (draft_of(backup), False)):
            if copy not in found and (due or copy.exists()) and not _is_another(store, copy):
                found[copy] = None
                _collect(copy, found)


def _is_another(store: Path, backup: Path) -> bool:
    """Return whether the catalog at ``backup`` is certainly that of another memory: it has another key."""
    ours, theirs = _key(store), _key(backup)
    return ours is not None and theirs is not None and ours != theirs


def _key(store: Path) -> str | None:
    # Immutable: the key never changes, and a disk that cannot be written must still be readable.
    address = f"file:{quote(str(store / CATALOG))}?immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = 'key'").fetchone()
    except (sqlite3.Error, UnicodeDecodeError):
        return None
    return str(row[0]) if row else None
