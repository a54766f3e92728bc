"""A copy of a store, made while others write to it: SQLite's backup API under one read transaction.

The transaction is what makes it end: without one SQLite starts again whenever somebody else commits
(sqlite.org/c3ref/backup_finish.html). The copy holds the catalog, which is the truth, and nothing derived. It is made
under another name and checked, then takes its own name in one rename.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from omnimemory.errors import CatalogDamagedError, StoreBusyError, StoreError, StoreFullError
from omnimemory.records import Progress
from omnimemory.storage.backups import CATALOG, confirm_backup, draft_of, record_backup
from omnimemory.storage.catalog import catalog_errors
from omnimemory.storage.lock import IndexLock
from omnimemory.storage.room import LEAST_ROOM, disk_errors, full_message, require_room
from omnimemory.storage.store import Store
from omnimemory.storage.tombstones import forgets
from omnimemory.transfer.reports import BackupReport

__all__ = ["backup"]

_PAGES = 1000
_COUNTED = ("sources", "chunks", "events", "commands", "vectors")
ProgressCallback = Callable[[Progress], None]


def backup(store: Store, target: str | Path, *, progress: ProgressCallback | None = None) -> BackupReport:
    """See :meth:`omnimemory.memory.Memory.backup`."""
    began = time.monotonic()
    path = Path(target).expanduser().resolve()
    _check_place(store.path, path)
    record_backup(store.path, path)
    draft = draft_of(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir(mode=0o700, exist_ok=True)
        _refuse_foreign_draft(draft)
        # The lock file of the index: it belongs into a store, so it can stay where it is when the folder is renamed.
        lock = IndexLock(draft / "index.lock")
        if not lock.acquire():
            raise StoreBusyError(f"Process {lock.holder()} is making a backup at {path} already. Wait for it to end.")
        try:
            counts, moment = _fill(store, draft, progress)
            size = (draft / CATALOG).stat().st_size
            _take_name(draft, path)
            _refuse_forgotten(store, path, moment)
            confirm_backup(store.path, path)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        finally:
            lock.release()
    return BackupReport(str(path), **counts, bytes=size, seconds=round(time.monotonic() - began, 3))


def _check_place(store: Path, path: Path) -> None:
    if path.is_relative_to(store):
        raise StoreError(f"{path} is inside of the store {store}, and would go with it. Choose a folder elsewhere.")
    if not path.exists():
        return
    if not path.is_dir():
        raise StoreError(f"{path} is no folder. A backup is a folder: choose a name that is not taken.")
    if any(path.iterdir()):
        raise StoreError(f"{path} is not empty, and a backup never overwrites anything. Choose another folder.")


def _refuse_foreign_draft(draft: Path) -> None:
    names = [item.name for item in draft.iterdir() if item.name != "index.lock" and not item.name.startswith(CATALOG)]
    if names or draft.is_symlink():
        raise StoreError(
            f"{draft}, where the backup would be made, is not the rest of an earlier one "
            f"({', '.join(names) or 'a link'}). Choose another name."
        )


def _refuse_forgotten(store: Store, path: Path, moment: int) -> None:
    """Remove the backup if something was forgotten since ``moment``: what forgets from now on knows of it."""
    if forgets(store.catalog) != moment:
        shutil.rmtree(path, ignore_errors=True)
        raise StoreBusyError("Something was forgotten while the backup was made, so it was removed. Make it again.")


def _fill(store: Store, draft: Path, progress: ProgressCallback | None) -> tuple[dict[str, int], int]:
    """Copy the catalog into ``draft``; return what it holds, and how often something had been forgotten by then."""
    catalog = draft / CATALOG
    for left in draft.glob(f"{CATALOG}*"):  # of a backup that was killed
        left.unlink()
    os.close(os.open(catalog, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    with store.catalog.snapshot() as source:
        require_room(draft, _bytes(source), "the backup")
        counts, moment = _counts(source), forgets(source)
        with contextlib.closing(sqlite3.connect(catalog, isolation_level=None)) as copy:
            _copy(source, copy, catalog, progress)
    with catalog_errors(catalog), contextlib.closing(sqlite3.connect(catalog, isolation_level=None)) as copy:
        _check(store, copy, counts)
        # The index is not copied: whoever opens the copy makes it anew.
        copy.execute("PRAGMA foreign_keys = ON")
        copy.execute("DELETE FROM generations")
        copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    _make_durable(catalog)
    return counts, moment


def _bytes(connection: sqlite3.Connection) -> int:
    pages, size = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "page_size"))
    return pages * size


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    return {table: int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in _COUNTED}  # noqa: S608 - our own names


def _copy(
    source: sqlite3.Connection, copy: sqlite3.Connection, catalog: Path, progress: ProgressCallback | None
) -> None:
    def tell(_: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(Progress("backup", total - remaining, total))

    try:
        source.backup(copy, pages=_PAGES, progress=tell)
    except sqlite3.OperationalError as error:
        if "full" in str(error) or "I/O" in str(error):
            raise StoreFullError(full_message(catalog, _bytes(source) + LEAST_ROOM)) from error
        raise


def _check(store: Store, copy: sqlite3.Connection, counts: dict[str, int]) -> None:
    try:
        result = str(copy.execute("PRAGMA quick_check(1)").fetchone()[0])
        sound = result == "ok" and _counts(copy) == counts
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        result, sound = str(error), False
    if not sound:
        raise CatalogDamagedError(
            f"The copy of {store.catalog.path} is not sound ({result}), so the catalog is likely damaged. No backup "
            "was made. Look at the store with: omnimemory doctor"
        )


def _make_durable(catalog: Path) -> None:
    for path, kind in ((catalog, os.O_RDONLY), (catalog.parent, os.O_RDONLY | os.O_DIRECTORY)):
        descriptor = os.open(path, kind | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _take_name(draft: Path, path: Path) -> None:
    try:
        draft.rename(path)  # onto an empty folder at most: anything else is refused by the system
    except OSError as error:
        if path.exists():
            raise StoreError(f"{path} was made by somebody else meanwhile. Choose another folder.") from error
        raise
