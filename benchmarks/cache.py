"""``cache``: vectors read from the cache on disk, every one verified, against what reading them costs at all.

The limits are a SELECT of the same blobs from a bare SQLite table by row number, in batches of the same
size, and one ``numpy.fromfile``. The peers are diskcache with pickled arrays, and a JSON file for each
vector, which is how LangChain's byte stores keep them (we write those files ourselves). The files are in
the page cache of the operating system for everybody; our in-memory layer is switched off.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.children import in_child
from benchmarks.history import commands
from benchmarks.options import Options
from benchmarks.stores import DIM, vectors_for
from benchmarks.table import Row, at_least, at_most, figures
from benchmarks.timing import Spread, Stopwatch, interleave, ratios, say

__all__ = ["compare", "run"]

_BATCH = 1000
_SPACE, _ROLE = "benchmark", "document"

Vectors = NDArray[np.float32]


def run(options: Options) -> Iterator[Row]:
    """Compare with ``options.rows`` vectors."""
    rows = options.size(100_000, 2_000, options.rows)
    folder = options.work / "caches"
    say("cache")
    found = in_child("benchmarks.cache:compare", options.work, folder=str(folder), rows=rows, rounds=options.turns())
    shutil.rmtree(folder)
    for ours, how, limits in (
        ("ours", "as they were put", ("SQLite SELECT", "numpy.fromfile", "diskcache with pickle", "JSON files")),
        ("ours, shuffled", "in random order", ("SQLite SELECT, shuffled",)),
    ):
        for name in limits:
            what = f"{rows:,} vectors in batches of {_BATCH:,} {how}"
            yield _row(what, found["speeds"][ours], found["speeds"][name], name)
    for name, share in found["bytes"].items():
        row = Row("cache", f"bytes on disk by raw bytes, {name}", f"{share:.3f}", "raw float32: 1")
        yield at_most(row, 1.25, share) if name == "ours" else row
    yield Row("cache", "put in batches", f"{found['put']:,.0f}/s")


def _row(what: str, ours: list[list[float]], limit: list[list[float]], name: str) -> Row:
    (walls, cpus), (limit_walls, limit_cpus) = zip(*ours, strict=True), zip(*limit, strict=True)
    row = figures("cache", what, walls, limit_walls, name, "/s")
    cpu = Spread.of(cpus).median
    row = replace(row, ours=f"{row.ours}, {cpu:,.0f} a CPU second", cpu_ratio=ratios(cpus, limit_cpus))
    if not name.startswith("SQLite"):
        return row
    return replace(at_least(row, 80_000, Spread.of(walls).median), target="ours >= 80,000/s")


def compare(folder: str, rows: int, rounds: int) -> dict[str, Any]:
    """Fill all contenders, read them in turn; return vectors a second (wall, CPU) and bytes by raw bytes."""
    place = Path(folder)
    texts = [f"{command} # {number}" for number, command in enumerate(commands(rows))]
    vectors = vectors_for(rows)
    order = np.random.default_rng(5).permutation(rows).tolist()
    few, fewest = min(rows, 10_000), min(rows, 1_000)
    put = _fill_ours(place / "ours", texts, vectors)
    _fill_sqlite(place / "plain.sqlite3", vectors)
    vectors.tofile(place / "vectors.f32")
    _fill_pickled(place / "pickled", texts[:few], vectors)
    _fill_json(place / "json", vectors[:fewest])
    actions: dict[str, Callable[[int], tuple[float, float]]] = {
        "ours": partial(_read_ours, place / "ours", texts, vectors, list(range(rows))),
        "SQLite SELECT": partial(_read_sqlite, place / "plain.sqlite3", vectors, list(range(rows))),
        "ours, shuffled": partial(_read_ours, place / "ours", texts, vectors, order),
        "SQLite SELECT, shuffled": partial(_read_sqlite, place / "plain.sqlite3", vectors, order),
        "numpy.fromfile": partial(_read_plain, place / "vectors.f32", vectors),
        "diskcache with pickle": partial(_read_pickled, place / "pickled", texts[:few]),
        "JSON files": partial(_read_json, place / "json", fewest),
    }
    speeds = interleave(rounds, actions)
    raw = 4 * DIM
    return {
        "speeds": speeds,
        "put": put,
        "bytes": {
            "ours": _bytes(place / "ours") / (rows * raw),
            "diskcache with pickle": _bytes(place / "pickled") / (few * raw),
            "JSON files": _bytes(place / "json") / (fewest * raw),
        },
    }


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _parts(values: list[Any]) -> Iterator[list[Any]]:
    return (values[start : start + _BATCH] for start in range(0, len(values), _BATCH))


def _speed(count: int, watch: Stopwatch) -> tuple[float, float]:
    cost = watch.cost()
    return count / cost.wall, count / max(cost.cpu, 1e-6)


def _check(read: Vectors, expected: Vectors) -> None:
    if not np.array_equal(read, expected):
        raise RuntimeError("other vectors were read than were written")


def _fill_ours(folder: Path, texts: list[str], vectors: Vectors) -> float:
    from omnimemory.storage.cache import EmbeddingCache

    watch = Stopwatch()
    with EmbeddingCache(folder, hot_items=0) as cache:
        for start in range(0, len(texts), _BATCH):
            part = slice(start, start + _BATCH)
            cache.put_many(_SPACE, _ROLE, DIM, texts[part], vectors[part])
    return len(texts) / watch.cost().wall


def _read_ours(folder: Path, texts: list[str], vectors: Vectors, order: list[int], _: int) -> tuple[float, float]:
    from omnimemory.storage.cache import EmbeddingCache

    asked = [[texts[number] for number in part] for part in _parts(order)]
    watch = Stopwatch()
    with EmbeddingCache(folder, hot_items=0) as cache:
        read = [cache.get_many(_SPACE, _ROLE, DIM, part)[0] for part in asked]
    speed = _speed(len(order), watch)
    _check(np.concatenate(read), vectors[order])
    return speed


def _fill_sqlite(path: Path, vectors: Vectors) -> None:
    with sqlite3.connect(path) as sql:
        sql.execute("PRAGMA page_size = 16384")
        sql.execute("CREATE TABLE plain (id INTEGER PRIMARY KEY, vector BLOB NOT NULL)")
        sql.executemany(
            "INSERT INTO plain VALUES (?, ?)", ((number, row.tobytes()) for number, row in enumerate(vectors))
        )
    sql.close()


def _read_sqlite(path: Path, vectors: Vectors, order: list[int], _: int) -> tuple[float, float]:
    watch = Stopwatch()
    sql = sqlite3.connect(path)
    read = []
    for part in _parts(order):
        marks = ",".join("?" * len(part))
        found = dict(sql.execute(f"SELECT id, vector FROM plain WHERE id IN ({marks})", part))
        read.append(np.frombuffer(b"".join(found[number] for number in part), dtype=np.float32).reshape(-1, DIM))
    sql.close()
    speed = _speed(len(order), watch)
    _check(np.concatenate(read), vectors[order])
    return speed


def _read_plain(path: Path, vectors: Vectors, _: int) -> tuple[float, float]:
    watch = Stopwatch()
    read = np.fromfile(path, dtype=np.float32).reshape(-1, DIM)
    speed = _speed(len(read), watch)
    _check(read, vectors)
    return speed


def _fill_pickled(folder: Path, texts: list[str], vectors: Vectors) -> None:
    import diskcache

    with diskcache.Cache(str(folder), eviction_policy="none") as cache, cache.transact():
        for text, vector in zip(texts, vectors, strict=False):
            cache[text] = vector


def _read_pickled(folder: Path, texts: list[str], _: int) -> tuple[float, float]:
    import diskcache

    watch = Stopwatch()
    with diskcache.Cache(str(folder), eviction_policy="none") as cache:
        for text in texts:
            cache[text]
    return _speed(len(texts), watch)


def _fill_json(folder: Path, vectors: Vectors) -> None:
    folder.mkdir()
    for number, vector in enumerate(vectors):
        (folder / str(number)).write_text(json.dumps(vector.tolist()), encoding="utf-8")


def _read_json(folder: Path, count: int, _: int) -> tuple[float, float]:
    watch = Stopwatch()
    np.array([json.loads((folder / str(number)).read_bytes()) for number in range(count)], dtype=np.float32)
    return _speed(count, watch)
