"""Search: vectors, keywords, or both fused, over documents and commands.

Fusion is a convex combination: weight x min-max-normalised cosine + (1 - weight) x BM25 divided by its
maximum. Measured on 1,000 descriptions against 10,624 commands it beat reciprocal rank fusion (MRR@10
.405 against .395 with the static model). Every hit carries its true cosine, whoever found it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from omnimemory.embedders.base import Vectors, normalise
from omnimemory.embedding_service import EmbeddingService
from omnimemory.errors import ConfigError, EmbedderError, InvalidVectorError, MemoryBudgetError
from omnimemory.records import Hit, Hits
from omnimemory.snippets import focus
from omnimemory.storage.items import Item
from omnimemory.storage.keyword import match_expression
from omnimemory.storage.store import Store

__all__ = ["KINDS", "MODES", "VECTOR_WEIGHTS", "Query", "search", "vector_weight"]

KINDS = ("documents", "commands")
MODES = ("hybrid", "vector", "keyword")

_MINILM = {"documents": 0.7, "commands": 0.8}
VECTOR_WEIGHTS = {
    "static": {"documents": 0.4, "commands": 0.4},
    "onnx:all-MiniLM-L6-v2": _MINILM,
    "mlx:all-MiniLM-L6-v2": _MINILM,
}
"""Share of the cosine in a hybrid score, by how the model's name begins and by kind.

Fitted with ``python -m benchmarks fusion`` on one half of the questions; what follows is of the other half.

Static model, MRR@10 on the half that was not fitted: descriptions -> commands .322 at .4 (vectors alone .226,
keywords alone .297); headings -> sections of the Python documentation .477 at .3, flat to .4 (.291 and .461).

MiniLM in int8, the same questions over 14,221 commands: .378 at .8 (.350 and .297); recall@10 .558 (.529 and .462).
Headings of 80 pages of that documentation: .718 at .7, flat from .4 (.650 and .630); recall@10 .890 (.844 and .853).
"""

_UNFITTED_WEIGHT = 0.5

_CANDIDATES = 100


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for and how; ``vector`` (dim,) replaces embedding the text.

    A hybrid search waits ``model_seconds`` for the vector of the text, ``None``: as long as it takes.
    """

    text: str
    k: int = 10
    kinds: Sequence[str] = KINDS
    mode: str = "hybrid"
    where: Mapping[str, Any] | None = None
    min_score: float | None = None
    weight: float | None = None
    vector: Vectors | None = None
    model_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"There is no search mode {self.mode!r}. Choose one of {', '.join(MODES)}.")
        for kind in self.kinds:
            if kind not in KINDS:
                raise ConfigError(f"There is no kind {kind!r}. Choose one of {', '.join(KINDS)}.")
        if not isinstance(self.k, int) or isinstance(self.k, bool) or self.k < 1:
            raise ConfigError(f"k must be at least 1 and a whole number, got {self.k!r}.")
        if self.min_score is not None and self.mode == "keyword":
            raise ConfigError(
                "min_score compares cosines, which keyword search has none of. Use mode hybrid or vector."
            )
        if self.min_score is not None and not -1 <= self.min_score <= 1:
            raise ConfigError(f"min_score is a cosine between -1 and 1, got {self.min_score}.")


@dataclass(slots=True)
class _Found:
    """What one kind's lists say about its rows."""

    kind: str
    weight: float
    cosine: dict[int, float] = field(default_factory=dict)
    bm25: dict[int, float] = field(default_factory=dict)
    places: dict[str, dict[int, int]] = field(default_factory=dict)
    explain: dict[str, Any] = field(default_factory=dict)
    fallback: str | None = None

    def ranked(self, name: str, rows: Sequence[int]) -> None:
        self.places[name] = dict(zip(rows, range(1, len(rows) + 1), strict=True))

    def ranks(self, row: int) -> dict[str, int]:
        return {name: places[row] for name, places in self.places.items() if row in places}


def search(store: Store, embeddings: EmbeddingService, query: Query, *, explain: bool = False) -> Hits:
    """Return the best hits of a query.

    When the embedder is down, refused or not ready in time, keywords answer alone and ``degraded`` says why; a query
    whose vector was asked for (mode ``vector``) raises instead.
    """
    if not query.text.strip() and query.vector is None:
        return Hits()
    started = time.perf_counter()
    vector, degraded = _vector_of(embeddings, query)
    if vector is not None:
        degraded = store.why_outdated()
    embedded = time.perf_counter()
    found = [_find(store, kind, query, vector) for kind in query.kinds]
    hits = _hits(store, found, query, vector is not None)
    details = None
    if explain:
        details = {
            "mode": query.mode if vector is not None else "keyword",
            "kinds": {part.kind: part.explain for part in found},
            "embed_ms": round((embedded - started) * 1000, 3),
            "search_ms": round((time.perf_counter() - embedded) * 1000, 3),
        }
    fallback = next((part.fallback for part in found if part.fallback), None)
    return Hits(hits, degraded=degraded, explain=details, fallback=fallback)


def vector_weight(model: str, kind: str) -> float:
    """Return the share of the cosine in a hybrid score for a kind of items embedded by a model."""
    fitted = next((weights for name, weights in VECTOR_WEIGHTS.items() if model.startswith(name)), {})
    return fitted.get(kind, _UNFITTED_WEIGHT)


def _vector_of(embeddings: EmbeddingService, query: Query) -> tuple[Vectors | None, str | None]:
    if query.mode == "keyword":
        return None, None
    if query.vector is not None:
        return _given(query.vector, embeddings.dim), None
    try:
        if query.mode == "vector" or query.model_seconds is None:
            return embeddings.embed_text(query.text, "query"), None
        vector = embeddings.embed_within(query.text, "query", query.model_seconds)
        return vector, None if vector is not None else _not_ready(query.model_seconds)
    except (EmbedderError, MemoryBudgetError) as error:
        if query.mode == "vector":
            raise
        return None, f"only keywords were searched: {error}"


def _not_ready(seconds: float) -> str:
    return (
        f"only keywords were searched: the model was not ready within {seconds:g} s (search.model_seconds). "
        "It goes on; ask again"
    )


def _given(vector: Vectors, dim: int) -> Vectors:
    try:
        given = np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidVectorError(f"The query vector must be {dim} numbers: {error}.") from error
    if given.shape != (dim,) or not np.isfinite(given).all() or not given.any():
        raise InvalidVectorError(
            f"The query vector must be {dim} finite numbers that are not all zero; got {given.shape}."
        )
    unit: Vectors = normalise(given[np.newaxis])[0]
    return unit


def _find(store: Store, kind: str, query: Query, vector: Vectors | None) -> _Found:
    found = _Found(kind, vector_weight(store.tables[kind].collection.model, kind))
    # A plain vector search needs no more than k: asking the index for more would only cost time.
    wanted = query.k if query.mode == "vector" else max(_CANDIDATES, 2 * query.k)
    if vector is not None:
        nearest = store.nearest(kind, vector, wanted, query.where)
        found.cosine = dict(zip(nearest.rows, nearest.scores, strict=True))
        found.ranked("vector", nearest.rows)
        found.explain |= {"answered_by": nearest.answered_by, "reason": nearest.reason}
        found.fallback = nearest.reason if nearest.is_fallback else None
    if query.mode != "vector" and query.text.strip():
        matches = _keyword(store, kind, query, wanted)
        found.bm25 = dict(matches)
        found.ranked("keyword", [row for row, _ in matches])
        found.explain["keywords"] = match_expression(query.text)
        if vector is not None:
            found.cosine |= store.scores(kind, vector, [row for row in found.bm25 if row not in found.cosine])
    return found


def _keyword(store: Store, kind: str, query: Query, wanted: int) -> list[tuple[int, float]]:
    table = store.tables[kind]
    if query.where is None:
        return table.keyword(query.text, wanted)
    # The filter is applied to the ranked list, so all of that is needed: who passes may stand last.
    matches = table.keyword(query.text, table.count())
    allowed = store.passing(kind, query.where, [row for row, _ in matches])
    return [match for match in matches if match[0] in allowed][:wanted]


def _hits(store: Store, found: list[_Found], query: Query, has_vector: bool) -> list[Hit]:
    scored = _fuse(found, query, has_vector=has_vector)
    if query.min_score is not None:
        scored = [entry for entry in scored if round(entry[1].cosine.get(entry[2], -1.0), 6) >= query.min_score]
    best = sorted(scored, key=lambda entry: (-entry[0], entry[1].kind, entry[2]))[: query.k]
    items = {
        part.kind: store.tables[part.kind].items([row for _, owner, row in best if owner is part]) for part in found
    }
    cut = focus(query.text)
    hits = []
    for _, part, row in best:
        item = items[part.kind].get(row)
        if item is not None:  # it may have been deleted since it was found
            hits.append(_hit(item, part, row, cut))
    return hits


def _fuse(found: list[_Found], query: Query, *, has_vector: bool) -> list[tuple[float, _Found, int]]:
    """Return (score to order by, kind, row) of every candidate."""
    if query.mode == "vector":
        return [(score, part, row) for part in found for row, score in part.cosine.items()]
    if not has_vector:
        tops = {part.kind: max(part.bm25.values(), default=1.0) or 1.0 for part in found}
        return [(score / tops[part.kind], part, row) for part in found for row, score in part.bm25.items()]
    cosines = [score for part in found for score in part.cosine.values()]
    low, high = min(cosines, default=0.0), max(cosines, default=1.0)
    spread = (high - low) or 1.0
    fused = []
    for part in found:
        weight = part.weight if query.weight is None else query.weight
        part.explain["vector_weight"] = weight
        top = max(part.bm25.values(), default=1.0) or 1.0
        cosine, bm25 = part.cosine, part.bm25
        fused += [
            (
                weight * ((cosine[row] - low) / spread if row in cosine else 0.0)
                + (1 - weight) * bm25.get(row, 0.0) / top,
                part,
                row,
            )
            for row in cosine.keys() | bm25.keys()
        ]
    return fused


def _hit(item: Item, part: _Found, row: int, cut: Callable[[str], str]) -> Hit:
    score = part.cosine.get(row)
    if score is not None:  # float32 vectors are of unit length give or take a little
        score = round(min(1.0, max(-1.0, score)), 6)
    return Hit(
        id=item.id,
        text=item.text,
        kind=part.kind,
        score=score,
        distance=None if score is None else round(1.0 - score, 6),
        source=item.source,
        start=item.start,
        end=item.end,
        metadata=item.metadata,
        ranks=part.ranks(row),
        snippet=cut(item.text),
    )
