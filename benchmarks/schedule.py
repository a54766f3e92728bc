"""``schedule``: what it costs to ask for memory before a batch, and which part of the batch's time that is.

An admission is one lease as everybody gets it: memory is read from every source, other processes' promises and the
pressure are looked at, the batch is decided and written down, its bytes promised and given back. Batches are 512 texts
of a generated history through the static model, and through MiniLM if it has been pulled; nothing comes from the cache.
At last it is seen whether the sizes of batches that are chosen are about as fast as the best (``throughput.py``).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.children import in_child
from benchmarks.history import commands
from benchmarks.options import Options
from benchmarks.table import Row, at_most, skipped
from benchmarks.throughput import sizes, throughput_rows
from benchmarks.timing import say

__all__ = ["measure", "run", "shares"]

_BATCH = 512
_MOST = 0.5  # milliseconds
_PARTS = ("one admission", "measuring a batch", "predicting a batch")


def run(options: Options) -> Iterator[Row]:
    """Measure in a child process, one model after the other."""
    folder = str(options.work / "schedule")
    times, turns = options.size(5000, 50), options.size(15, 2, options.rounds)
    say("schedule")
    given = {"models": str(_models(options)), "folder": folder}
    found = in_child("benchmarks.schedule:measure", options.work, times=times, turns=turns, **given)
    for name, spent in found["checks"].items():
        median, p99 = (1000 * value for value in spent)
        row = Row("schedule", name, f"median {median:.3f} ms, p99 {p99:.3f} ms", data={"seconds": spent})
        yield at_most(row, _MOST, median)
    for name, seconds in found["batches"].items():
        if seconds is None:
            yield skipped("schedule", f"{name} has not been pulled: --models PATH names a folder in which it was")
        else:
            yield from shares(name, found["checks"], seconds)
    say("schedule: batches of all sizes")
    swept = in_child("benchmarks.throughput:found_by_sweeping", options.work, **given, **sizes(options))
    yield from throughput_rows(swept)


def shares(name: str, checks: dict[str, Sequence[float]], seconds: float) -> Iterator[Row]:
    """Yield which part of a batch's time (in seconds) the admission is, and which what is learned of batches."""
    of = f"by the time of a batch of {_BATCH} texts, {name}"
    batch = f"the batch: {1000 * seconds:.1f} ms"
    admission, measuring, predicting = (100 * checks[part][0] / seconds for part in _PARTS)
    data = {"shares": [admission, measuring, predicting]}
    yield Row("schedule", f"one admission, {of}", f"{admission:.3f} %", batch, data=data)
    row = Row("schedule", f"measuring + predicting, {of}", f"{measuring:.3f} + {predicting:.3f} %", batch, data=data)
    yield at_most(row, 1.0, measuring + predicting)


def _settings(folder: Path) -> Any:
    from omnimemory.config import Settings

    return Settings().with_values({"schedule.folder": folder})


def _models(options: Options) -> Path:
    from omnimemory.config import Settings

    return Settings().models.path if options.models is None else options.models.resolve()


def measure(times: int, turns: int, models: str, folder: str) -> dict[str, Any]:
    """Return the median and p99 of each check, and the median time of a batch of each model, in seconds."""
    from omnimemory.scheduler.footprint import Request
    from omnimemory.scheduler.pools import read_pools
    from omnimemory.scheduler.pressure import PressureProbe
    from omnimemory.scheduler.probe import Probe
    from omnimemory.scheduling import scheduler_of

    scheduler, probe, pressure = scheduler_of(_settings(Path(folder))), Probe(), PressureProbe()
    request = Request("benchmark", _BATCH, 0, 6000)

    def admission() -> None:
        with scheduler.lease(request):
            pass

    checks: dict[str, Callable[[], object]] = {
        "one admission": admission,
        "reading all sources of main memory": probe,
        "reading the signs of pressure": pressure,
        "reading all pools": read_pools,
    }
    checks |= _looking(_static())
    return {
        "checks": {name: _spread(check, times) for name, check in checks.items()},
        "batches": {"static": _batch(_static(), turns), "MiniLM": _batch(_minilm(Path(models)), turns)},
    }


def _looking(embedder: Any) -> dict[str, Callable[[], object]]:
    """Return what it takes to measure a batch that is not sampled, and to predict it from 64 measurements."""
    from omnimemory.embedding_costs import Costs
    from omnimemory.scheduler.learned import Learned
    from omnimemory.scheduler.observation import Observer

    learned = Learned(None)
    costs = Costs(embedder, Observer(learned))
    batch = costs.of(_texts())
    for number in range(64):
        learned.observe(costs._key, batch.shape, 0, 4_000_000 + number, 0, solo=True)  # noqa: SLF001 - its own key

    from omnimemory.scheduler.scheduler import Scheduler

    with Scheduler().lease(costs.request(batch, stored=True)) as lease:
        pass

    def look() -> None:
        with costs.observed(batch, "document", lease):
            pass

    return {"measuring a batch": look, "predicting a batch": lambda: costs.request(batch, stored=True)}


def _texts() -> list[str]:
    return list(dict.fromkeys(commands(20 * _BATCH)))[:_BATCH]


def _spread(check: Callable[[], object], times: int) -> tuple[float, float]:
    spent = []
    for _ in range(times):
        started = time.perf_counter()
        check()
        spent.append(time.perf_counter() - started)
    return statistics.median(spent), sorted(spent)[int(0.99 * len(spent))]


def _static() -> Any:
    from omnimemory.embedders.static import StaticEmbedder

    return StaticEmbedder()


def _minilm(models: Path) -> Any:
    from omnimemory.embedders.installed import find_installed
    from omnimemory.embedders.onnx import OnnxEmbedder

    found = find_installed(models, "minilm")
    return None if found is None else OnnxEmbedder.of_installed(found)


def _batch(embedder: Any, turns: int) -> float | None:
    if embedder is None:
        return None
    texts = _texts()
    embedder.embed(texts, "document")
    return statistics.median(_seconds(embedder, texts) for _ in range(turns))


def _seconds(embedder: Any, texts: Sequence[str]) -> float:
    started = time.perf_counter()
    embedder.embed(texts, "document")
    return time.perf_counter() - started
