"""Getting rid of bytes: cache, index, backups, and at last the catalog's own file.

That something is forgotten is one commit; that its bytes go from every file is done after it, place by place, each as
often as it takes. The places are noted in the catalog by that same commit and struck off one by one, so whoever comes
after a process that was killed, or after another one that held a file, goes on where that ended::

    forget, scrub -- one commit: rows, tombstones, purges --> finish(): cache, index, backups, catalog
    forget --finish, the next forget, scrub or maintain ----> finish()

The catalog comes last, because what is noted for the others is derived from what was forgotten.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from omnimemory.config import Settings
from omnimemory.errors import OmniMemoryError, StoreBusyError, StoreError
from omnimemory.faults import reach
from omnimemory.forgetting.backups import catalog_of, forget_in_backup, merge_keywords, rewrite_file
from omnimemory.forgetting.report import Unpurged
from omnimemory.forgetting.secrets import scrub_backup
from omnimemory.storage.backups import known_backups
from omnimemory.storage.cache_purge import purge_cache
from omnimemory.storage.catalog import catalog_errors
from omnimemory.storage.connections import Connections
from omnimemory.storage.lock import IndexLock
from omnimemory.storage.store import Store
from omnimemory.storage.tombstones import Purge, add_purges, end_purges, purges, read_tombstones
from omnimemory.wiring import redactor_of

__all__ = ["WAIT_SECONDS", "Purged", "finish", "note_purges"]

WAIT_SECONDS = 5.0
_PLACES = ("cache", "index", "backup", "scrub", "catalog")


@dataclass(frozen=True, slots=True)
class Purged:
    """How many backups were rewritten, and what could not be purged yet."""

    backups: int = 0
    unpurged: tuple[Unpurged, ...] = ()


def note_purges(sql: sqlite3.Connection, store: Store, keys: bytes, *, backups: str = "backup") -> None:
    """Note every place that has to be purged after this transaction; ``keys`` are those of the cache.

    ``backups`` is what is done to them: "backup" takes out what has a tombstone, "scrub" what the rules redact.
    """
    known = [(backups, str(path), b"") for path in known_backups(store.path)]
    add_purges(sql, [("cache", "", keys), ("index", "", b""), *known, ("catalog", backups, b"")])


def finish(store: Store, settings: Settings, *, tick: Callable[[], None] | None = None) -> Purged:
    """Purge whatever is still to be purged.

    Nothing that goes wrong at one place keeps the others from being purged: it is in the answer, and is tried again
    the next time. ``tick`` is called a few times a second while the index is made anew.
    """
    waiting = purges(store.catalog)
    if not waiting:
        return Purged()
    _note_again(store, waiting)
    task = _Task(store, settings, tick)
    unpurged: list[Unpurged] = []
    for place in _PLACES:
        for detail, same in _by_detail(purges(store.catalog), place).items():
            problem = task.problem(place, detail, b"".join(purge.data for purge in same))
            if problem is None:
                end_purges(store.catalog, same)
            else:
                unpurged.append(problem)
    return Purged(task.backups, tuple(unpurged))


def _by_detail(waiting: Iterable[Purge], place: str) -> dict[str, list[Purge]]:
    found: dict[str, list[Purge]] = {}
    for purge in waiting:
        if purge.place == place:
            found.setdefault("" if place == "catalog" else purge.detail, []).append(purge)
    return found


def _note_again(store: Store, waiting: Iterable[Purge]) -> None:
    """Note the backups that were made since the commit, because they may have been begun before it.

    And the catalog, so that what is struck off now does not stay behind in its file.
    """
    noted = {(purge.place, purge.detail) for purge in waiting}
    kinds = [detail for place, detail in noted if place == "catalog"]
    new = [(kind, str(path)) for kind in kinds for path in known_backups(store.path)]
    with store.catalog.transaction() as sql:
        add_purges(sql, [(*place, b"") for place in new if place not in noted])
        if not kinds:
            add_purges(sql, [("catalog", "", b"")])


@dataclass(slots=True)
class _Task:
    """One run of :func:`finish`."""

    store: Store
    settings: Settings
    tick: Callable[[], None] | None
    backups: int = 0

    def problem(self, place: str, detail: str, data: bytes) -> Unpurged | None:
        """Purge one place; return what kept it from that."""
        try:
            reach("purge.backup" if place == "scrub" else f"purge.{place}")
            if place == "cache":
                purge_cache(self.settings.cache.path, data)
            elif place == "index":
                self._purge_index()
            elif place == "catalog":
                self._purge_catalog()
            else:
                self._purge_backup(place, Path(detail))
        except (OmniMemoryError, OSError) as error:
            path = detail or str(self.settings.cache.path if place == "cache" else self.store.path)
            busy = isinstance(error, StoreBusyError)
            return Unpurged("backup" if place == "scrub" else place, path, str(error), busy=busy)
        return None

    def _purge_index(self) -> None:
        """Let the index be made anew, and remove every other generation of it, whole or in parts."""
        lock = IndexLock(self.store.path / "index.lock")
        if self.store.options.index:
            with suppress(StoreError):  # it can be made at any time later; the old one goes in any case
                self.store.rebuild() if lock.holder() == os.getpid() else self.store.drain(self.tick)
        folder = self.store.path / "index"
        if not folder.is_dir():
            return
        if not lock.acquire(timeout=WAIT_SECONDS):
            raise StoreBusyError(f"the index is in use by process {lock.holder()}")
        try:
            active = str(self.store.generations.active())
            for path in folder.iterdir():
                if path.name != active:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        finally:
            lock.release()

    def _purge_backup(self, place: str, backup: Path) -> None:
        catalog = self.store.catalog
        if backup not in known_backups(self.store.path):
            return  # its owner says that it is gone, or another memory has taken its place
        if catalog_of(backup).exists() and catalog_of(backup).samefile(catalog.path):
            return  # a migration that was killed: this is the catalog itself, under its second name
        if place == "scrub":
            keep = self.settings.history.keep_secrets
            scrub_backup(backup, catalog, redactor_of(self.settings), keep=keep, wait=WAIT_SECONDS)
        else:
            forget_in_backup(backup, catalog, read_tombstones(catalog), wait=WAIT_SECONDS)
        self.backups += 1

    def _purge_catalog(self) -> None:
        path = self.store.catalog.path
        for kind in ("*.new*", "*.migrating*", "*.repairing*", "damaged*"):
            for draft in path.parent.glob(f"{path.name}.{kind}"):
                draft.unlink(missing_ok=True)  # copies that a process left when it was killed, or that repair set aside
        with self.store.catalog.transaction() as sql:
            merge_keywords(sql)
            sql.execute("UPDATE purges SET data = NULL WHERE place = 'catalog'")  # a change that the catalog counts
        own = Connections(path)
        try:
            with catalog_errors(path), own.use() as connection:
                rewrite_file(connection, WAIT_SECONDS)
        finally:
            own.close()
