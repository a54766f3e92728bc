"""Rebuilding the index from the catalog, and deciding whether the one on disk can be trusted.

A rebuild fills a new folder and switches in one transaction; no text is embedded again. Damaged HNSW
files can make chromadb segfault or answer with silently wrong neighbours, so a folder that was not closed
cleanly is first opened and questioned in a child process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np

from omnimemory.errors import IndexDamagedError
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.drain import DrainOptions, drain, item_tables
from omnimemory.storage.generations import Generations
from omnimemory.storage.index import ChromaIndex, is_clean
from omnimemory.storage.items import ItemTable
from omnimemory.storage.vectors import vectors_of

__all__ = ["child_environment", "main", "open_index", "python_child", "rebuild", "trusted", "worn"]

WORN_SHARE = 0.2
WORN_ROWS = 1000
_SAMPLE = 64
_PROBE_SECONDS = 300


def rebuild(store: Path, catalog: Catalog, options: DrainOptions) -> int:
    """Make a new generation from the catalog, switch to it, remove the others; return its number.

    The caller holds the index lock and has no index open. When it fails, everything is as it was before.
    """
    generations = Generations(catalog)
    generation = generations.begin()
    directory = generations.directory(store, generation)
    try:
        _fill(directory, catalog, generation, options)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)  # half an index would fill the disk for nothing
        raise
    generations.activate(generation)
    _remove_others(directory)
    return generation


def _remove_others(directory: Path) -> None:
    for other in directory.parent.iterdir():
        if other != directory and other.is_dir():
            shutil.rmtree(other, ignore_errors=True)


def _fill(directory: Path, catalog: Catalog, generation: int, options: DrainOptions) -> None:
    index = ChromaIndex(directory, ef_search=options.ef_search, documents=options.documents)
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
    """Return whether a generation's folder may be opened: closed cleanly, or questioned and found whole."""
    directory = Generations(catalog).directory(store, generation)
    if not directory.is_dir():
        return False
    if is_clean(directory):
        return True
    try:
        probe = subprocess.run(
            python_child("omnimemory.storage.rebuild", str(store.resolve()), str(generation)),
            env=child_environment(),
            cwd=store,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return probe.returncode == 0


def python_child(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package in another process of the same Python.

    To be started in the store's directory: chromadb reads a ``.env`` where it is imported.
    """
    # -P: a module lying in the working directory must not be imported in place of the real one.
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment() -> dict[str, str]:
    """Return an environment in which such a child imports the same package as this process.

    One arena for all of Chroma's threads (glibc's default: eight for each core) kept the child 15 to 35 MB
    smaller, at the same speed.
    """
    root = str(Path(__file__).resolve().parents[2])
    paths = [path for path in (os.environ.get("PYTHONPATH"),) if path]
    # An installed package is found anyway, and its folder must not come before the standard library.
    if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        paths.insert(0, root)
    return {"MALLOC_ARENA_MAX": "1", **os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def open_index(store: Path, catalog: Catalog, options: DrainOptions) -> tuple[ChromaIndex, int]:
    """Open the active generation (the caller holds the lock), rebuilding it when it cannot be trusted.

    Returns the open index and its generation.
    """
    generations = Generations(catalog)
    active = generations.active()
    if active is None or not trusted(store, catalog, active):
        active = rebuild(store, catalog, options)
    directory = generations.directory(store, active)
    try:
        index = ChromaIndex(directory, ef_search=options.ef_search, documents=options.documents)
    except IndexDamagedError:
        active = rebuild(store, catalog, options)
        directory = generations.directory(store, active)
        index = ChromaIndex(directory, ef_search=options.ef_search, documents=options.documents)
    _remove_others(directory)  # what a rebuild that was killed left behind
    return index, active


def main(arguments: list[str]) -> int:
    """Question a generation: exit code 0 when what it took is there and finds itself."""
    store, generation = Path(arguments[0]), int(arguments[1])
    catalog = Catalog(store / "catalog.sqlite3")
    try:
        index = ChromaIndex(Generations(catalog).directory(store, generation))
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


def _question(catalog: Catalog, index: ChromaIndex, generation: int, table: ItemTable) -> str | None:
    """Return what is wrong with a collection, or ``None``.

    Counts show lost rows, the vectors of a sample show lost or garbled HNSW files, searching for them shows a
    lost graph. The last is only a share: HNSW does not find every outlier of a sound index either.
    """
    name, drained = table.collection.name, Generations(catalog).drained(generation, table.collection)
    held = "FROM vectors WHERE collection_id = ? AND row <= ?"
    bounds = (table.collection.id, drained)
    expected = int(catalog.value(f"SELECT count(*) {held}", bounds))
    if not expected:
        return None
    if index.count(table.collection) < expected:
        return f"{name}: fewer than {expected} items are left"
    rows = catalog.rows(f"SELECT item {held} ORDER BY random() LIMIT ?", (*bounds, _SAMPLE))
    items = table.items([row for (row,) in rows])
    vectors = {items[row].id: vector for row, vector in vectors_of(catalog, table.collection, list(items)).items()}
    stored = index.vectors(table.collection, list(vectors))
    if any(public not in stored or not np.allclose(stored[public], vectors[public], atol=1e-3) for public in vectors):
        return f"{name}: a vector is lost or garbled"
    # Equal texts have equal vectors, so the nearest may be a twin: what counts is that it is as near.
    found = sum(max(index.query(table.collection, vector, 1)[1], default=0.0) > 0.999 for vector in vectors.values())
    return f"{name}: {found} of {len(vectors)} vectors are found" if found < len(vectors) / 2 else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
