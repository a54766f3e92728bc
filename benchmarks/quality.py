"""``quality``: what MiniLM finds in int8 and with shorter vectors, of what it finds in float32.

Commands (``--tldr``): descriptions are the questions, the commands of all pages are what is searched. Sections
(``--docs``): headings are the questions, the sections below them are searched, as many of them as there are questions.
Everything is compared with everything, without keywords. ``--models`` is a folder of pulled models.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.children import in_child
from benchmarks.embed import MODEL
from benchmarks.options import Options
from benchmarks.retrieval_sets import commands, measures, sections
from benchmarks.table import Row, at_least, skipped
from benchmarks.timing import say

__all__ = ["answer", "run"]

DIMS = (256, 128, 64)
_SEED = 5
_SECTIONS = 800
_IN_BATCHES = 400


def run(options: Options) -> Iterator[Row]:
    """Compare on what there is of ``options.tldr`` and ``options.docs``."""
    models = options.models.resolve() if options.models else None
    if models is None or not (models / MODEL / "model.safetensors").is_file():
        yield skipped("quality", f"it needs --models PATH, a folder in which {MODEL} was pulled")
        return
    for kind, name, path in (("commands", "tldr", options.tldr), ("sections", "docs", options.docs)):
        if path is None or not path.exists():
            yield skipped("quality", f"there is no {path}" if path else f"--{name} PATH is not given")
            continue
        asked = options.size(2_000 if kind == "commands" else _SECTIONS, 40, options.queries)
        given = {"kind": kind, "path": str(path.resolve()), "questions": asked, "model": str(models / MODEL)}
        yield from _rows(kind, in_child("benchmarks.quality:answer", options.work, **given))


def _rows(kind: str, found: dict[str, Any]) -> Iterator[Row]:
    about = f"{kind}, {found['questions']:,} questions, {found['texts']:,} texts"
    exact, whole = found["ranks"]["float32"], found["ranks"]["int8"]
    differences = [_reciprocal(one) - _reciprocal(other) for one, other in zip(whole, exact, strict=True)]
    mean = statistics.fmean(differences)
    within = 1.96 * statistics.stdev(differences) / math.sqrt(len(differences))
    row = Row(
        "quality",
        f"{about}: MRR@10 in int8",
        f"{measures(whole)['mrr']:.3f}, difference {mean:+.4f}, 95 % of it within {within:.4f}",
        f"float32: {measures(exact)['mrr']:.3f}",
        data=found,
    )
    yield at_least(row, -max(0.015, within), mean)
    for dim in DIMS:
        cut = measures(found["ranks"][str(dim)])["mrr"]
        lost = 1 - cut / measures(whole)["mrr"]
        yield Row("quality", f"{about}: MRR@10 in int8, cut to {dim} numbers", f"{cut:.3f}, {lost:.0%} less")
    least, middle = min(found["cosines"]), statistics.fmean(found["cosines"])
    row = Row("quality", f"{kind}: cosine of int8 and float32", f"{middle:.4f} in the mean, {least:.4f} at least")
    yield at_least(row, 0.98, middle)
    same = found["alone"]
    row = Row("quality", f"{kind}: cosine of a text in int8 alone and in a batch", f"{same:.8f} at least")
    yield at_least(row, 0.9999, same)


def _reciprocal(rank: int) -> float:
    return 1 / rank if rank else 0.0


# -- in a process of its own


def answer(kind: str, path: str, questions: int, model: str) -> dict[str, Any]:
    """Return the ranks of the right answers by way of embedding (0: not among the ten), and what vectors differ by."""
    import numpy as np

    from omnimemory.embedders.base import truncate
    from omnimemory.embedders.onnx import OnnxEmbedder

    asked, texts, right = _commands(Path(path), questions) if kind == "commands" else _sections(Path(path), questions)
    vectors, ranks = {}, {}
    for precision in ("float32", "int8"):
        say(f"  {kind}, {precision}: {len(texts):,} texts")
        embedder = OnnxEmbedder(model, precision=precision)
        vectors[precision] = embedder.embed(asked, "query"), embedder.embed(texts, "document")
        ranks[precision] = _ranks(*vectors[precision], right)
    for dim in DIMS:
        ranks[str(dim)] = _ranks(*(truncate(rows, dim, force=True) for rows in vectors["int8"]), right)
    exact, whole = vectors["float32"][1], vectors["int8"][1]
    some = random.Random(_SEED).sample(range(len(texts)), min(_IN_BATCHES, len(texts)))
    alone = np.concatenate([embedder.embed([texts[place]], "document") for place in some])
    return {
        "questions": len(asked),
        "texts": len(texts),
        "ranks": ranks,
        "cosines": (exact.astype(np.float64) * whole).sum(axis=1).tolist(),
        "alone": float((alone.astype(np.float64) * whole[some]).sum(axis=1).min()),
    }


def _commands(path: Path, questions: int) -> tuple[list[str], list[str], list[list[int]]]:
    texts, right = commands(path)
    places = {key: place for place, key in enumerate(texts)}
    asked = random.Random(_SEED).sample(list(right), min(questions, len(right)))
    return asked, list(texts.values()), [[places[key] for key in right[one]] for one in asked]


def _sections(path: Path, questions: int) -> tuple[list[str], list[str], list[list[int]]]:
    known = sections(path)
    chosen = random.Random(_SEED).sample(known, min(questions, len(known)))
    return [title for title, _ in chosen], [body for _, body in chosen], [[place] for place in range(len(chosen))]


def _ranks(asked: Any, texts: Any, right: Sequence[Sequence[int]]) -> list[int]:
    ranks = []
    for question, places in zip(asked, right, strict=True):
        scores = texts @ question
        rank = 1 + int((scores > scores[list(places)].max()).sum())
        ranks.append(rank if rank <= 10 else 0)
    return ranks
