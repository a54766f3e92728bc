"""``embed``: MiniLM's texts per second, against the limit of the machine and against peers with the same weights.

Two kinds of text: shell commands (``--tldr``) and chunks of documentation (``--docs``), generated where these are not
given. ``--models`` is a folder of pulled models; ``--peers`` the Python of an environment with sentence-transformers
and txtai, which need torch and are no dependencies of ours. Chroma's embedding function gets a graph written by us, and
fewer texts, because it pads all to 256 tokens.
Ratios are of rates on the clock; what is judged is the lower 95 % bound over the rounds, or against the bare session,
which takes its turn after every 512 texts, over those turns. CPU ratios stand beside them.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.children import in_child
from benchmarks.embed_texts import some_documents, some_history, texts_of
from benchmarks.options import Options
from benchmarks.peer_files import imports, write_chroma_files
from benchmarks.table import Row, at_least, at_most, figures, shown, skipped
from benchmarks.timing import Spread, ratios, say

__all__ = ["run"]

MODEL = "all-MiniLM-L6-v2"
PRECISIONS = ("float32", "int8")
TARGETS = {
    ("sentence-transformers", "commands"): {"float32": 1.8, "int8": 3.3},
    ("sentence-transformers", "chunks"): {"float32": 1.4, "int8": 2.5},
    ("txtai", "commands"): {"float32": 1.5},
    ("txtai", "chunks"): {"float32": 1.5},
    ("Chroma", "commands"): {"float32": 12.0, "int8": 22.0},
}
"""What the lower bound of our rate by theirs must reach."""

_STUDENT = {1: 6.314, 2: 2.920, 3: 2.353, 4: 2.132, 5: 2.015, 6: 1.943, 7: 1.895, 8: 1.860, 9: 1.833}
"""One-sided 95 % of Student's t by degrees of freedom; beyond these 1.8, and 1.7 from 30 on."""


def run(options: Options) -> Iterator[Row]:
    """Compare what can be compared; without the model there is nothing."""
    models = options.models.resolve() if options.models else None
    if models is None or not (models / MODEL / "model.safetensors").is_file():
        yield skipped("embed", f"it needs --models PATH, a folder in which {MODEL} was pulled")
        return
    model = str(models / MODEL)
    texts = {kind: texts_of(options, kind) for kind in ("commands", "chunks")}
    peers = _peers(options, models / MODEL)
    yield from (skipped("embed", reason) for reason in peers.pop("missing", []))
    rounds = list(_rounds(options, model, texts, peers))
    for kind in texts:
        yield from _speed_rows(kind, rounds, list(peers))
        yield from _bare_rows(kind, rounds)
    yield _limit_row(options, model, texts["chunks"], rounds)
    yield from _small_rows(rounds, list(peers))
    if len(rounds) == options.turns():
        yield from _pipeline_rows(options, models)


def _peers(options: Options, model: Path) -> dict[str, Any]:
    """Return the peers that can run, by name: the function and its arguments; and why others cannot."""
    home = options.work / "chroma-home"
    write_chroma_files(model, home)
    peers: dict[str, Any] = {"Chroma": ("benchmarks.embed_sides:chroma", {"folder": str(home)}, None)}
    missing = []
    for name, function in (("sentence-transformers", "sentence_transformers"), ("txtai", "txtai")):
        python = str(options.peers) if options.peers else None
        if python is None or not imports(python, function):
            missing.append(f"{name} is not installed in the Python of --peers, or none is given")
            continue
        peers[name] = (f"benchmarks.embed_sides:{function}", {"model": str(model)}, python)
    return {**peers, "missing": missing}


def _rounds(options: Options, model: str, texts: dict[str, Path], peers: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rounds; who stops the run has those that are done."""
    for number in range(options.turns()):
        try:
            yield _round(options, model, texts, peers, number)
        except KeyboardInterrupt:
            if not number:
                raise
            say(f"stopped: the figures are of {number} rounds, and nothing else is measured")
            return


def _round(options: Options, model: str, texts: dict[str, Path], peers: dict[str, Any], number: int) -> dict[str, Any]:
    """Run every side once, one after the other."""
    results: dict[str, Any] = {}
    files = {kind: str(path) for kind, path in texts.items()}
    say(f"  round {number + 1}: the limit")  # just before what is compared with it: the machine's speed changes
    results["limit"] = in_child("benchmarks.embed_sides:limit", options.work, seconds=0.2 if options.quick else 1.0)
    for precision in PRECISIONS:
        say(f"  round {number + 1}: ours, {precision}")
        given = {"texts": files, "model": model, "precision": precision}
        for name, function in ((precision, "ours"), (f"bare {precision}", "bare")):
            found = in_child(f"benchmarks.embed_sides:{function}", options.work, **given)
            results |= {(kind, name): found[kind] for kind in texts}
    for name, (function, arguments, python) in peers.items():
        say(f"  round {number + 1}: {name}")
        asked = {"commands": str(_few(texts["commands"], options.size(128, 16)))} if name == "Chroma" else files
        found = in_child(function, options.work, python=python, texts=asked, **arguments)
        results |= {(kind, name): found[kind] for kind in asked}
    return results


def _few(path: Path, size: int) -> Path:
    few = path.with_suffix(".few.json")
    texts = json.loads(path.read_text("utf-8"))
    few.write_text(json.dumps(texts[:: max(1, len(texts) // size)][:size]), encoding="utf-8")
    return few


def _rates(rounds: Sequence[dict[str, Any]], key: tuple[str, str], clock: str) -> list[float]:
    return [results[key]["texts"] / results[key][clock] for results in rounds]


def _speed_rows(kind: str, rounds: list[dict[str, Any]], peers: list[str]) -> Iterator[Row]:
    for name in peers:
        if (kind, name) not in rounds[0]:
            continue
        for precision in PRECISIONS:
            ours, theirs = _rates(rounds, (kind, precision), "wall"), _rates(rounds, (kind, name), "wall")
            row = figures("embed", f"{kind}, {precision}, against {name}", ours, theirs, name, "/s")
            cpu = ratios(_rates(rounds, (kind, precision), "cpu"), _rates(rounds, (kind, name), "cpu"))
            row = replace(row, cpu_ratio=cpu)
            target = TARGETS.get((name, kind), {}).get(precision)
            yield row if target is None else at_least(row, target, lower_bound(ours, theirs))


def _bare_rows(kind: str, rounds: list[dict[str, Any]]) -> Iterator[Row]:
    for precision in PRECISIONS:
        pairs = [results[kind, f"bare {precision}"] for results in rounds]
        rates = ([1 / pair[side][0] for pair in pairs] for side in ("ours", "bare"))
        row = Row(
            "embed",
            f"{kind}, {precision}, against the bare session on the same batches, tokenised before",
            f"{shown(Spread.of([pair['ours'][0] for pair in pairs]), ' s')}",
            f"bare session: {shown(Spread.of([pair['bare'][0] for pair in pairs]), ' s')}",
            ratios(*rates),
            cpu_ratio=ratios([1 / pair["ours"][1] for pair in pairs], [1 / pair["bare"][1] for pair in pairs]),
            data={"pairs": pairs},
        )
        parts = [part for pair in pairs for part in pair["parts"]]
        yield at_least(row, 0.95, lower_bound([bare for _, bare in parts], [ours for ours, _ in parts]))


def _limit_row(options: Options, model: str, texts: Path, rounds: list[dict[str, Any]]) -> Row:
    """Compare with the time that the products alone would take at the best rate that was measured in the round."""
    work = in_child("benchmarks.embed_sides:flops", options.work, texts=str(texts), model=model)
    (ours, speeds), (ours_cpu, speeds_cpu) = (
        ([work / results["chunks", "float32"][clock] for results in rounds], [one["limit"][place] for one in rounds])
        for place, clock in enumerate(("wall", "cpu"))
    )
    row = figures(
        "embed", "chunks, float32, against the machine's limit for products", ours, speeds, "limit", " GFLOP/s"
    )
    return at_least(replace(row, cpu_ratio=ratios(ours_cpu, speeds_cpu)), 0.70, lower_bound(ours, speeds))


def _small_rows(rounds: list[dict[str, Any]], peers: list[str]) -> Iterator[Row]:
    other = "sentence-transformers" if "sentence-transformers" in peers else None
    for precision in PRECISIONS:
        ours = [results["chunks", precision] for results in rounds]
        theirs = [results["chunks", other] for results in rounds] if other else []
        peak = [one["peak"] / 2**20 for one in ours]
        if theirs:
            row = figures(
                "embed", f"peak memory, {precision}", peak, [t["peak"] / 2**20 for t in theirs], other or "", " MiB"
            )
            assert row.ratio is not None
            yield at_most(row, 0.333, row.ratio.greatest)
        else:
            yield Row("embed", f"peak memory, {precision}", shown(Spread.of(peak), " MiB"))
        for what, key, unit, factor in (("import and model", "ready", " s", 1), ("one text", "query", " ms", 1000)):
            mine = [one[key] * factor for one in ours]
            if theirs:
                yield figures(
                    "embed", f"{what}, {precision}", mine, [t[key] * factor for t in theirs], other or "", unit
                )
            else:
                yield Row("embed", f"{what}, {precision}", shown(Spread.of(mine), unit))


def _pipeline_rows(options: Options, models: Path) -> Iterator[Row]:
    """Compare a whole ingest with embedding the same texts alone, each in a process of its own.

    Once until everything is searchable (``index.wait`` is off), once until Chroma's index has all of it, too; between
    the two the texts are embedded alone.
    """
    sources = {"chunks": some_documents(options), "commands": some_history(options)}
    asked = [(kind, target, each) for kind, target in (("chunks", 0.93), ("commands", 0.85)) for each in PRECISIONS]
    for kind, target, precision in asked:
        pairs: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        texts, folder = str(options.work / "embedded.json"), options.work / "pipeline"
        given = {"source": str(sources[kind]), "kind": kind, "folder": str(folder), "models": str(models)}
        given |= {"model": f"onnx:{MODEL}@{precision}", "texts": texts}
        for number in range(options.turns(3)):
            say(f"  pipeline, {kind}, {precision}: round {number + 1}")
            for wait, known in pairs.items():
                known.append(in_child("benchmarks.embed_sides:ingest", options.work, wait=wait, **given))
                shutil.rmtree(folder, ignore_errors=True)
                if not wait:
                    only = {"texts": texts, "model": str(models / MODEL), "precision": precision}
                    alone = in_child("benchmarks.embed_sides:alone", options.work, **only)
                known[-1]["alone"] = alone
        for wait, known in pairs.items():
            yield _pipeline_row(f"{known[0]['texts']:,} {kind}, {precision}: ingest, {_END[wait]}", known, target)


_END = {False: "everything searchable", True: "index included"}


def _pipeline_row(what: str, pairs: list[dict[str, Any]], target: float) -> Row:
    whole, alone = ([1 / pair[side][0] for pair in pairs] for side in ("whole", "alone"))
    later = statistics.median(pair["index"][0] for pair in pairs)
    row = Row(
        "embed",
        f"{what}, against embedding alone",
        f"{shown(Spread.of([pair['whole'][0] for pair in pairs]), ' s')}, the index {later:.1f} s later",
        f"alone: {shown(Spread.of([pair['alone'][0] for pair in pairs]), ' s')}",
        ratios(whole, alone),
        cpu_ratio=ratios([1 / pair["whole"][1] for pair in pairs], [1 / pair["alone"][1] for pair in pairs]),
        data={"pairs": pairs},
    )
    assert row.ratio is not None
    return at_least(row, target, row.ratio.median)


def lower_bound(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the lower end of the one-sided 95 % interval of the ratio, over its logarithms."""
    logs = [math.log(one / other) for one, other in zip(above, below, strict=True)]
    mean, count = statistics.fmean(logs), len(logs)
    if count == 1:
        return math.exp(mean)
    student = _STUDENT.get(count - 1, 1.8 if count <= 30 else 1.7)
    return math.exp(mean - student * statistics.stdev(logs) / math.sqrt(count))
