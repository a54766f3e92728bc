"""A store's folder: made private, opened, measured."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from pathlib import Path

from omnimemory.errors import CatalogDamagedError, StoreError
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.seal import seal_file

__all__ = ["CATALOG", "bytes_under", "open_catalog", "store_exists"]

CATALOG = "catalog.sqlite3"

_OURS = (CATALOG, "index.lock")
_LOG = logging.getLogger("omnimemory")


def store_exists(path: Path) -> bool:
    """Return whether there is a store at ``path``, or what is left of one. Nothing is made or opened."""
    catalog = path / CATALOG
    return catalog.exists() or seal_file(catalog).exists() or (path / "index").is_dir()


def open_catalog(path: Path) -> Catalog:
    """Open the catalog of the store at ``path``, made if it does not exist. Raises :class:`StoreError`."""
    file = path / CATALOG
    if not file.exists() and (path / "index").is_dir():
        raise CatalogDamagedError(
            f"{path} has an index but its catalog is gone ({file.name}). The catalog is the truth: restore it from a "
            f"backup, or delete {path} and ingest again."
        )
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        _refuse_others(path)
        _make_private(path)
    except OSError as error:
        raise StoreError(f"The store {path} cannot be made: {error.strerror}. Choose another with --store.") from error
    return Catalog(file)


def _refuse_others(path: Path) -> None:
    owner = path.stat().st_uid
    if owner != os.geteuid():
        raise StoreError(
            f"The store {path} belongs to another user (uid {owner}), who could change it, and whom files made by you "
            "would lock out. Run this as its owner, or choose another folder with --store."
        )


def _make_private(path: Path) -> None:
    """Take away what group and others may do with the folder and our files in it: 0700 and 0600."""
    mode = path.stat().st_mode
    if mode & 0o022:
        _LOG.warning(
            "The store %s could be written by other users; it is closed to them now. If that was not meant, see what "
            "`omnimemory doctor` says.",
            path,
        )
    if mode & 0o077:
        with contextlib.suppress(OSError):  # a file system that is read-only or knows no modes
            path.chmod(0o700)
    for name in os.listdir(path):  # noqa: PTH208 - names are enough
        if name.startswith(_OURS):
            with contextlib.suppress(OSError):  # as above; or it is gone already
                status = Path(path, name).lstat()
                ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
                if ours and status.st_mode & 0o077:
                    Path(path, name).chmod(0o600)


def bytes_under(path: Path) -> int:
    """Return the bytes of all files below a folder."""
    size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # SQLite's and Chroma's files come and go
                size += Path(folder, name).lstat().st_size
    return size
