"""Opening the index, and rebuilding it from the catalog where it cannot be trusted (``questioning.py`` tells).

A rebuild fills a new folder and switches in one transaction; no text is embedded again.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from omnimemory.errors import IndexDamagedError
from omnimemory.faults import reach
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.drain import DrainOptions, drain, item_tables
from omnimemory.storage.foreign import refuse_foreign_folder, remove_tree
from omnimemory.storage.generations import Generations
from omnimemory.storage.index import ChromaIndex
from omnimemory.storage.questioning import trusted, what_is_missing
from omnimemory.storage.room import disk_errors, index_room, require_room

__all__ = [
    "open_index",
    "rebuild",
    "worn",
]

WORN_SHARE = 0.2
WORN_ROWS = 1000


def rebuild(store: Path, catalog: Catalog, options: DrainOptions) -> int:
    """Make a new generation from the catalog, switch to it, remove the others; return its number.

    The caller holds the index lock and has no index open. When it fails, everything is as it was before.
    """
    require_room(store, _bytes_of_all(catalog, options), "a new index")
    generations = Generations(catalog)
    generation = generations.begin()
    directory = generations.directory(store, generation)
    refuse_foreign_folder(directory.parent)
    remove_tree(directory)  # of a catalog that was replaced by a backup, say: nothing of it belongs here
    try:
        with disk_errors(directory):
            reach("rebuild.fill")
            _fill(directory, catalog, generation, options)
            reach("rebuild.switch")
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)  # half an index would fill the disk for nothing
        raise
    generations.activate(generation)
    _remove_others(directory)
    return generation


def _begin_empty(store: Path, generations: Generations) -> int:
    """Make the first generation. Nothing has to stay searchable in an older one, so it need not be filled first."""
    generation = generations.begin_empty()
    directory = generations.directory(store, generation)
    refuse_foreign_folder(directory.parent)
    remove_tree(directory)  # as in a rebuild: nothing of it belongs here
    return generation


def _index(directory: Path, options: DrainOptions) -> ChromaIndex:
    return ChromaIndex(directory, ef_search=options.ef_search, documents=options.documents, sync_rows=options.sync_rows)


def _bytes_of_all(catalog: Catalog, options: DrainOptions) -> int:
    lengths = "(SELECT coalesce(sum(length(text)), 0) FROM {})"
    texts = f"SELECT {lengths.format('chunks')} + {lengths.format('commands')}"
    vectors = catalog.rows(
        "SELECT s.dim, (SELECT count(*) FROM vectors v WHERE v.collection_id = c.id) "
        "FROM collections c JOIN spaces s ON s.id = c.space_id WHERE c.name NOT LIKE '%:%'"
    )
    return sum(index_room(count, dim, 0) for dim, count in vectors) + index_room(
        0, 0, catalog.value(texts) if options.documents else 0
    )


def _remove_others(directory: Path) -> None:
    """Remove what other generations left; what cannot be removed now goes with the next opening."""
    with contextlib.suppress(OSError):
        reach("rebuild.remove")
        refuse_foreign_folder(directory.parent)
        for other in directory.parent.iterdir():
            if other != directory and other.name.isdecimal() and other.is_dir():
                remove_tree(other)


def _fill(directory: Path, catalog: Catalog, generation: int, options: DrainOptions) -> None:
    index = _index(directory, options)
    try:
        drain(catalog, index, generation, options.batch_size)
        index.close()
    except BaseException:
        index.abandon()
        raise


def worn(catalog: Catalog) -> bool:
    """Return whether deleted items fill so much of the index that a rebuild pays."""
    return any(
        dead >= WORN_ROWS and dead > WORN_SHARE * (dead + living) for dead, living in Generations(catalog).tombstones()
    )


def open_index(store: Path, catalog: Catalog, options: DrainOptions) -> tuple[ChromaIndex, int]:
    """Open the active generation (the caller holds the lock), rebuilding it when it cannot be trusted.

    Returns the open index and its generation.
    """
    generations = Generations(catalog)
    active = generations.active()
    if active is None:
        active = _begin_empty(store, generations)
    elif not trusted(store, catalog, active):
        active = rebuild(store, catalog, options)
    directory = generations.directory(store, active)
    try:
        index = _index(directory, options)
        _check_counts(catalog, index, active)
    except IndexDamagedError:
        active = rebuild(store, catalog, options)
        directory = generations.directory(store, active)
        index = _index(directory, options)
    _remove_others(directory)  # what a rebuild that was killed left behind
    return index, active


def _check_counts(catalog: Catalog, index: ChromaIndex, generation: int) -> None:
    """Raise :class:`IndexDamagedError` if the index has lost rows, or the catalog what it knows of the index."""
    for table in item_tables(catalog):
        complaint = what_is_missing(catalog, index, generation, table)
        if complaint:
            index.abandon()
            raise IndexDamagedError(f"The index is not complete ({complaint}); it will be rebuilt.")
