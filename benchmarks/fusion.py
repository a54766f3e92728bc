"""``fusion``: how much the vector should weigh in a hybrid search, fitted on half of the questions.

Commands: a tab-separated file of page, description and command (as made from tldr-pages); each description
is a question, and right is any command that some page gives for it. Documents: a folder; each heading that
occurs once is a question, and right is the section below it, which is stored without its heading. The
winner of one random half is then scored on the other half.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.children import in_child
from benchmarks.history import entry
from benchmarks.options import Options
from benchmarks.retrieval_sets import commands, key_of, measures, sections
from benchmarks.table import Row, skipped
from benchmarks.timing import say

__all__ = ["fit_commands", "fit_documents", "run"]

K = 10
WEIGHTS = tuple(tenth / 10 for tenth in range(11))
_SEED = 11
_WORSE = 0.01


@dataclass(frozen=True, slots=True)
class _Question:
    text: str
    right: frozenset[str]


def run(options: Options) -> Iterator[Row]:
    """Fit on what there is of ``options.tldr`` and ``options.docs``."""
    queries = options.size(2_000, 40, options.queries)
    for name, path, function in (
        ("tldr", options.tldr, "benchmarks.fusion:fit_commands"),
        ("docs", options.docs, "benchmarks.fusion:fit_documents"),
    ):
        if path is None or not path.exists():
            yield skipped("fusion", f"there is no {path}" if path else f"--{name} PATH is not given")
            continue
        say(f"fusion: {name}")
        folder = options.work / f"fusion-{name}"
        found = in_child(
            function,
            options.work,
            folder=str(folder),
            path=str(path.resolve()),
            queries=queries,
            model={"embedding.model": options.model, "models.path": options.models and str(options.models.resolve())},
        )
        yield from _rows(found)


def _rows(found: dict[str, Any]) -> Iterator[Row]:
    kind = found["kind"]
    about = f"{found['fitted_on']:,} questions, {found['stored']:,} {kind}"
    for name, score in found["fit"].items():
        yield Row(
            "fusion", f"{kind}, fitted half, {name}", _shown(score), about if name == "vector" else "", data=score
        )
    for name, score in found["held"].items():
        note = {found["winner"]: "the winner", found["current"]: "set in omnimemory/search.py"}.get(name, "")
        row = Row("fusion", f"{kind}, other half, {name}", _shown(score), note, data=score)
        yield _judged(row, score, found["held"]) if name == found["current"] else row


def _judged(row: Row, score: dict[str, float], held: dict[str, dict[str, float]]) -> Row:
    """Return the row with its target: to be hardly worse than the better of vectors and keywords alone."""
    best = {name: max(held["vector"][name], held["keyword"][name]) for name in ("mrr", "found")}
    ok = all(score[name] >= best[name] - _WORSE for name in best)
    return replace(row, target=f">= best leg - {_WORSE:g}", ok=ok, by_size=True)


def _shown(score: dict[str, float]) -> str:
    return f"MRR@10 {score['mrr']:.3f}, recall@1 {score['first']:.3f}, @10 {score['found']:.3f}"


# -- in a process of its own


def fit_commands(folder: str, path: str, queries: int, model: dict[str, Any]) -> dict[str, Any]:
    """Fit on (page, description, command) lines."""
    texts, right = commands(Path(path))
    history = Path(folder, "history")
    history.parent.mkdir(parents=True)
    history.write_bytes(b"".join(entry(command, 1_600_000_000 + n) for n, command in enumerate(texts.values())))
    with _memory(folder, model) as memory:
        # The placeholders of the pages are no secrets, and a redacted command would not be recognised.
        memory.ingest_history(history, shell="zsh", keep_secrets=True)
        stored = {key_of(text) for (text,) in memory.store.catalog.rows("SELECT text FROM commands")}
        questions = [_Question(text, frozenset(keys & stored)) for text, keys in right.items() if keys & stored]
        return _fit(memory, "commands", questions, queries, lambda hit: key_of(hit.text))


def fit_documents(folder: str, path: str, queries: int, model: dict[str, Any]) -> dict[str, Any]:
    """Fit on the headings of a folder."""
    target = Path(folder, "sections")
    questions = []
    for number, (title, body) in enumerate(sections(Path(path))):
        file = target / f"{number // 1000:03}" / f"{number:06}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(body, encoding="utf-8")
        questions.append(_Question(title, frozenset([file.resolve().as_posix()])))
    with _memory(folder, model) as memory:
        memory.ingest(target)
        return _fit(memory, "documents", questions, queries, lambda hit: hit.source)


def _memory(folder: str, model: dict[str, Any]) -> Any:
    from omnimemory.config import Settings
    from omnimemory.memory import Memory

    values = {"store.path": Path(folder, "store"), "cache.path": Path(folder, "cache"), "index.enabled": False}
    return Memory(settings=Settings().with_values(values | model))


def _fit(
    memory: Any, kind: str, questions: list[_Question], most: int, name_of: Callable[[Any], str]
) -> dict[str, Any]:
    from omnimemory.search import Query, search, vector_weight

    def score(half: list[_Question], **how: Any) -> dict[str, float]:
        say(f"  {kind}: {how}")
        ranks = []
        for question in half:
            hits = search(memory.store, memory.embeddings, Query(question.text, k=K, kinds=(kind,), **how))
            ranks.append(next((rank for rank, hit in enumerate(hits, 1) if name_of(hit) in question.right), 0))
        return measures(ranks)

    dice = random.Random(_SEED)
    chosen = dice.sample(questions, min(most, len(questions)))
    fitted, held = chosen[::2], chosen[1::2]
    fit = {mode: score(fitted, mode=mode) for mode in ("vector", "keyword")}
    hybrids = {weight: score(fitted, mode="hybrid", weight=weight) for weight in WEIGHTS}
    best = max(hybrids, key=lambda weight: hybrids[weight]["mrr"])
    current = vector_weight(memory.embeddings.embedder.name, kind)
    return {
        "kind": kind,
        "stored": memory.store.tables[kind].count(),
        "fitted_on": len(fitted),
        "fit": {**fit, **{_hybrid(weight): measures for weight, measures in hybrids.items()}},
        "held": {
            **{mode: score(held, mode=mode) for mode in ("vector", "keyword")},
            **{_hybrid(weight): score(held, mode="hybrid", weight=weight) for weight in {best, current}},
        },
        "winner": _hybrid(best),
        "current": _hybrid(current),
    }


def _hybrid(weight: float) -> str:
    return f"hybrid {weight:g}"
