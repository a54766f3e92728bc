"""What is looked after: a store, open or as far as it can be opened, with the settings it is used with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from omnimemory.config import Settings
from omnimemory.errors import CatalogDamagedError, SchemaError, StoreError
from omnimemory.storage.catalog import HEAD, Catalog
from omnimemory.storage.revision import written_revision
from omnimemory.storage.seal import Record, look_at, read_seal
from omnimemory.storage.store import Store
from omnimemory.storage.store_folder import CATALOG, store_exists

__all__ = ["Subject", "opened_subject"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A store as it was found. ``catalog`` is ``None`` if it cannot be opened, because of ``refusal``.

    ``refusal`` also tells why a catalog that can be opened may not be believed. ``revision`` is that of its schema,
    if the file shows it. ``seal`` and ``fits`` are its seal
    and whether the file was as the seal says, both from before anything was opened.
    """

    settings: Settings
    path: Path
    exists: bool
    catalog: Catalog | None = None
    refusal: StoreError | None = None
    revision: str | None = None
    seal: Record | None = None
    fits: bool = True
    store: Store | None = None

    @property
    def file(self) -> Path:
        """The catalog's file."""
        return self.path / CATALOG


@contextmanager
def opened_subject(settings: Settings, store: Store | None = None) -> Iterator[Subject]:
    """Give the store of these settings, as an open ``store`` if there is one, and close what was opened for it.

    Nothing is made, and a catalog of another revision is not migrated.
    """
    path = settings.store.path if store is None else store.path
    file = path / CATALOG
    seal, look = read_seal(file), look_at(file)
    fits = seal is not None and seal.look == look
    if store is not None:
        yield Subject(settings, path, True, store.catalog, revision=HEAD, seal=seal, fits=True, store=store)
        return
    revision = written_revision(file, ("meta", "spaces", "vectors")) if file.exists() else None
    catalog, refusal = _opened(path, file, revision)
    try:
        yield Subject(settings, path, store_exists(path), catalog, refusal, revision, seal, fits)
    finally:
        if catalog is not None:
            catalog.close()


def _opened(path: Path, file: Path, revision: str | None) -> tuple[Catalog | None, StoreError | None]:
    if not file.exists():
        gone = f"{file} is gone: the catalog is the truth, and nothing can be made of what is left without it."
        return None, CatalogDamagedError(gone) if store_exists(path) else None
    if revision not in (None, HEAD):
        age = "newer" if str(revision) > HEAD else "older"
        return None, SchemaError(f"{file} has the {age} schema {revision}; this version works with {HEAD}.")
    try:
        return Catalog(file), None
    except SchemaError as error:
        return None, error
    except StoreError as error:
        return _unchecked(file), error


def _unchecked(file: Path) -> Catalog | None:
    try:
        return Catalog(file, check=False)
    except StoreError:
        return None
