"""``ready``: how soon a new process has its first answer, what a question costs then, where a cold search spends time.

A small store of notes, the static model, and MiniLM where ``--models`` names a folder in which it was pulled. A new
process imports, opens the store, loads the model and asks, each by itself; then it asks what was never asked before,
again and again. "Cold" is a new process: files are in the page cache and compiled.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.children import ROOT, environment, in_child
from benchmarks.corpus import headings, notes
from benchmarks.options import Options
from benchmarks.table import Row, at_most, shown, skipped
from benchmarks.timing import Cost, Spread, interleave, run_program, say

__all__ = ["answer", "fill", "run"]

MODELS = {"static": (0.5, 2.0), "all-MiniLM-L6-v2": (1.0, 10.0)}
"""The models; within how many seconds the first, and within how many milliseconds another answer must be there."""

_PARTS = ("import", "store", "model", "question", "close")


def run(options: Options) -> Iterator[Row]:
    """Measure each model that is here."""
    size = options.size(1_000, 50, options.rows)
    models = options.models.resolve() if options.models else None
    for model, (seconds, milliseconds) in MODELS.items():
        if model != "static" and (models is None or not (models / model / "model.safetensors").is_file()):
            yield skipped("ready", f"it needs --models PATH, a folder in which {model} was pulled")
            continue
        say(f"ready: {model}")
        given = {"folder": str(options.work / f"ready-{model}"), "model": model, "models": models and str(models)}
        in_child("benchmarks.ready:fill", options.work, size=size, **given)
        actions = {
            "inside": partial(_inside, options.work, given),
            "program": partial(_program, options.work, given),
            "nothing": partial(_nothing, options.work),
        }
        for action in actions.values():
            action(-1)  # the first run of all compiles and reads from disk
        yield from _rows(model, size, interleave(options.turns(15), actions), seconds, milliseconds)


def _rows(model: str, size: int, found: dict[str, Any], seconds: float, milliseconds: float) -> Iterator[Row]:
    parts = {part: Spread.of([one[part] for one in found["inside"]]) for part in _PARTS}
    first = Spread.of([sum(one[part] for part in _PARTS[:-1]) for one in found["inside"]])
    told = ", ".join(f"{part} {spread.median * 1000:.0f}" for part, spread in parts.items())
    cpu = Spread.of([one["cpu"] for one in found["inside"]])
    what = f"{model}: first answer of a process"
    row = Row("ready", what, f"{shown(first, ' s')}, CPU {cpu.median:.3g}", data={"inside": found["inside"]})
    yield at_most(row, seconds, first.median)
    later = Spread.of([one["later"] * 1000 for one in found["inside"]])
    worked = Spread.of([one["later_cpu"] * 1000 for one in found["inside"]])
    row = Row("ready", f"{model}: a question to {size:,} notes", f"{shown(later, ' ms')}, CPU {worked.median:.3g}")
    yield at_most(row, milliseconds, later.median)
    whole, nothing = (Spread.of([cost.wall for cost in found[name]]) for name in ("program", "nothing"))
    rest = whole.median - nothing.median - sum(spread.median for spread in parts.values())
    yield Row(
        "ready",
        f"{model}: omnimemory search, a whole process",
        shown(whole, " s"),
        f"ms: interpreter {nothing.median * 1000:.0f}, {told}, command line and output {rest * 1000:.0f}",
    )


def _inside(work: Path, given: dict[str, Any], number: int) -> Any:
    return in_child("benchmarks.ready:answer", work, seed=number, **given)


def _nothing(work: Path, _: int) -> Cost:
    return run_program([sys.executable, "-c", "pass"], cwd=ROOT, environment=environment(work))


def _program(work: Path, given: dict[str, Any], number: int) -> Cost:
    places = {
        "OMNIMEMORY_STORE": f"{given['folder']}/store",
        "OMNIMEMORY_CACHE_PATH": f"{given['folder']}/cache",
        "OMNIMEMORY_MODELS_PATH": given["models"] or "",
        "OMNIMEMORY_CONFIG": "",
    }
    kept = {name: value for name, value in places.items() if value or name == "OMNIMEMORY_CONFIG"}
    (question,) = headings(1, 1000 + number)  # asked before, its vector would be in the cache
    return run_program(
        [sys.executable, "-m", "omnimemory", "search", question], cwd=ROOT, environment={**environment(work), **kept}
    )


# -- in a process of its own


def fill(folder: str, model: str, models: str | None, size: int) -> None:
    """Make the store."""
    with _memory(folder, model, models) as memory:
        memory.add(notes(size))


def answer(folder: str, model: str, models: str | None, seed: int) -> dict[str, float]:
    """Return the seconds of each part of the first answer, and the median of later ones."""
    marks = [time.perf_counter()]
    import omnimemory.cli.search
    import omnimemory.memory  # noqa: F401 - what a search imports

    marks.append(time.perf_counter())
    memory = _memory(folder, model, models)
    marks.append(time.perf_counter())
    memory.embeddings.initialize()
    marks.append(time.perf_counter())
    first, *others = headings(101, seed)
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
    return {**dict(zip(_PARTS, spans, strict=True)), "cpu": cpu, **medians}


def _memory(folder: str, model: str, models: str | None) -> Any:
    from omnimemory.config import Settings
    from omnimemory.memory import Memory

    values = {"store.path": Path(folder, "store"), "cache.path": Path(folder, "cache"), "embedding.model": model}
    if models is not None:
        values["models.path"] = Path(models)
    return Memory(settings=Settings().with_values(values))
