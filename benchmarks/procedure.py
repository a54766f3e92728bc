"""``procedure``: a long shell history: its first ingest, the next command, one command more, steps like one.

The history is generated: 100,000 events, of which a fifth are new commands. Memory is the peak of the process and of
the one that writes the index, added, beside that of a quarter of the history. Questions are asked in one warm process,
of contexts that are in the history and of commands that nobody ever typed; MiniLM is asked as well where ``--models``
names a folder in which it was pulled. Half a transition is looked for among 20,000 of them by us, by Chroma, and by
comparing all their stored vectors.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.children import in_child
from benchmarks.history import commands, entry, write_history
from benchmarks.options import Options
from benchmarks.table import Row, at_least, at_most, skipped
from benchmarks.timing import Stopwatch, peak_rss, say

__all__ = ["add_one", "ask", "first", "halves", "run"]

_NEW = 0.2
_SEED = 1
_K = 10
_LATER = 2_000_000_000


def run(options: Options) -> Iterator[Row]:
    """Measure each part in child processes, with the static model and, where it is, MiniLM."""
    lines = options.size(100_000, 600, options.lines)
    whole, quarter = options.work / "whole.history", options.work / "quarter.history"
    write_history(whole, lines, _SEED, new=_NEW)
    write_history(quarter, lines // 4, _SEED, new=_NEW)
    yield from _ingests(options, whole, quarter)
    yield from _answers(options, lines, "static")
    yield _one_more(options, whole)
    yield from _half_steps(options)
    models = options.models.resolve() if options.models else None
    if models is None or not (models / "all-MiniLM-L6-v2" / "model.safetensors").is_file():
        yield skipped("procedure", "MiniLM needs --models PATH, a folder in which it was pulled")
        return
    say("procedure: ingest with MiniLM")
    given = {"folder": str(options.work / "procedure-minilm"), "model": "minilm", "models": str(models)}
    in_child("benchmarks.procedure:first", options.work, source=str(whole), **given)
    yield from _answers(options, lines, "minilm", models)


def _ingests(options: Options, whole: Path, quarter: Path) -> Iterator[Row]:
    found = {}
    for name, source in (("quarter", quarter), ("static", whole)):
        say(f"procedure: ingest of {source.name}")
        folder = str(options.work / f"procedure-{name}")
        found[name] = in_child("benchmarks.procedure:first", options.work, folder=folder, source=str(source))
    peaks = {name: one["peak"] + one["drain_peak"] for name, one in found.items()}
    more = found["static"]["events"] - found["quarter"]["events"]
    ours = found["static"]
    yield Row(
        "procedure",
        f"first ingest of {ours['events']:,} events, {ours['commands']:,} commands",
        f"{ours['wall']:.3g} s, CPU {ours['cpu']:.3g}; peak {peaks['static'] / 2**20:,.0f} MiB",
        f"a quarter of it: {found['quarter']['wall']:.3g} s, {peaks['quarter'] / 2**20:,.0f} MiB",
        data=found,
    )
    yield Row(
        "procedure", "memory for each event beyond a quarter", f"{(peaks['static'] - peaks['quarter']) / more:,.0f} B"
    )


def _answers(options: Options, lines: int, model: str, models: Path | None = None) -> Iterator[Row]:
    say(f"procedure: next, {model}")
    given = {"folder": str(options.work / f"procedure-{model}"), "model": model, "models": models and str(models)}
    times = options.size(1000, 20, options.queries)
    found = in_child("benchmarks.procedure:ask", options.work, lines=lines, times=times, **given)
    yield Row("procedure", f"{model}: first prediction of a process", f"{found['first']:.3g} s", data=found)
    for kind in ("known", "unseen"):
        median, p99, cpu, cpu99 = (1000 * value for value in found[kind])
        target = 20.0 if model != "static" and kind == "unseen" else 5.0
        what = f"{model}: next after {'a known' if kind == 'known' else 'an unseen'} command"
        yield at_most(Row("procedure", f"{what}, p50", f"{median:.2f} ms, CPU {cpu:.2f}"), target, median)
        row = Row("procedure", f"{what}, p99", f"{p99:.2f} ms, CPU {cpu99:.2f}")
        yield at_most(row, 25.0, p99) if target == 5.0 else row
    for kind in ("sessions", "steps"):
        first, later = found[kind]
        yield Row("procedure", f"{model}: {kind}", f"first {first:.3g} s, then {1000 * later:.0f} ms")


def _one_more(options: Options, source: Path) -> Row:
    say("procedure: one command more")
    folder = str(options.work / "procedure-static")
    found = in_child("benchmarks.procedure:add_one", options.work, folder=folder, source=str(source))
    row = Row(
        "procedure",
        "one new command: texts embedded, transitions that came and went",
        f"{found['embedded']}, +{found['added']} -{found['removed']}, {found['seconds']:.3g} s, CPU {found['cpu']:.2g}",
        "the rest: Chroma's process",
        data=found,
    )
    return at_most(row, 1, found["embedded"])


def _half_steps(options: Options) -> Iterator[Row]:
    say("procedure: half vectors")
    found = in_child(
        "benchmarks.procedure:halves",
        options.work,
        folder=str(options.work / "procedure-halves"),
        wanted=options.size(20_000, 100),
        times=options.size(200, 5, options.queries),
    )
    for half in ("before", "after"):
        row = Row(
            "procedure",
            f"recall@{_K} of {found['transitions']:,} transitions, asked for what is {half}",
            f"{found[half]['ours']:.4f}, {found[half]['ms']:.2f} ms",
            f"Chroma: {found[half]['chroma']:.4f}, {found[half]['chroma_ms']:.2f} ms",
            data=found,
        )
        yield at_least(row, 0.99, found[half]["ours"])


# -- in a process of its own


def _memory(folder: str, model: str = "static", models: str | None = None, **values: Any) -> Any:
    from omnimemory.config import Settings
    from omnimemory.memory import Memory

    given = {"store.path": Path(folder, "store"), "cache.path": Path(folder, "cache"), "embedding.model": model}
    if models is not None:
        given["models.path"] = Path(models)
    return Memory(settings=Settings().with_values({**given, **values}))


def first(folder: str, source: str, model: str = "static", models: str | None = None) -> dict[str, Any]:
    """Ingest a history into a new store; return what it cost and what there is."""
    watch = Stopwatch()
    with _memory(folder, model, models) as memory:
        memory.ingest_history(source, shell="zsh")
        counts = memory.store.status()["commands"]
    cost = watch.cost()
    own, drain = peak_rss()
    return {**counts, "wall": cost.wall, "cpu": cost.cpu, "peak": own, "drain_peak": drain}


def ask(folder: str, model: str, models: str | None, lines: int, times: int) -> dict[str, Any]:
    """Return the seconds of the first prediction; median and p99 of later ones; first and median of other questions."""
    known = list(commands(lines, _SEED, new=_NEW))
    dice = random.Random(2)
    places = [dice.randrange(2, lines) for _ in range(times)]
    contexts = [known[place - 2 : place] for place in places]
    foreign = [f"frobnicate --level {number} {known[place]}"[:80] for number, place in enumerate(places)]
    with _memory(folder, model, models) as memory:
        memory.embeddings.initialize()
        begun = time.perf_counter()
        memory.next_command(contexts[0])
        found: dict[str, Any] = {"first": time.perf_counter() - begun}
        memory.next_command([foreign.pop()])
        found["known"] = _spread(memory.next_command, contexts)
        found["unseen"] = _spread(lambda text: memory.next_command([text]), foreign)
        for name, question in (
            ("sessions", memory.similar_sessions),
            ("steps", lambda some: memory.similar_steps(some[-1])),
        ):
            begun = time.perf_counter()
            question(contexts[0])
            found[name] = time.perf_counter() - begun, _spread(question, contexts[:10])[0]
    return found


def _spread(question: Callable[[Any], object], asked: Sequence[Any]) -> tuple[float, ...]:
    """Return the median and the 99th percentile in seconds, on the clock and of processors."""
    spent: list[tuple[float, float]] = []
    for one in asked:
        begun, worked = time.perf_counter(), time.process_time()
        question(one)
        spent.append((time.perf_counter() - begun, time.process_time() - worked))
    clock, cpu = (sorted(side) for side in zip(*spent, strict=True))
    return tuple(side[int(share * len(side))] for side in (clock, cpu) for share in (0.5, 0.99))


def add_one(folder: str, source: str) -> dict[str, Any]:
    """Add a new command to a history, ingest it again, and return what that took."""
    with Path(source).open("ab") as file:
        file.write(entry("git status", _LATER) + entry("frobnicate --once", _LATER + 1))
    with _memory(folder) as memory:
        known = _transitions(memory)
        begun, worked = time.perf_counter(), time.process_time()
        report = memory.ingest_history(source, shell="zsh")
        seconds, cpu = time.perf_counter() - begun, time.process_time() - worked
        now = _transitions(memory)
    return {
        "embedded": report.embedded,
        "seconds": seconds,
        "cpu": cpu,
        "added": len(now - known),
        "removed": len(known - now),
    }


def _transitions(memory: Any) -> set[tuple[int, int]]:
    return set(memory.store.catalog.rows("SELECT before, after FROM transitions"))


def halves(folder: str, wanted: int, times: int) -> dict[str, Any]:
    """Return the recall of half a transition: ours, and Chroma's, of a comparison with all stored vectors."""
    source = Path(folder, "history.jsonl")
    source.parent.mkdir(parents=True)
    lines = _until(wanted)
    source.write_text("".join(json.dumps({"command": line, "session": "one"}) + "\n" for line in lines))
    with _memory(folder, **{"history.steps": wanted, "search.exact_rows": 0}) as memory:
        memory.ingest_history(source, shell="jsonl")
        reason = memory.warm()
        if reason:
            raise RuntimeError(f"the index is not open: {reason}")
        from omnimemory.procedure.stored_steps import transition_table
        from omnimemory.storage.vectors import read_vectors

        table = transition_table(memory.store)
        blocks = list(read_vectors(memory.store.catalog, table.collection))
        return {
            "transitions": sum(len(items) for _, items, _ in blocks),
            **_recalls(memory, blocks, lines, times),
        }


def _until(wanted: int) -> list[str]:
    """Return the beginning of a generated history that has so many distinct transitions."""
    found: list[str] = []
    pairs: set[tuple[str, str]] = set()
    for text in commands(10 * wanted, _SEED, new=_NEW):
        if found and found[-1] != text:
            pairs.add((found[-1], text))
        found.append(text)
        if len(pairs) >= wanted:
            break
    return found


def _recalls(memory: Any, blocks: list[Any], lines: list[str], times: int) -> dict[str, Any]:
    import numpy as np

    items, stored = (np.concatenate([block[part] for block in blocks]) for part in (1, 2))
    place = {row: number for number, row in enumerate(items.tolist())}
    rows = dict(memory.store.catalog.rows("SELECT text, id FROM commands"))
    pairs = {both: number for number, both in _numbered(memory, place).items()}
    dice, half = random.Random(3), stored.shape[1] // 2
    found: dict[str, Any] = {}
    for name, side in (("before", slice(0, half)), ("after", slice(half, None))):
        right: dict[str, list[float]] = {"ours": [], "chroma": [], "ms": [], "chroma_ms": []}
        for text in dice.sample(sorted(set(lines)), times):
            query = np.zeros(2 * half, dtype=np.float32)
            query[side] = memory.embeddings.embed_text(text)[:half]
            query /= np.linalg.norm(query)
            exact = stored @ query
            edge = np.sort(exact)[-_K] - 1e-5
            begun = time.perf_counter()
            steps = memory.similar_steps(**{name: text}, k=_K)
            right["ms"].append(time.perf_counter() - begun)
            numbers = [pairs[rows[one.before], rows[one.after]] for one in steps]
            right["ours"].append(float((exact[numbers] >= edge).mean()))
            begun = time.perf_counter()
            near = memory.store.nearest("transitions", query, _K)
            right["chroma_ms"].append(time.perf_counter() - begun)
            right["chroma"].append(float((exact[[place[row] for row in near.rows]] >= edge).mean()))
        found[name] = {
            **{key: statistics.mean(right[key]) for key in ("ours", "chroma")},
            **{key: 1000 * statistics.median(right[key]) for key in ("ms", "chroma_ms")},
        }
    return found


def _numbered(memory: Any, place: dict[int, int]) -> dict[int, tuple[int, int]]:
    rows = memory.store.catalog.rows("SELECT id, before, after FROM transitions")
    return {place[row]: (before, after) for row, before, after in rows if row in place}
