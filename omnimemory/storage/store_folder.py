"""A store's folder: made private, opened, measured."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from omnimemory.errors import StoreError
from omnimemory.storage.catalog import Catalog

__all__ = ["bytes_under", "open_catalog"]


def open_catalog(path: Path) -> Catalog:
    """Open the catalog of the store at ``path``, made if it does not exist. Raises :class:`StoreError`."""
    file = path / "catalog.sqlite3"
    if not file.exists() and (path / "index").is_dir():
        raise StoreError(
            f"{path} has an index but its catalog is gone ({file.name}). The catalog is the truth: restore it from a "
            f"backup, or delete {path} and ingest again."
        )
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = path.stat()
        if status.st_uid == os.getuid() and status.st_mode & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise StoreError(f"The store {path} cannot be made: {error.strerror}. Choose another with --store.") from error
    return Catalog(file)


def bytes_under(path: Path) -> int:
    """Return the bytes of all files below a folder."""
    size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # SQLite's and Chroma's files come and go
                size += Path(folder, name).stat().st_size
    return size
