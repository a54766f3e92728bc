"""``ready``: how soon a new process has its first answer, what a question costs then, where a cold search spends time.

A small store of notes, the static model, and MiniLM where ``--models`` names a folder in which it was pulled. A new
process imports, opens the store, loads the model and asks, each by itself; then it asks what was never asked before,
again and again. "Cold" is a new process: files are in the page cache and compiled. With MiniLM, peers take turns with
ours: Chroma over the same notes with its own embedding function, and with sentence-transformers where ``--peers`` names
the Python of an environment that has both.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.children import ROOT, environment, in_child
from benchmarks.corpus import headings
from benchmarks.options import Options
from benchmarks.peer_files import imports, write_chroma_files
from benchmarks.ready_sides import PARTS
from benchmarks.table import Row, at_most, figures, shown, skipped
from benchmarks.timing import Cost, Spread, interleave, run_program, say

__all__ = ["run"]

MODELS = {"static": (0.5, 2.0), "all-MiniLM-L6-v2": (1.0, 10.0)}
"""The models; within how many seconds the first, and within how many milliseconds another answer must be there."""

TORCH = "Chroma and sentence-transformers"
PEERS = (6.0, 15.0)
"""The least seconds and milliseconds of peers with torch: ours must be as much faster in the same run."""


def run(options: Options) -> Iterator[Row]:
    """Measure each model that is here."""
    size = options.size(1_000, 50, options.rows)
    models = options.models.resolve() if options.models else None
    peers = {} if models is None else _peers(options, models / "all-MiniLM-L6-v2", size)
    if TORCH not in peers:
        yield skipped("ready", f"{TORCH} are not compared: that needs --models and --peers")
    for model, (seconds, milliseconds) in MODELS.items():
        if model != "static" and (models is None or not (models / model / "model.safetensors").is_file()):
            yield skipped("ready", f"it needs --models PATH, a folder in which {model} was pulled")
            continue
        say(f"ready: {model}")
        given = {"folder": str(options.work / f"ready-{model}"), "model": model, "models": models and str(models)}
        in_child("benchmarks.ready_sides:fill", options.work, size=size, **given)
        actions = {
            "nothing": partial(_nothing, options.work),
            "program": partial(_program, options.work, given),
            "inside": partial(_inside, options.work, given),
            **peers,
        }
        rounds = options.turns(15)
        for action in actions.values():
            action(rounds)  # the first run of all compiles and reads from disk; its questions are asked in no round
        found = interleave(rounds, actions)
        yield from _rows(model, size, found, seconds, milliseconds)
        for peer in peers:
            yield from _peer_rows(model, size, found, peer)


def _peers(options: Options, model: Path, size: int) -> dict[str, Any]:
    """Return what can be compared with, by name: a function that asks in a new process; all ask one collection."""
    if not (model / "model.safetensors").is_file():
        return {}
    home, folder = options.work / "chroma-home", str(options.work / "ready-chroma")
    write_chroma_files(model, home)
    in_child("benchmarks.ready_sides:fill_chroma", options.work, folder=folder, model=str(model), size=size)
    # Chroma's own function takes forty times as long for each question as ours does.
    given = {"folder": folder, "files": str(home), "later_questions": options.size(20, 1)}
    peers = {"Chroma": partial(_peer, options.work, given, None)}
    python = str(options.peers) if options.peers else None
    if python is not None and imports(python, "chromadb, sentence_transformers"):
        peers[TORCH] = partial(_peer, options.work, {**given, "model": str(model)}, python)
    return peers


def _rows(model: str, size: int, found: dict[str, Any], seconds: float, milliseconds: float) -> Iterator[Row]:
    parts = {part: Spread.of([one[part] for one in found["inside"]]) for part in PARTS}
    first = Spread.of([sum(one[part] for part in PARTS[:-1]) for one in found["inside"]])
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


def _peer_rows(model: str, size: int, found: dict[str, Any], peer: str) -> Iterator[Row]:
    first = [sum(one[part] for part in PARTS[:-1]) for one in found["inside"]], [one["first"] for one in found[peer]]
    later = [[one["later"] * 1000 for one in found[name]] for name in ("inside", peer)]
    for what, (ours, theirs), unit, place in (
        ("first answer of a process", first, " s", 0),
        (f"a question to {size:,} notes", later, " ms", 1),
    ):
        row = figures("ready", f"{model}: {what}, against {peer}", ours, theirs, peer, unit)
        assert row.ratio is not None
        yield at_most(row, round(MODELS[model][place] / PEERS[place], 2), row.ratio.median) if peer == TORCH else row


def _peer(work: Path, given: dict[str, Any], python: str | None, number: int) -> Any:
    return in_child("benchmarks.ready_sides:chroma", work, python=python, seed=number, **given)


def _inside(work: Path, given: dict[str, Any], number: int) -> Any:
    return in_child("benchmarks.ready_sides:answer", work, seed=number, **given)


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
