"""The sides of the ``ready`` benchmark, each in a process of its own: ours, and Chroma with two ways to embed.

The peers' function imports nothing of this package: it may run in an environment that does not have it.
"""

from __future__ import annotations

import importlib
import os
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.corpus import headings, notes

__all__ = ["PARTS", "answer", "chroma", "fill", "fill_chroma"]

PARTS = ("import", "store", "model", "question", "close")
_LATER = 100  # questions after the first


def fill(folder: str, model: str, models: str | None, size: int) -> None:
    """Make the store."""
    with _memory(folder, model, models) as memory:
        memory.add(notes(size))


def answer(folder: str, model: str, models: str | None, seed: int) -> dict[str, float]:
    """Return the seconds of each part of the first answer, and the median of later ones."""
    marks = [time.perf_counter()]
    for module in ("omnimemory.cli.search", "omnimemory.memory"):  # what a search imports
        importlib.import_module(module)
    marks.append(time.perf_counter())
    memory = _memory(folder, model, models)
    marks.append(time.perf_counter())
    memory.embeddings.initialize()
    marks.append(time.perf_counter())
    first, *others = headings(_LATER + 1, seed)
    memory.search(first)
    marks.append(time.perf_counter())
    cpu, later, worked = time.process_time(), [], []
    for question in others:
        begun, before = time.perf_counter(), time.process_time()
        memory.search(question)
        later.append(time.perf_counter() - begun)
        worked.append(time.process_time() - before)
    marks.append(time.perf_counter())
    memory.close()
    marks.append(time.perf_counter())
    spans = [after - before for before, after in pairwise(marks)]
    del spans[4]  # the later questions
    medians = {"later": statistics.median(later), "later_cpu": statistics.median(worked)}
    return {**dict(zip(PARTS, spans, strict=True)), "cpu": cpu, **medians}


def _memory(folder: str, model: str, models: str | None) -> Any:
    from omnimemory.config import Settings
    from omnimemory.memory import Memory

    values = {"store.path": Path(folder, "store"), "cache.path": Path(folder, "cache"), "embedding.model": model}
    if models is not None:
        values["models.path"] = Path(models)
    return Memory(settings=Settings().with_values(values))


def fill_chroma(folder: str, model: str, size: int) -> None:
    """Make a bare collection of the same notes, with our vectors."""
    import chromadb
    from chromadb.config import Settings

    from omnimemory.embedders.onnx import OnnxEmbedder

    texts = notes(size)
    client = chromadb.PersistentClient(folder, Settings(anonymized_telemetry=False))
    collection = client.create_collection("notes", metadata={"hnsw:space": "cosine"}, embedding_function=None)
    vectors = OnnxEmbedder(model).embed(texts, "document")
    collection.add([str(number) for number in range(size)], embeddings=vectors, documents=texts)


def chroma(folder: str, seed: int, files: str, later_questions: int, model: str | None = None) -> dict[str, float]:
    """Return the seconds until Chroma has answered once, and the median of later answers.

    Questions are embedded by sentence-transformers with the model, or without one by Chroma's default embedding
    function, whose files are below ``files`` already.
    """
    os.environ["HOME"] = files
    started = time.perf_counter()
    import chromadb
    from chromadb.config import Settings

    client = chromadb.PersistentClient(folder, Settings(anonymized_telemetry=False))
    collection = client.get_collection("notes", embedding_function=None)
    embed = _default_function() if model is None else _encoder(model)
    first, *others = headings(later_questions + 1, seed)
    collection.query(query_embeddings=embed([first]), n_results=10)
    done, later = time.perf_counter(), []
    for question in others:
        begun = time.perf_counter()
        collection.query(query_embeddings=embed([question]), n_results=10)
        later.append(time.perf_counter() - begun)
    return {"first": done - started, "later": statistics.median(later)}


def _default_function() -> Callable[[list[str]], Any]:
    from chromadb.utils.embedding_functions import DefaultEmbeddingFunction

    made = DefaultEmbeddingFunction()
    assert made is not None
    return made


def _encoder(model: str) -> Callable[[list[str]], Any]:
    from sentence_transformers import SentenceTransformer

    encode: Callable[[list[str]], Any] = SentenceTransformer(model, device="cpu").encode
    return encode
