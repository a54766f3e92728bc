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
from pathlib import Path

from omnimemory.errors import IndexDamagedError
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.drain import DrainOptions, drain, item_tables
from omnimemory.storage.generations import Generations
from omnimemory.storage.index import ChromaIndex, is_clean
from omnimemory.storage.vectors import vectors_of

__all__ = ["main", "open_index", "rebuild", "trusted", "worn"]

WORN_SHARE = 0.2
WORN_ROWS = 1000
_SAMPLE = 32
_PROBE_SECONDS = 300


def rebuild(store: Path, catalog: Catalog, options: DrainOptions) -> int:
    """Make a new generation from the catalog, switch to it, remove the others; return its number.

    The caller holds the index lock and has no index open.
    """
    generations = Generations(catalog)
    generation = generations.begin()
    directory = generations.directory(store, generation)
    shutil.rmtree(directory, ignore_errors=True)
    index = ChromaIndex(directory, ef_search=options.ef_search, documents=options.documents)
    try:
        drain(catalog, index, generation, options.batch_size)
    finally:
        index.close()
    generations.activate(generation)
    for other in directory.parent.iterdir():
        if other != directory and other.is_dir():
            shutil.rmtree(other, ignore_errors=True)
    return generation


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
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    try:
        probe = subprocess.run(
            [sys.executable, "-P", "-m", "omnimemory.storage.rebuild", str(store), str(generation)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return probe.returncode == 0


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
        return ChromaIndex(directory, ef_search=options.ef_search, documents=options.documents), active
    except IndexDamagedError:
        active = rebuild(store, catalog, options)
        directory = generations.directory(store, active)
        return ChromaIndex(directory, ef_search=options.ef_search, documents=options.documents), active


def main(arguments: list[str]) -> int:
    """Question a generation: exit code 0 when what it took is there and finds itself."""
    store, generation = Path(arguments[0]), int(arguments[1])
    catalog = Catalog(store / "catalog.sqlite3")
    generations = Generations(catalog)
    try:
        index = ChromaIndex(generations.directory(store, generation))
        for table in item_tables(catalog):
            drained = generations.drained(generation, table.collection)
            rows = catalog.rows(
                "SELECT item FROM vectors WHERE collection_id = ? AND row <= ? ORDER BY random() LIMIT ?",
                (table.collection.id, drained, _SAMPLE),
            )
            if not rows:
                continue
            items = table.items([row for (row,) in rows])
            vectors = vectors_of(catalog, table.collection, list(items))
            for row, vector in vectors.items():
                _, scores = index.query(table.collection, vector, 1)
                # Equal texts have equal vectors, so the nearest may be a twin: what counts is that it is as near.
                if not scores or scores[0] < 0.999:
                    sys.stderr.write(f"{items[row].id} is not found\n")
                    return 1
        index.close()
    except IndexDamagedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        catalog.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
