"""What the doctor looks at in the cache of vectors."""

from __future__ import annotations

from collections.abc import Iterator

from omnimemory.care.findings import NOTICE, WARNING, Finding
from omnimemory.care.subject import Subject
from omnimemory.errors import StoreError
from omnimemory.storage.cache_folder import cache_file
from omnimemory.storage.cache_inspection import CacheLook, inspect_cache
from omnimemory.storage.cache_rows import Scope
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.consistency import ITEM_TABLES, embedded_texts

__all__ = ["cache", "look_into_cache"]

REPAIR = "omnimemory repair"


def cache(subject: Subject) -> Iterator[Finding]:
    """Look through the cache's file, and compare the rows of this store's texts with their checksums."""
    settings = subject.settings.cache
    if not settings.enabled:
        return
    if not cache_file(settings.path).exists():
        if subject.exists:
            yield Finding("cache", NOTICE, f"There is no cache in {settings.path}; it is filled by use.", REPAIR)
        return
    look = look_into_cache(subject)
    if look.broken:
        message = f"The cache in {settings.path} is broken ({look.broken}). Nothing is answered from it."
        yield Finding("cache", WARNING, message, REPAIR)
    if look.refused:
        message = f"{len(look.refused):,} of {look.rows:,} rows of the cache are damaged; they are never answered from."
        yield Finding("cache", WARNING, message, REPAIR)
    if look.missing and not look.broken and not settings.size_limit:
        message = f"{look.missing:,} texts of this memory are not in the cache: another memory would embed them again."
        yield Finding("cache", NOTICE, message, REPAIR)


def look_into_cache(subject: Subject) -> CacheLook:
    """Compare the cache with the texts of this store that have vectors."""
    return inspect_cache(subject.settings.cache.path, _known(subject.catalog))


def _known(catalog: Catalog | None) -> Iterator[tuple[Scope, list[str]]]:
    if catalog is None:
        return
    try:
        for collection in catalog.collections():
            if collection.name in ITEM_TABLES:
                scope = Scope(collection.fingerprint, "document", collection.dim)
                for block in embedded_texts(catalog, collection):
                    yield scope, [text for _, text in block]
    except StoreError:
        return  # the catalog is damaged, which other checks tell
