"""The child process of a calibration: batches of every size and length through one model, their peaks and times.

Started by ``calibrate.py`` with the settings as JSON on standard input; prints one JSON object a line, as soon as it
knows it, so that what was measured survives when a batch too large ends this process.

In the first round the sizes grow, so each peak is a new one; the rounds after it are for the times. A process of its
own may set back the kernel's mark of its peak (VmHWM), which makes the peaks exact; where it cannot, they are sampled.
Times are processor seconds, which say the same on a machine that others use as well.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnimemory.config import Settings
from omnimemory.embedders.base import Embedder
from omnimemory.embedding_costs import Costs
from omnimemory.errors import MemoryBudgetError
from omnimemory.model_choice import choose_embedder
from omnimemory.scheduler.out_of_memory import is_out_of_memory
from omnimemory.scheduler.own_memory import PeakSampler
from omnimemory.scheduler.scheduler import Scheduler
from omnimemory.scheduling import scheduler_of

__all__ = ["BUDGETS", "TIME_UP", "main"]

TIME_UP = "the time was up"
"""Why a size was not tried, where that is the reason."""

BUDGETS = (128, 256, 512, 1024, 2048, 4096)
"""Padded tokens in a batch that are tried, where the model computes its texts in such batches."""

_TEXTS = (32, 128, 512, 2048)
"""Texts at once that are tried where it does not."""

_LENGTHS = (16, 64, 256)
_LEAST_TOKENS, _MOST_TOKENS = 4096, 32_768
_WORDS = "the time of all day when we can do what many people like to see and write in this place at home with water"
_CLEAR_REFS = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class _Point:
    """A batch to be tried: padded tokens (``None``: the model has no such thing), and texts of so many words."""

    budget: int | None
    length: int
    texts: list[str]


@dataclass(slots=True)
class _Cost:
    """What a batch took: bytes held before and at the peak, and seconds."""

    before: int = 0
    peak: int = 0
    cpu: float = 0.0
    wall: float = 0.0


def main() -> None:
    """Read what to do from standard input, and print what was found."""
    asked = json.load(sys.stdin)
    settings = Settings().with_values(asked["settings"])
    embedder = choose_embedder(settings)
    scheduler = scheduler_of(settings)
    ends = time.monotonic() + asked["seconds"]
    prior = embedder.footprint().base
    with PeakSampler() as loading:
        embedder.count_tokens(["warm"])
        embedder.embed(["the warm water"], "document")
    _say(kind="loaded", prior=prior, before=loading.before, peak=loading.peak, after=loading.after)
    points, skipped = _points(embedder), set[int]()
    _say(kind="plan", batches=len(points) * asked["rounds"])
    for turn in range(asked["rounds"]):
        for number, point in enumerate(points):
            late = time.monotonic() > ends and (turn or number)
            if late and not turn:
                shape = Costs(embedder, None).of(point.texts).shape
                _say(kind="skipped", why=TIME_UP, budget=point.budget, length=point.length, shape=shape)
                skipped.add(number)
            elif number not in skipped and not late and not _tried(embedder, scheduler, point, loading.after, turn):
                skipped.add(number)


def _points(embedder: Embedder) -> list[_Point]:
    """Return what to try, the least memory first."""
    lengths = sorted({min(length, getattr(embedder, "window", length)) for length in _LENGTHS})
    if not hasattr(embedder, "budget"):
        return [_Point(None, length, _texts(count, length)) for count in _TEXTS for length in lengths]
    return [
        _Point(budget, length, _texts(-(-_tokens(embedder, budget) // length), length))
        for budget in BUDGETS
        for length in lengths
    ]


def _tokens(embedder: Embedder, budget: int) -> int:
    """Return how many tokens to try at once: enough that everything that works side by side has work twice."""
    _set_budget(embedder, budget)
    return min(_MOST_TOKENS, max(_LEAST_TOKENS, 2 * embedder.footprint().at_once))


def _texts(count: int, length: int) -> list[str]:
    """Return texts of so many words, no two alike: equal ones would be computed once."""
    rng, words = random.Random(length), _WORDS.split()
    return [" ".join(rng.choices(words, k=max(1, length - 1))) + f" {number}" for number in range(count)]


def _tried(embedder: Embedder, scheduler: Scheduler, point: _Point, idle: int, turn: int) -> bool:
    """Run one batch under a lease and say what it cost; return whether it makes sense to run it again."""
    _set_budget(embedder, point.budget)
    costs = Costs(embedder, None).of(point.texts)
    named: dict[str, Any] = {"budget": point.budget, "length": point.length, "shape": costs.shape}
    try:
        with scheduler.lease(Costs(embedder, None).request(costs, stored=False), patience=0) as lease:
            if lease.items < len(point.texts):
                _say(kind="skipped", why=lease.decision.reason, **named)
                return False
            with _measured(exact=turn == 0) as cost:
                embedder.embed(point.texts, "document")
    except MemoryBudgetError as error:
        _say(kind="skipped", why=str(error), **named)
        return False
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        _say(kind="skipped", why=f"memory ran out ({type(error).__name__})", **named)
        return False
    tokens = _counted(embedder, point.texts)
    _say(kind="ran", turn=turn, tokens=tokens, need=cost.peak - idle, cpu=cost.cpu, wall=cost.wall, **named)
    return True


def _set_budget(embedder: Embedder, budget: int | None) -> None:
    if budget is not None:
        embedder.budget = budget  # type: ignore[attr-defined]  # those that have one were asked for it


def _counted(embedder: Embedder, texts: Sequence[str]) -> int:
    return sum(embedder.count_tokens(texts[:64])) * len(texts) // min(64, len(texts))


@contextmanager
def _measured(*, exact: bool) -> Iterator[_Cost]:
    cost = _Cost()
    if exact:
        _set_back()
    cpu, wall = time.process_time(), time.perf_counter()
    with PeakSampler() as sampler:
        yield cost
    cost.cpu, cost.wall = time.process_time() - cpu, time.perf_counter() - wall
    cost.before, cost.peak = sampler.before, sampler.peak


def _set_back() -> None:
    """Make the kernel's mark of the peak what is held now; the sampler then sees it rise."""
    try:
        descriptor = os.open(_CLEAR_REFS, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return  # sampling alone then
    try:
        os.write(descriptor, b"5")
    except OSError:
        return
    finally:
        os.close(descriptor)


def _say(**found: Any) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
