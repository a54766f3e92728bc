"""``search``: a vector search without a filter, against the same query to a bare Chroma collection.

Same vectors, same settings, the query vector given, both warm, one query each in turn. Ours returns hits
with text, source, offsets and metadata and checks the index's distances; Chroma its default include.
Recall is against all cosines computed with numpy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.children import in_child
from benchmarks.options import Options
from benchmarks.stores import open_bare, open_store, prepared, queries_for, row_of, vectors_for
from benchmarks.table import Row, at_least, at_most, figures
from benchmarks.timing import Spread, say

__all__ = ["Ask", "K", "compare", "percentiles", "run", "timed"]

Ask = Callable[[NDArray[np.float32]], list[int]]
"""A query (dim,) to the numbers of the vectors found, best first."""

K = 10
SLOWEST = 25.0


def run(options: Options) -> Iterator[Row]:
    """Compare at ``options.rows`` vectors."""
    pair = prepared(options)
    turns, queries = options.turns(), options.size(200, 10, options.queries)
    say("search")
    found = in_child("benchmarks.search:compare", options.work, **pair, rounds=turns, queries=queries)
    name = f"{pair['rows']:,} x 256, no filter"
    for at in ("p50", "p95", "slowest"):
        row = figures("search", f"{name}, {at}", found["ours"][at], found["bare"][at], "bare Chroma", " ms")
        assert row.ratio is not None
        if at == "p50":
            row = at_most(row, 1.2, row.ratio.median)
        if at == "p95":
            median = Spread.of(found["ours"][at]).median
            row = replace(at_most(row, SLOWEST, median), target=f"ours <= {SLOWEST:g} ms")
        yield row
    ours, limit = found["ours"]["recall"], found["bare"]["recall"]
    what = f"{name}, recall@{K} (answered by {found['answered_by']})"
    yield at_least(Row("search", what, f"{ours:.4f}", f"bare Chroma: {limit:.4f}"), round(limit - 0.001, 4), ours)


def compare(folder: str, rows: int, rounds: int, queries: int) -> dict[str, Any]:
    """Query both in turn and return milliseconds and recall."""
    vectors = vectors_for(rows)
    client, collection = open_bare(folder)
    with open_store(folder, rows) as memory:
        reason = memory.warm()
        if reason:
            raise RuntimeError(f"the index did not open: {reason}")
        sides = _sides(memory, collection)
        for query in queries_for(5, 0):
            timed(sides, query)
        result: dict[str, Any] = {name: {"p50": [], "p95": [], "slowest": [], "found": 0} for name in sides}
        for number in range(rounds):
            asked = queries_for(queries, number + 1)
            answers = [timed(sides, query) for query in asked]
            for name in sides:
                for at, value in percentiles([answer[name][0] for answer in answers]).items():
                    result[name][at].append(value)
                result[name]["found"] += _found([answer[name][1] for answer in answers], asked, vectors)
        hits = memory.search(vector=queries_for(1, 0)[0], mode="vector", kind="documents", explain=True)
    client.close()
    for name in sides:
        result[name]["recall"] = result[name].pop("found") / (rounds * queries * K)
    return {**result, "answered_by": hits.explain["kinds"]["documents"]["answered_by"]}


def _sides(memory: Any, collection: Any) -> dict[str, Ask]:
    def ours(query: NDArray[np.float32]) -> list[int]:
        hits = memory.search(vector=query, mode="vector", kind="documents", k=K)
        return [row_of(hit.id) for hit in hits]

    def bare(query: NDArray[np.float32]) -> list[int]:
        return [row_of(public) for public in collection.query(query_embeddings=query[None], n_results=K)["ids"][0]]

    return {"ours": ours, "bare": bare}


def timed(sides: Mapping[str, Ask], query: NDArray[np.float32]) -> dict[str, tuple[float, list[int]]]:
    """Ask each side in turn; return milliseconds and answer by name."""
    answers = {}
    for name, ask in sides.items():
        started = time.perf_counter()
        answer = ask(query)
        answers[name] = ((time.perf_counter() - started) * 1000, answer)
    return answers


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """Return the median, the 95th percentile and the slowest."""
    ordered = np.percentile(milliseconds, [50, 95, 100])
    return dict(zip(("p50", "p95", "slowest"), ordered.tolist(), strict=True))


def _found(answers: list[list[int]], asked: NDArray[np.float32], vectors: NDArray[np.float32]) -> int:
    count = 0
    for answer, query in zip(answers, asked, strict=True):
        scores = vectors @ query
        count += len(set(answer) & set(np.argpartition(scores, -K)[-K:].tolist()))
    return count
