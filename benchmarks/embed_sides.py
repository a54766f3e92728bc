"""The sides of the ``embed`` benchmark, each in a process of its own: ours, the bare session, and the peers.

``texts`` are files of texts by kind; results are by kind too.

The peers' functions import nothing of this package: they may run in an environment that does not have it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.timing import Stopwatch, peak_rss

if TYPE_CHECKING:
    from omnimemory.embedders.onnx import OnnxEmbedder

__all__ = ["alone", "bare", "chroma", "flops", "ingest", "limit", "ours", "sentence_transformers", "txtai"]

_PATIENCE = 600.0
_WARM = 8  # texts embedded before the clock starts: what is loaded on first use is not speed


def ours(texts: dict[str, str], model: str, precision: str) -> dict[str, Any]:
    """Embed all texts with the onnx embedder and its defaults."""
    started = time.perf_counter()
    from omnimemory.embedders.onnx import OnnxEmbedder

    embedder = OnnxEmbedder(model, precision=precision)
    embedder.embed(["ready"], "query")
    ready = time.perf_counter() - started
    return _timed(texts, lambda some: embedder.embed(some, "document"), ready)


def bare(texts: dict[str, str], model: str, precision: str) -> dict[str, Any]:
    """Alternate our embedder with the bare session on the same batches, tokenised before the clock starts."""
    from omnimemory.embedders.onnx import OnnxEmbedder

    embedder = OnnxEmbedder(model, precision=precision)
    return {kind: _beside_bare(embedder, _read(path)) for kind, path in texts.items()}


def _beside_bare(embedder: OnnxEmbedder, every: list[str]) -> dict[str, Any]:
    from omnimemory.embedders.batches import plan
    from omnimemory.embedders.onnx import BUDGET
    from omnimemory.embedders.onnx_session import available_cores, run_batches

    embedder.embed(every[:_WARM], "document")
    loaded = embedder._model  # noqa: SLF001 - what is inside is what is compared
    assert loaded is not None
    parts = [every[start : start + 512] for start in range(0, len(every), 512)]
    planned = [loaded.tokenizer.rows(part, "")[0] for part in parts]
    ready = [(len(rows), plan([row.ids for row in rows], BUDGET, available_cores())) for rows in planned]
    embedded, session = [], []
    for ours_first in (True, False):  # who comes second finds the memory that the first has asked the system for
        for part, (rows, batches) in zip(parts, ready, strict=True):
            for ours in (ours_first, not ours_first):
                watch = Stopwatch()
                if ours:
                    embedder.embed(part, "document")
                else:
                    run_batches(loaded.compute, batches, rows, embedder.dim, available_cores())
                (embedded if ours else session).append(watch.cost())
    return {
        "ours": [sum(cost.wall for cost in embedded), sum(cost.cpu for cost in embedded)],
        "bare": [sum(cost.wall for cost in session), sum(cost.cpu for cost in session)],
        "parts": [(one.wall, other.wall) for one, other in zip(embedded, session, strict=True)],
    }


def limit(seconds: float = 1.0) -> list[float]:
    """Return the float32 products per second (GFLOP/s) of the runtime's kernel or numpy's, whichever is faster.

    First of both cores on the clock, then for each second that a processor worked.
    """
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import numpy as np

    from omnimemory.embedders.linear_layers import float_linear
    from omnimemory.embedders.onnx_format import Graph
    from omnimemory.embedders.onnx_session import available_cores, make_session

    dice, cores = np.random.default_rng(1), available_cores()
    best = [0.0, 0.0]
    for n, k in ((384, 384), (1536, 384), (384, 1536)):
        weight = dice.standard_normal((n, k)).astype(np.float32)
        rows = dice.standard_normal((512, k)).astype(np.float32)
        graph = Graph()
        float_linear(graph, "y", "x", weight, None)
        session = make_session(graph.model({"x": ("float32", ("t", k))}, {"y": ("t", n)}), graph.arrays)
        work = 2 * 512 * n * k / 1e9
        for action in (lambda s=session, r=rows: s.run(None, {"x": r}), lambda r=rows, w=weight: r @ w.T):
            rates = _rates(action, cores, seconds)
            best = [max(rate * work, known) for rate, known in zip(rates, best, strict=True)]
    return best


def _rates(action: Callable[[], Any], cores: int, seconds: float) -> tuple[float, float]:
    """Return how often all cores together do something in a second, and in one of a processor's seconds."""
    counts, stop = [0] * cores, threading.Event()

    def work(core: int) -> None:
        while not stop.is_set():
            action()
            counts[core] += 1

    threads = [threading.Thread(target=work, args=(core,)) for core in range(cores)]
    watch = Stopwatch()
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    cost = watch.cost()
    return sum(counts) / cost.wall, sum(counts) / cost.cpu


def sentence_transformers(texts: dict[str, str], model: str) -> dict[str, Any]:
    """Embed all texts with sentence-transformers and its defaults."""
    started = time.perf_counter()
    from sentence_transformers import SentenceTransformer

    made = SentenceTransformer(model, device="cpu")
    made.encode(["ready"])
    return _timed(texts, made.encode, time.perf_counter() - started)


def txtai(texts: dict[str, str], model: str) -> dict[str, Any]:
    """Embed all texts with txtai and its defaults."""
    started = time.perf_counter()
    from txtai import Embeddings

    made = Embeddings(path=model, gpu=False)
    made.batchtransform(["ready"])
    return _timed(texts, made.batchtransform, time.perf_counter() - started)


def chroma(texts: dict[str, str], folder: str) -> dict[str, Any]:
    """Embed texts with Chroma's default embedding function, whose files are below ``folder`` already."""
    os.environ["HOME"] = folder
    started = time.perf_counter()
    from chromadb.utils.embedding_functions import DefaultEmbeddingFunction

    made = DefaultEmbeddingFunction()
    assert made is not None
    made(["ready"])
    return _timed(texts, made, time.perf_counter() - started)


def _timed(texts: dict[str, str], embed: Callable[[list[str]], Any], ready: float) -> dict[str, Any]:
    return {kind: {"ready": ready, **_timed_kind(_read(path), embed)} for kind, path in texts.items()}


def _timed_kind(every: list[str], embed: Callable[[list[str]], Any]) -> dict[str, Any]:
    embed(every[:_WARM])
    watch = Stopwatch()
    rows = embed(every)
    cost = watch.cost()
    single = []
    for text in every[:20]:
        begun = time.perf_counter()
        embed([text])
        single.append(time.perf_counter() - begun)
    return {
        "wall": cost.wall,
        "cpu": cost.cpu,
        "texts": len(every),
        "dim": len(rows[0]),
        "query": sorted(single)[len(single) // 2],
        "peak": peak_rss()[0],
    }


def _read(texts: str) -> list[str]:
    found: list[str] = json.loads(Path(texts).read_text("utf-8"))
    return found


def flops(texts: str, model: str) -> float:
    """Return the float operations (GFLOP) that the model needs for the texts: its layers, and attention.

    A token costs 2 operations for each weight of the layers, and 4 times the hidden size for each token it looks at.
    """
    from omnimemory.embedders.encoder_folder import read_encoder_folder
    from omnimemory.embedders.onnx import OnnxEmbedder

    folder = read_encoder_folder(Path(model))
    shape, special = folder.shape, 2
    assert shape is not None
    layer = 4 * shape.hidden * shape.hidden + 2 * shape.hidden * shape.inner
    total = 0.0
    for count in OnnxEmbedder(model).count_tokens(_read(texts)):
        tokens = min(count + special, folder.max_tokens)
        total += shape.layers * tokens * (2 * layer + 4 * shape.hidden * tokens)
    return total / 1e9


def ingest(source: str, kind: str, folder: str, model: str, models: str, wait: bool, texts: str) -> dict[str, Any]:
    """Ingest into a new store with the model; return the seconds of it, and write what was embedded to ``texts``.

    Without ``wait`` for the index (``index.wait``) it is waited for afterwards: ``index`` are the seconds of that.
    """
    from omnimemory.config import Settings
    from omnimemory.memory import Memory

    values = {
        "store.path": Path(folder, "store"),
        "cache.path": Path(folder, "cache"),
        "embedding.model": model,
        "models.path": models,
        "index.wait": wait,
    }
    with Memory(settings=Settings().with_values(values)) as memory:
        embedder = memory.embeddings.embedder
        embedder.embed(["ready"], "query")
        watch = Stopwatch()
        report = memory.ingest(source) if kind == "chunks" else memory.ingest_history(source, shell="zsh")
        whole = watch.cost()
        watch = Stopwatch()
        while (written := memory.store.status()["index"])["holder"] or written["waiting"]:
            assert watch.cost().wall < _PATIENCE, "the index is not written"
            if written["holder"] is None:  # so few that no process was left behind for them
                memory.store.drain()
            time.sleep(0.01)
        index = watch.cost()
        table = "chunks" if kind == "chunks" else "commands"
        every = [text for (text,) in memory.store.catalog.rows(f"SELECT text FROM {table} ORDER BY id")]
        assert report.embedded == len(set(every)), (report, len(every))
    Path(texts).write_text(json.dumps(every), encoding="utf-8")
    return {"whole": [whole.wall, whole.cpu], "index": [index.wall, index.cpu], "texts": len(every)}


def alone(texts: str, model: str, precision: str) -> list[float]:
    """Embed in batches as large as those of an ingest, and do nothing else; return seconds on the clock and of CPU."""
    from omnimemory.embedders.onnx import OnnxEmbedder

    every, embedder = _read(texts), OnnxEmbedder(model, precision=precision)
    embedder.embed(["ready"], "query")
    watch = Stopwatch()
    for start in range(0, len(every), 512):
        embedder.embed(every[start : start + 512], "document")
    cost = watch.cost()
    return [cost.wall, cost.cpu]
