"""``filter``: a filtered vector search, against Chroma's ``where`` and against numpy alone.

numpy is the limit: the matrix and a ready mask in memory, nothing looked up afterwards. It is also the
truth that the answers are compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.children import in_child
from benchmarks.options import Options
from benchmarks.search import Ask, K, percentiles, timed
from benchmarks.stores import open_bare, open_store, prepared, queries_for, row_of, vectors_for
from benchmarks.table import Row, at_least, figures
from benchmarks.timing import say

__all__ = ["compare", "run"]

HALF = "half match"
_EQUAL = 1e-6


def run(options: Options) -> Iterator[Row]:
    """Compare several filters at ``options.rows`` vectors."""
    pair = prepared(options)
    turns, queries = options.turns(), options.size(15, 3, options.queries)
    say("filter")
    found = in_child("benchmarks.filter:compare", options.work, **pair, rounds=turns, queries=queries)
    for name, result in found["filters"].items():
        for side, label in (("bare", "bare Chroma"), ("numpy", "numpy")):
            what = f"{pair['rows']:,} x 256, {name}"
            row = figures("filter", what, result["ours"], result[side], label, " ms", faster=True)
            if side == "bare" and name == HALF:
                assert row.ratio is not None
                row = at_least(row, 10, row.ratio.median)
            yield row
    wrong = sum(result["wrong"] for result in found["filters"].values())
    asked = len(found["filters"]) * turns * queries
    what = "answers that differ from all cosines with numpy"
    yield Row("filter", what, f"{wrong} of {asked}", target="0", ok=not wrong)
    yield Row("filter", "first filtered search: vectors and column are loaded", f"{found['first']:.3g} ms")


def _filters(rows: int) -> dict[str, tuple[dict[str, Any], NDArray[np.bool_]]]:
    numbers = np.arange(rows)
    some = np.random.default_rng(3).choice(rows, 10, replace=False).tolist()
    return {
        HALF: ({"half": 1}, numbers % 2 == 1),
        "1 % match": ({"percent": 7}, numbers % 100 == 7),
        "10 % match by $lt": ({"k": {"$lt": rows // 10}}, numbers < rows // 10),
        "$in of 10": ({"k": {"$in": some}}, np.isin(numbers, some)),
        "half and half by $and": (
            {"$and": [{"half": 1}, {"k": {"$gte": rows // 2}}]},
            (numbers % 2 == 1) & (numbers >= rows // 2),
        ),
    }


def compare(folder: str, rows: int, rounds: int, queries: int) -> dict[str, Any]:
    """Query all three in turn and return milliseconds and how many answers were wrong."""
    vectors = vectors_for(rows)
    client, collection = open_bare(folder)
    result: dict[str, Any] = {}
    first = 0.0
    with open_store(folder, rows) as memory:
        for name, (where, mask) in _filters(rows).items():
            allowed = np.flatnonzero(mask)
            sides = _sides(memory, collection, vectors, where, allowed)
            warm = timed(sides, queries_for(1, 0)[0])
            first = first or warm["ours"][0]
            result[name] = {"wrong": 0, **{side: [] for side in sides}}
            for number in range(rounds):
                asked = queries_for(queries, number + 1)
                answers = [timed(sides, query) for query in asked]
                for side in sides:
                    result[name][side].append(percentiles([answer[side][0] for answer in answers])["p50"])
                result[name]["wrong"] += sum(
                    _differ(answer["ours"][1], answer["numpy"][1], vectors @ query, allowed)
                    for answer, query in zip(answers, asked, strict=True)
                )
    client.close()
    return {"filters": result, "first": first}


def _sides(
    memory: Any, collection: Any, vectors: NDArray[np.float32], where: dict[str, Any], allowed: NDArray[np.int64]
) -> dict[str, Ask]:
    def ours(query: NDArray[np.float32]) -> list[int]:
        hits = memory.search(vector=query, mode="vector", kind="documents", where=where, k=K)
        return [row_of(hit.id) for hit in hits]

    def bare(query: NDArray[np.float32]) -> list[int]:
        answer = collection.query(query_embeddings=query[None], n_results=K, where=where)
        return [row_of(public) for public in answer["ids"][0]]

    def limit(query: NDArray[np.float32]) -> list[int]:
        scores = (vectors @ query)[allowed]
        best = np.argpartition(scores, -K)[-K:] if len(scores) > K else np.arange(len(scores))
        return list(map(int, allowed[best[np.argsort(-scores[best], kind="stable")]]))

    return {"ours": ours, "bare": bare, "numpy": limit}


def _differ(ours: list[int], truth: list[int], scores: NDArray[np.float32], allowed: NDArray[np.int64]) -> bool:
    """Whether two answers differ by more than the order of equal cosines."""
    if ours == truth:
        return False
    if len(ours) != len(truth) or len(set(ours)) != len(ours) or not set(ours) <= set(allowed.tolist()):
        return True
    return bool(np.abs(scores[ours] - scores[truth]).max() > _EQUAL)
