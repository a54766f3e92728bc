"""Whether the batches that are chosen are the fast ones: all sizes by turns, in CPU seconds.

Chosen is what a memory would use after ``models calibrate``: as many texts under a lease as ``embedding.batch_size``
says, and, where a model computes in batches of padded tokens, as many of these as the calibration found best.
Memory is ample, so leases are granted in full. Nothing comes from the cache.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.corpus import notes
from benchmarks.history import commands
from benchmarks.options import Options
from benchmarks.table import Row, at_least, skipped

__all__ = ["found_by_sweeping", "sizes", "throughput_rows"]

_LEAST = 0.9
_BUDGETS = (128, 256, 512, 1024, 2048, 4096)
_TEXTS = (32, 128, 512, 2048)

Point = tuple[int | None, int]
"""Padded tokens in a batch (``None``: the model has no such thing), and texts under one lease."""


def throughput_rows(found: dict[str, Any]) -> Iterator[Row]:
    """Return the rows of what :func:`found_by_sweeping` returned for each model."""
    for name, kinds in found.items():
        if kinds is None:
            yield skipped("schedule", f"{name} has not been pulled: --models PATH names a folder in which it was")
            continue
        for kind, (chosen, points) in kinds.items():
            speeds = {tuple(point): statistics.median(speeds) for point, speeds in points}
            best, worst = (end(speeds, key=lambda point: speeds[point]) for end in (max, min))
            ours = speeds[tuple(chosen)]
            row = Row(
                "schedule",
                f"{kind} a CPU second by the batches chosen ({_size(chosen)}), {name}",
                f"{ours:,.0f}, {100 * ours / speeds[best]:.0f} % of the best",
                f"{_size(best)}: {speeds[best]:,.0f}; of {len(speeds)} the worst, {_size(worst)}: {speeds[worst]:,.0f}",
                data={"points": points},
            )
            yield at_least(row, _LEAST, ours / speeds[best])


def _size(point: Point | list[Any]) -> str:
    budget, texts = point
    return f"{texts} texts" + ("" if budget is None else f", {budget} padded tokens")


def sizes(options: Options) -> dict[str, int]:
    """Return how many texts of each kind a turn embeds, and how many turns there are."""
    return {"texts": options.size(2048, 64, options.texts), "turns": options.size(5, 1, options.rounds)}


def found_by_sweeping(models: str, folder: str, texts: int, turns: int) -> dict[str, Any]:
    """Return, by model and kind of text, the point that is chosen and the texts a CPU second of every point."""
    from omnimemory.config import Settings
    from omnimemory.embedders.installed import find_installed

    places = {"schedule.folder": Path(folder), "memory.learned": Path(folder, "learned"), "models.path": Path(models)}
    settings = Settings().with_values({**places, "cache.enabled": False})
    there = {"static": True, "minilm": find_installed(Path(models), "minilm") is not None}
    return {
        name: _swept(settings.with_values({"embedding.model": name}), texts, turns) if found else None
        for name, found in there.items()
    }


def _swept(settings: Any, texts: int, turns: int) -> dict[str, Any]:
    from omnimemory.calibration.calibrate import calibrate
    from omnimemory.wiring import embedding_service

    service = embedding_service(settings, None)
    if hasattr(service.embedder, "budget"):
        service.close()
        calibrate(settings, rounds=min(3, turns), seconds=60.0 if turns > 1 else 1.0)
        service = embedding_service(settings, None)
    try:
        chosen: Point = (getattr(service.embedder, "budget", None), service.batch_size)
        kinds = {"commands": list(dict.fromkeys(commands(20 * texts)))[:texts], "notes": notes(texts // 4)}
        return {kind: (chosen, _points(service, chosen, some, turns)) for kind, some in kinds.items()}
    finally:
        service.close()


def _points(service: Any, chosen: Point, texts: list[str], turns: int) -> list[tuple[Point, list[float]]]:
    budget, items = chosen
    points = [chosen, *((budget, other) for other in _TEXTS)]
    points += [(other, items) for other in _BUDGETS] if budget is not None else []
    speeds: dict[Point, list[float]] = {point: [] for point in points}
    service.embed_batch(texts[:32], use_cache=False)
    for _ in range(turns):
        for point, found in speeds.items():
            if point[0] is not None:
                service.embedder.budget = point[0]
            began = time.process_time()
            service.embed_batch(texts, use_cache=False, batch_size=point[1])
            found.append(len(texts) / max(1e-9, time.process_time() - began))
    return list(speeds.items())
