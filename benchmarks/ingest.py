"""``ingest``: a whole ingest against adding the same payload, with ready texts, to a bare Chroma collection.

The limit embeds the same texts with the same model and adds ids, texts, metadata and vectors to a new
collection (cosine, else defaults), in batches of 1,000 as people do, and of the largest size Chroma takes.
It is handed the texts: it reads, cuts, redacts and commits nothing. Each run is a process of its own, with
a new store and an empty cache. "Whole program" counts imports on both sides; the other line does not count
the limit's import of chromadb, but still ours, which happens in the process that drains.

Memory: the peaks of the process and of its drain process, added, at all vectors and at the first 10,000.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.children import in_child
from benchmarks.corpus import write_documents
from benchmarks.history import write_history
from benchmarks.options import Options
from benchmarks.table import Row, at_least, at_most, compared
from benchmarks.timing import Cost, Stopwatch, interleave, peak_rss, say

__all__ = ["bare", "ours", "run"]

DIM = 256
FIRST = 10_000
"""Vectors whose memory is the fixed part."""


def run(options: Options) -> Iterator[Row]:
    """Compare documents, or with ``options.history`` commands."""
    kind = "commands" if options.history else "documents"
    source = _source(options, kind)
    payload = options.work / "payload.jsonl"
    say(f"ingest: preparing {kind}")
    counts = in_child("benchmarks.ingest:write_payload", options.work, source=str(source), kind=kind, to=str(payload))
    results = interleave(
        options.turns(),
        {
            "ours": partial(_round, options.work, "ours", source=str(source), kind=kind),
            "bare": partial(_round, options.work, "bare", payload=str(payload), batch=1000),
            "bare-largest": partial(_round, options.work, "bare", payload=str(payload), batch=None),
        },
    )
    target = 0.85 if kind == "documents" else 0.75
    yield from _speed_rows(kind, results, target)
    yield _memory_row(options, kind, source, results["ours"], counts)


def _source(options: Options, kind: str) -> Path:
    if kind == "commands":
        path = options.work / "zsh_history"
        write_history(path, options.size(100_000, 400, options.lines))
        return path
    if options.docs is not None:
        return options.docs.resolve()
    folder = options.work / "documents"
    if not folder.exists():
        write_documents(folder, options.size(2_000, 12))
    return folder


def _round(work: Path, side: str, number: int, **arguments: Any) -> dict[str, Any]:
    folder = work / f"{side}-{number}"
    try:
        result: dict[str, Any] = in_child(f"benchmarks.ingest:{side}", work, folder=str(folder), **arguments)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result


def _speed_rows(kind: str, results: dict[str, list[dict[str, Any]]], target: float) -> Iterator[Row]:
    count = results["ours"][0]["vectors"]
    for side, batch in (("bare", "of 1,000"), ("bare-largest", "largest")):
        for name, parts in (("whole program", ("imports", "work")), ("its imports not counted", ("work",))):
            costs = [_added(result, ("imports", "work")) for result in results["ours"]]
            limit = [_added(result, parts) for result in results[side]]
            what = f"{count:,} {kind}, {name}"
            row = compared("ingest", what, costs, limit, f"bare Chroma, batches {batch}", faster=True)
            assert row.ratio is not None
            yield at_least(row, target, row.ratio.median)


def _added(result: dict[str, Any], parts: tuple[str, ...]) -> Cost:
    return Cost(sum(result[part]["wall"] for part in parts), sum(result[part]["cpu"] for part in parts))


# -- memory


def _memory_row(
    options: Options, kind: str, source: Path, results: list[dict[str, Any]], counts: dict[str, int]
) -> Row:
    count = results[0]["vectors"]
    first = options.size(FIRST, 20)
    what = f"memory for each {kind[:-1]} beyond the first {first:,}"
    if count < 1.2 * first:
        return Row("ingest", what, f"only {count:,} vectors: not enough to tell")
    small = _part_of(options.work / "first", kind, source, counts, first)
    say(f"  memory: the first {first:,}")
    starts = [_round(options.work, "ours", -turn, source=str(small), kind=kind) for turn in range(1, len(results) + 1)]
    growth = (_median_peak(results) - _median_peak(starts)) / (count - starts[0]["vectors"])
    allowed = 2.2 * 4 * DIM + 1024
    row = Row(
        "ingest",
        what,
        f"{growth:,.0f} B = {growth / (4 * DIM):.2f} x raw",
        f"2.2 x raw + 1 KB = {allowed:,.0f} B",
        data={
            side: [{name: result[name] for name in ("vectors", "peak", "drain_peak")} for result in rounds]
            for side, rounds in (("all", results), ("first", starts))
        },
    )
    return at_most(row, round(allowed), growth)


def _median_peak(results: list[dict[str, Any]]) -> float:
    return median(result["peak"] + result["drain_peak"] for result in results)


def _part_of(folder: Path, kind: str, source: Path, counts: dict[str, int], first: int) -> Path:
    """Copy as much of the source as makes about the first so many vectors."""
    folder.mkdir()
    if kind == "commands":
        lines = source.read_bytes().splitlines(keepends=True)
        part = folder / source.name
        # Distinct commands come at a constant rate in the generated history.
        part.write_bytes(b"".join(lines[: len(lines) * first // max(first, sum(counts.values()))]))
        return part
    copied = 0
    for name, chunks in counts.items():
        if copied >= first:
            break
        target = folder / Path(name).relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(name, target)
        copied += chunks
    return folder


# -- in processes of their own


def ours(folder: str, source: str, kind: str) -> dict[str, Any]:
    """Ingest into a new store with an empty cache, and count."""
    watch = Stopwatch()
    from omnimemory.config import Settings
    from omnimemory.memory import Memory

    imports = watch.cost()
    watch = Stopwatch()
    settings = Settings().with_values({"store.path": Path(folder, "store"), "cache.path": Path(folder, "cache")})
    with Memory(settings=settings) as memory:
        report = memory.ingest(source) if kind == "documents" else memory.ingest_history(source, shell="zsh")
        if report.failed or report.degraded or report.pending:
            raise RuntimeError(f"the ingest did not go through: {report}")
    work = watch.cost()
    peak, drain_peak = peak_rss()
    return {
        "vectors": report.added,
        "imports": {"wall": imports.wall, "cpu": imports.cpu},
        "work": {"wall": work.wall, "cpu": work.cpu},
        "peak": peak,
        "drain_peak": drain_peak,
    }


def bare(folder: str, payload: str, batch: int | None) -> dict[str, Any]:
    """Embed the texts of a payload and add everything to a new collection."""
    lines = Path(payload).read_text("utf-8").splitlines()
    ids, texts, metadatas = zip(*(json.loads(line) for line in lines), strict=True)
    del lines
    watch = Stopwatch()
    import chromadb

    from omnimemory.embedders.static import StaticEmbedder

    imports = watch.cost()
    watch = Stopwatch()
    embedder = StaticEmbedder(DIM)
    client: Any = chromadb.PersistentClient(folder)
    collection = client.create_collection("bare", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None)
    size = batch or client.get_max_batch_size()
    for start in range(0, len(ids), size):
        part = slice(start, start + size)
        collection.add(
            ids=list(ids[part]),
            documents=list(texts[part]),
            metadatas=list(metadatas[part]),
            embeddings=embedder.embed(texts[part], "document"),
        )
    client.close()
    work = watch.cost()
    return {
        "vectors": len(ids),
        "imports": {"wall": imports.wall, "cpu": imports.cpu},
        "work": {"wall": work.wall, "cpu": work.cpu},
    }


def write_payload(source: str, kind: str, to: str) -> dict[str, int]:
    """Ingest once, write [id, text, metadata] of every vector, and return how many each source has."""
    from omnimemory.config import Settings
    from omnimemory.memory import Memory

    folder = Path(to).with_suffix(f".{time.time_ns()}")
    settings = Settings().with_values(
        {"store.path": folder / "store", "cache.path": folder / "cache", "index.enabled": False}
    )
    counts: dict[str, int] = {}
    with Memory(settings=settings) as memory, Path(to).open("w", encoding="utf-8") as file:
        if kind == "documents":
            memory.ingest(source)
        else:
            memory.ingest_history(source, shell="zsh")
        row, table = 0, memory.store.tables[kind]
        while found := table.payload(row, 5000):
            row = found.row
            for line in zip(found.ids, found.texts, found.metadatas, strict=True):
                counts[line[2]["source"]] = counts.get(line[2]["source"], 0) + 1
                file.write(f"{json.dumps(line)}\n")
    shutil.rmtree(folder)
    return counts
