"""Room that SQLite's files take and do not need: unused pages, logs, segments of the keyword indexes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from omnimemory.errors import StoreBusyError, StoreError
from omnimemory.storage.bytes_disk import BytesCache
from omnimemory.storage.cache_folder import FILE_ERRORS, cache_file, open_cache
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.room import require_room
from omnimemory.storage.verification import KEYWORD_TABLES

__all__ = [
    "Slack",
    "cache_slack",
    "catalog_slack",
    "keyword_segments",
    "merge_keywords",
    "shrink_cache",
    "shrink_catalog",
]

_WORTH_SHARE = 0.1
_WORTH_BYTES = 64 << 20


_PATIENCE = 2.0
"""Seconds to wait for who reads: the next maintenance folds the log in as well."""


@dataclass(frozen=True, slots=True)
class Slack:
    """Of a file: pages that hold nothing, all pages, bytes of a page, bytes of the log beside it."""

    unused: int = 0
    pages: int = 0
    page_bytes: int = 0
    log_bytes: int = 0

    @property
    def pays(self) -> bool:
        """Whether writing the file anew is worth it."""
        return self.unused > _WORTH_SHARE * self.pages or self.unused * self.page_bytes > _WORTH_BYTES

    @property
    def unused_bytes(self) -> int:
        """Bytes that hold nothing."""
        return self.unused * self.page_bytes


def _log_bytes(file: Path) -> int:
    with suppress(OSError):
        return file.with_name(f"{file.name}-wal").stat().st_size
    return 0


def catalog_slack(catalog: Catalog) -> Slack:
    """Return how much of the catalog's file holds nothing."""
    unused, pages, size = (
        int(catalog.value(f"PRAGMA {name}")) for name in ("freelist_count", "page_count", "page_size")
    )
    return Slack(unused, pages, size, _log_bytes(catalog.path))


def keyword_segments(catalog: Catalog) -> int:
    """Return how many segments the keyword indexes could do without."""
    return sum(
        max(0, int(catalog.value(f"SELECT count(DISTINCT segid) FROM {table}_idx")) - 1) for table in KEYWORD_TABLES
    )


def merge_keywords(catalog: Catalog) -> None:
    """Merge the segments of each keyword index into one."""
    for table in KEYWORD_TABLES:
        with catalog.transaction() as sql:
            sql.execute(f"INSERT INTO {table} ({table}) VALUES ('optimize')")


def shrink_catalog(catalog: Catalog, *, anew: bool) -> None:
    """Fold the log into the file and, with ``anew``, write it without its unused pages.

    Raises :class:`StoreBusyError` while another process reads or writes, :class:`StoreFullError` without room.
    """
    if anew:
        require_room(catalog.path, 2 * catalog.path.stat().st_size, "writing the catalog anew")
        catalog.rows("VACUUM")
    with catalog.waiting(_PATIENCE):
        ((busy, _, _),) = catalog.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    if busy:
        raise StoreBusyError("another process is reading the catalog: its log was not folded in")


def cache_slack(directory: Path) -> Slack:
    """Return how much of the cache's file holds nothing."""
    if not cache_file(directory).exists():
        return Slack()
    log = _log_bytes(cache_file(directory))  # opening it writes a little
    with _cache(directory) as file:
        unused, pages, size = (
            int(file.execute(f"PRAGMA {name}")[0][0]) for name in ("freelist_count", "page_count", "page_size")
        )
    return Slack(unused, pages, size, log)


def shrink_cache(directory: Path, *, anew: bool) -> None:
    """Fold the cache's log into its file and, with ``anew``, write that without its unused pages."""
    with _cache(directory) as file:
        if anew:
            require_room(directory, 2 * cache_file(directory).stat().st_size, "writing the cache anew")
            file.execute("VACUUM")
        ((busy, _, _),) = file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if busy:
        raise StoreBusyError("another process is reading the cache: its log was not folded in")


@contextmanager
def _cache(directory: Path) -> Iterator[BytesCache]:
    try:
        file, _ = open_cache(directory)
        try:
            yield file
        finally:
            file.disconnect()
    except FILE_ERRORS as error:
        raise StoreError(
            f"The cache in {directory} cannot be used ({error}). Mend it with: omnimemory repair"
        ) from error
