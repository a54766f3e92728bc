"""What is derived, made anew: the index from the catalog, the cache's rows from its vectors, modes from nothing."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from omnimemory.care.cache_checks import look_into_cache
from omnimemory.care.folder_checks import open_to_others
from omnimemory.care.index_checks import held_index, index_complaint, stale_folders
from omnimemory.care.outcome import Deed
from omnimemory.care.subject import Subject
from omnimemory.config import Settings
from omnimemory.storage.cache import EmbeddingCache
from omnimemory.storage.cache_folder import cache_file
from omnimemory.storage.cache_inspection import begin_anew, remove_rows
from omnimemory.storage.catalog import Catalog, Collection
from omnimemory.storage.consistency import ITEM_TABLES, embedded_texts
from omnimemory.storage.generations import Generations
from omnimemory.storage.rebuild import rebuild
from omnimemory.storage.vectors import vectors_of
from omnimemory.wiring import embedding_cache, store_options

__all__ = ["mend_cache", "mend_index", "mend_modes"]

_WAIT = 5.0


def mend_modes(settings: Settings) -> list[Deed]:
    """Close the store and the cache to other users."""
    done = []
    for folder in (settings.store.path, settings.cache.path):
        opened = open_to_others(folder)
        for path in opened:
            path.chmod(0o700 if path.is_dir() else 0o600)
        if opened:
            done.append(Deed("files", len(opened), f"closed to other users below {folder}"))
    return done


def mend_index(subject: Subject) -> list[Deed]:
    """Make the index anew if it is damaged or gone. Raises :class:`StoreBusyError` while somebody has it open."""
    catalog, settings = subject.catalog, subject.settings
    if catalog is None or not settings.index.enabled:
        return []
    active = Generations(catalog).active()
    if active is None and not stale_folders(subject.path, None):
        return []  # there was none: the next ingest makes it when it pays
    with held_index(subject.path, wait=_WAIT):
        complaint = "it was given up" if active is None else index_complaint(subject, active)
        if complaint is None:
            return []
        generation = rebuild(subject.path, catalog, store_options(settings).drain)
    rows = Generations(catalog).rows()
    return [Deed("index", rows, f"rows brought into a new index, generation {generation}, without embedding anything")]


def mend_cache(subject: Subject) -> list[Deed]:
    """Remove damaged rows, begin a broken file anew, and give the cache what this store has of it."""
    settings = subject.settings
    cache = embedding_cache(settings)
    if cache is None:
        return []
    done = []
    with closing(cache):
        if cache_file(settings.cache.path).exists():
            done += _cleaned(subject)
        if subject.catalog is not None and not settings.cache.size_limit:
            given = sum(
                _give(cache, subject.catalog, collection)
                for collection in subject.catalog.collections()
                if collection.name in ITEM_TABLES
            )
            if given:
                done.append(Deed("cache", given, "vectors given to the cache"))
    return done


def _cleaned(subject: Subject) -> list[Deed]:
    folder: Path = subject.settings.cache.path
    look = look_into_cache(subject)
    if look.broken:
        kept = begin_anew(folder, look.broken)
        return [Deed("cache", 1, f"a new file begun; the broken one is {kept}")]
    if look.refused:
        remove_rows(folder, look.refused)
        return [Deed("cache", len(look.refused), "damaged rows removed")]
    return []


def _give(cache: EmbeddingCache, catalog: Catalog, collection: Collection) -> int:
    """Put the vectors of a collection into the cache that it does not have; return how many."""
    given = 0
    space = (collection.fingerprint, "document", collection.dim)
    for block in embedded_texts(catalog, collection):
        texts = [text for _, text in block]
        _, found = cache.get_many(*space, texts)
        absent = {text: item for (item, text), known in zip(block, found.tolist(), strict=True) if not known}
        if absent:
            vectors = vectors_of(catalog, collection, list(absent.values()))
            cache.put_many(*space, list(absent), [vectors[item] for item in absent.values()])
            given += len(absent)
    return given
