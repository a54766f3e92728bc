"""Rebuilding the index from the catalog, and deciding whether the one on disk can be trusted.

A rebuild fills a new folder and switches in one transaction; no text is embedded again. Damaged HNSW
files can make chromadb segfault or answer with silently wrong neighbours. So a folder that is not what its last
clean close left is made anew, and one that was not closed cleanly is first opened and questioned in a child process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np

from omnimemory.errors import IndexDamagedError
from omnimemory.faults import reach
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.drain import DrainOptions, drain, item_tables
from omnimemory.storage.foreign import refuse_foreign_folder, remove_tree, tree_is_ours
from omnimemory.storage.generations import Generations
from omnimemory.storage.hnsw_files import broken_graph
from omnimemory.storage.index import ChromaIndex
from omnimemory.storage.index_version import is_own_version
from omnimemory.storage.items import ItemTable
from omnimemory.storage.manifest import changed_files, damaged_files
from omnimemory.storage.room import disk_errors, index_room, require_room
from omnimemory.storage.vectors import vectors_of

__all__ = [
    "child_environment",
    "main",
    "open_index",
    "python_child",
    "question",
    "rebuild",
    "trusted",
    "why_not_to_open",
    "worn",
]

WORN_SHARE = 0.2
WORN_ROWS = 1000
_SAMPLE = 64
_PART = 1000
_PROBE_SECONDS = 300
_MOST_NAMED = 5


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
        "FROM collections c JOIN spaces s ON s.id = c.space_id"
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


def trusted(store: Path, catalog: Catalog, generation: int) -> bool:
    """Return whether a generation's folder may be opened: made by this chromadb, and closed cleanly or found whole.

    The caller holds the index lock.
    """
    directory = Generations(catalog).directory(store, generation)
    if why_not_to_open(directory):
        return False
    return changed_files(directory) == [] or question(store, generation) is None


def why_not_to_open(directory: Path) -> str | None:
    """Return why nobody should open a folder, not even to ask what it holds; ``None`` if it may be opened."""
    if not directory.is_dir():
        return f"The index is gone: {directory} is not there."
    if not tree_is_ours(directory):
        return f"{directory} holds links, or what is not yours: it is not used."
    # What was changed after a clean close is damaged, or another Chroma client wrote to it: no question would tell
    # a lost link between two vectors.
    changed = changed_files(directory)
    changed = damaged_files(directory) if changed is None else changed
    if changed:
        named = ", ".join(changed[:_MOST_NAMED]) + ", ..." * (len(changed) > _MOST_NAMED)
        return f"The index was damaged, or changed by another Chroma client, since it was closed: {named}."
    if not is_own_version(directory):
        return "The index was made by another version of chromadb: it is not read."
    return None


def question(store: Path, generation: int) -> str | None:
    """Ask a folder in a child process for what it should hold; return what is wrong, ``None`` if it is whole.

    The caller holds the index lock. A folder that is whole has a manifest afterwards.
    """
    try:
        child = subprocess.run(
            python_child("omnimemory.storage.rebuild", str(store.resolve()), str(generation)),
            env=child_environment(),
            cwd=store,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it did not answer within {_PROBE_SECONDS} seconds"
    if child.returncode < 0:
        return f"it kills the process that opens it (signal {-child.returncode})"
    said = child.stderr.decode("utf-8", "replace").strip().splitlines()
    return None if child.returncode == 0 else (said[-1] if said else f"it ends with code {child.returncode}")


def python_child(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package in another process of the same Python.

    To be started in the store's directory: chromadb reads a ``.env`` where it is imported.
    """
    # -P: a module lying in the working directory must not be imported in place of the real one.
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment() -> dict[str, str]:
    """Return an environment in which such a child imports the same package as this process.

    One arena for all of Chroma's threads (glibc's default: eight for each core) kept the child 15 to 35 MB
    smaller, at the same speed. The child computes nothing with numpy, whose threads would only take room.
    """
    root = str(Path(__file__).resolve().parents[2])
    paths = [path for path in (os.environ.get("PYTHONPATH"),) if path]
    # An installed package is found anyway, and its folder must not come before the standard library.
    if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        paths.insert(0, root)
    return {"MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1", **os.environ, "PYTHONPATH": os.pathsep.join(paths)}


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
        complaint = _missing(catalog, index, generation, table)
        if complaint:
            index.abandon()
            raise IndexDamagedError(f"The index is not complete ({complaint}); it will be rebuilt.")


def _missing(catalog: Catalog, index: ChromaIndex, generation: int, table: ItemTable) -> str | None:
    expected = catalog.value(
        "SELECT count(*) FROM vectors WHERE collection_id = ? AND row <= ?",
        (table.collection.id, Generations(catalog).drained(generation, table.collection)),
    )
    if expected and index.count(table.collection) < expected:
        return f"{table.collection.name}: fewer than {expected} items are left"
    return None


def main(arguments: list[str]) -> int:
    """Question a generation: exit code 0 when what it took is there and finds itself."""
    store, generation = Path(arguments[0]), int(arguments[1])
    catalog = Catalog(store / "catalog.sqlite3")
    directory = Generations(catalog).directory(store, generation)
    try:
        _refuse_broken_graph(directory)
        index = ChromaIndex(directory)
        complaints = [_question(catalog, index, generation, table) for table in item_tables(catalog)]
        if any(complaints):
            index.abandon()
            sys.stderr.write("\n".join(filter(None, complaints)) + "\n")
            return 1
        index.close()
    except IndexDamagedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        catalog.close()
    return 0


def _refuse_broken_graph(directory: Path) -> None:
    complaint = broken_graph(directory)
    if complaint:
        raise IndexDamagedError(complaint)


def _question(catalog: Catalog, index: ChromaIndex, generation: int, table: ItemTable) -> str | None:
    """Return what is wrong with a collection, or ``None``.

    Counts show lost rows, the vectors show lost or garbled HNSW files (1,000 are read in 25 ms), searching for some
    of them shows a lost graph. The last is only a share: HNSW does not find every outlier of a sound index either.
    """
    name, collection = table.collection.name, table.collection
    complaint = _missing(catalog, index, generation, table)
    if complaint:
        return complaint
    row, drained = 0, Generations(catalog).drained(generation, collection)
    while payload := table.payload(row, _PART, drained):
        stored = index.vectors(collection, payload.ids)
        for public, vector in zip(payload.ids, payload.vectors, strict=True):
            if public not in stored or not np.allclose(stored[public], vector, atol=1e-3):
                return f"{name}: the vector of {public} is lost or garbled"
        row = payload.row
    held = "SELECT item FROM vectors WHERE collection_id = ? AND row <= ? ORDER BY random() LIMIT ?"
    sample = [item for (item,) in catalog.rows(held, (collection.id, drained, _SAMPLE))]
    vectors = vectors_of(catalog, collection, sample)
    # Equal texts have equal vectors, so the nearest may be a twin: what counts is that it is as near.
    found = sum(max(index.query(collection, vector, 1)[1], default=0.0) > 0.999 for vector in vectors.values())
    return f"{name}: {found} of {len(vectors)} vectors are found" if found < len(vectors) / 2 else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
