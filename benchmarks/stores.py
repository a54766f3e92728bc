"""A store and a bare Chroma collection that hold the same 256-d vectors, for the search benchmarks.

The vectors are unit length and lie in 200 clusters. They go into the store through its own tables in its
own transactions, and into its index through its own drain: embedding a hundred thousand texts is not what
is measured. The bare collection has the index's settings (cosine, ef_search 200, sync_threshold 10,000).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.children import in_child
from benchmarks.options import Options
from benchmarks.timing import say

__all__ = ["DIM", "fill", "open_bare", "open_store", "prepared", "queries_for", "row_of", "vectors_for"]

DIM = 256
_CLUSTERS = 200
_NOISE = 0.75
_SEED = 7
_PART = 5000
_SOURCE = "/generated/vectors"

Vectors = NDArray[np.float32]


def prepared(options: Options) -> dict[str, Any]:
    """Return the arguments (folder, rows) of a filled pair; all benchmarks of one run share it."""
    arguments: dict[str, Any] = {
        "folder": str(options.work / "pair"),
        "rows": options.size(100_000, 2_000, options.rows),
    }
    if not Path(arguments["folder"]).exists():
        say(f"search: filling a store and a bare collection with {arguments['rows']:,} vectors")
        in_child("benchmarks.stores:fill", options.work, **arguments)
    return arguments


def _unit(rows: NDArray[np.float64]) -> Vectors:
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def _drawn(rows: int, seed: int) -> Vectors:
    centres = _unit(np.random.default_rng(_SEED).standard_normal((_CLUSTERS, DIM)))
    dice = np.random.default_rng(seed)
    noise = _unit(dice.standard_normal((rows, DIM)))
    return _unit(centres[dice.integers(0, _CLUSTERS, rows)].astype(np.float64) + _NOISE * noise)


def vectors_for(rows: int) -> Vectors:
    """Return the (rows, DIM) vectors that a pair holds, in order of their number."""
    return _drawn(rows, _SEED + 1)


def queries_for(count: int, seed: int) -> Vectors:
    """Return (count, DIM) queries from the same clusters."""
    return _drawn(count, _SEED + 2 + seed)


def _metadata(number: int) -> dict[str, Any]:
    return {"k": number, "half": number % 2, "percent": number % 100, "name": f"name-{number % 1000}"}


def _public(number: int) -> str:
    return f"row-{number:07}"


def row_of(public: str) -> int:
    """Return the number of the vector that has this id."""
    return int(public.removeprefix("row-"))


def open_store(folder: str, rows: int) -> Any:
    """Open the memory of a pair; a small one is told to use its index from a fifth of its rows on."""
    from omnimemory.config import Settings
    from omnimemory.memory import Memory

    values = {
        "store.path": Path(folder, "store"),
        "cache.path": Path(folder, "cache"),
        "search.exact_rows": min(20_000, rows // 5),
    }
    return Memory(settings=Settings().with_values(values))


def open_bare(folder: str) -> tuple[Any, Any]:
    """Open the bare collection of a pair; returns (client, collection)."""
    import chromadb

    client = chromadb.PersistentClient(str(Path(folder, "bare")))
    settings: Any = {"space": "cosine", "ef_search": 200, "sync_threshold": 10_000}
    collection = client.get_or_create_collection("bare", configuration={"hnsw": settings}, embedding_function=None)
    return client, collection


def fill(folder: str, rows: int) -> None:
    """Make a pair."""
    from omnimemory.storage.documents import NewChunk
    from omnimemory.storage.vectors import insert_vectors

    vectors = vectors_for(rows)
    client, collection = open_bare(folder)
    with open_store(folder, rows) as memory:
        table = memory.store.documents
        for start in range(0, rows, _PART):
            numbers = range(start, min(start + _PART, rows))
            chunks = [NewChunk(_public(n), _text(n), 100 * n, 100 * n + 90, "", _metadata(n)) for n in numbers]
            part = vectors[numbers.start : numbers.stop]
            with memory.store.catalog.transaction() as sql:
                source = table.ensure_source(sql, _SOURCE, "file")
                insert_vectors(sql, table.collection, table.add(sql, source, chunks, pending=False), part)
            collection.add(
                ids=[chunk.id for chunk in chunks],
                documents=[chunk.text for chunk in chunks],
                metadatas=[{"source": _SOURCE, **chunk.metadata} for chunk in chunks],
                embeddings=part,
            )
            say(f"  {numbers.stop:,}")
        client.close()
        reason = memory.store.drain()
        if reason:
            raise RuntimeError(f"the store could not be drained: {reason}")


def _text(number: int) -> str:
    return f"Vector number {number} of the generated set stands for a paragraph about subject {number % 977}."
