"""Whether an index on disk can be trusted: made by this chromadb, as its last clean close left it, or found whole.

Damaged HNSW files can make chromadb segfault or answer with silently wrong neighbours. So a folder that was not closed
cleanly is first opened and questioned in a child process, which runs this module.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from omnimemory.errors import IndexDamagedError
from omnimemory.storage.catalog import Catalog, Collection
from omnimemory.storage.children import child_environment, python_child
from omnimemory.storage.drain import item_tables
from omnimemory.storage.foreign import tree_is_ours
from omnimemory.storage.generations import Generations
from omnimemory.storage.hnsw_files import broken_graph
from omnimemory.storage.index import ChromaIndex
from omnimemory.storage.index_version import is_own_version
from omnimemory.storage.items import ItemTable
from omnimemory.storage.manifest import changed_files, damaged_files
from omnimemory.storage.twins import left_out
from omnimemory.storage.vectors import vectors_of

__all__ = ["main", "question", "trusted", "what_is_missing", "why_not_to_open"]

_SAMPLE = 64
_PART = 1000
_PROBE_SECONDS = 300
_MOST_NAMED = 5
_HELD = (
    "FROM vectors v WHERE collection_id = ? AND row <= ? AND NOT EXISTS (SELECT 1 FROM left_out l "
    "WHERE l.generation_id = ? AND l.collection_id = v.collection_id AND l.item = v.item)"
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
            python_child("omnimemory.storage.questioning", str(store.resolve()), str(generation)),
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


def what_is_missing(catalog: Catalog, index: ChromaIndex, generation: int, table: ItemTable) -> str | None:
    """Return what an open index has lost of a kind, ``None`` if it has as many rows as it took."""
    expected = catalog.value(f"SELECT count(*) {_HELD}", _held(catalog, generation, table.collection))
    if expected and index.count(table.collection) < expected:
        return f"{table.collection.name}: fewer than {expected} items are left"
    return None


def _held(catalog: Catalog, generation: int, collection: Collection) -> tuple[int, int, int]:
    return collection.id, Generations(catalog).drained(generation, collection), generation


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
    complaint = what_is_missing(catalog, index, generation, table)
    if complaint:
        return complaint
    row, drained = 0, Generations(catalog).drained(generation, collection)
    aside = left_out(catalog, generation, collection)
    while payload := table.payload(row, _PART, drained):
        payload = payload.without(aside)
        stored = index.vectors(collection, payload.ids)
        for public, vector in zip(payload.ids, payload.vectors, strict=True):
            if public not in stored or not np.allclose(stored[public], vector, atol=1e-3):
                return f"{name}: the vector of {public} is lost or garbled"
        row = payload.row
    held = catalog.rows(
        f"SELECT item {_HELD} ORDER BY random() LIMIT {_SAMPLE}", _held(catalog, generation, collection)
    )
    vectors = vectors_of(catalog, collection, [item for (item,) in held])
    # Equal texts have equal vectors, so the nearest may be a twin: what counts is that it is as near.
    found = sum(max(index.query(collection, vector, 1)[1], default=0.0) > 0.999 for vector in vectors.values())
    return f"{name}: {found} of {len(vectors)} vectors are found" if found < len(vectors) / 2 else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
