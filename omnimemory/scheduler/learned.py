"""What models really need, learned from what was observed: per model, precision and machine, kept between processes.

A need is what the process held at the peak of a batch over what it holds with an idle model (``own_memory.py`` tells
the unit). Each is kept beside the prior that was asked for it. From :data:`LEAST` measurements on, a line is fitted
through them (need = constant + slope * prior, both not negative) and lifted until 95 of 100 are below it, and by 5 %
more; it is at most four times the prior. No answer is ever below the largest need that was seen of a batch no larger;
for batches more than twice as large as any that was seen, none is below the prior either.

Only windows in which nothing else of this package ran in the process are learned from; the others are kept and marked.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from omnimemory.forks import ForkLock
from omnimemory.scheduler.learned_file import KEPT, Ceiling, LearnedFile, Observation

__all__ = ["LEAST", "Key", "Learned", "Shape", "machine_name"]

LEAST = 3
"""How many measurements of batches a fit needs; before, the prior counts. Loading needs one: it is always the same."""

_QUANTILE, _MARGIN, _MOST = 0.95, 1.05, 4.0
_FLUSH = 8
_REMEMBERED = 86_400.0
"""Seconds after which a ceiling is tried again: what took the memory may be gone."""


class Key(NamedTuple):
    """What a measurement is of: who computes, a digest of the weights and all that changes a vector, how, and where."""

    engine: str
    model: str
    dtype: str
    machine: str

    def __str__(self) -> str:
        return "/".join(self)


class Shape(NamedTuple):
    """A batch of so many texts and tokens in work at once, and its ``prior``: the bytes that were estimated for it.

    No texts at all means loading the model.
    """

    items: int
    tokens: int
    prior: int


class _Fit(NamedTuple):
    """A line through measurements, how much it is lifted, and the largest prior that was seen."""

    constant: float
    slope: float
    lift: float
    largest: int


@dataclass(slots=True)
class _Model:
    """What is known of one model; ``new`` is not in the file yet. ``fits`` (of loading, of batches) are made once."""

    observations: list[Observation]
    ceiling: Ceiling | None
    budget: int | None
    new: list[Observation] = field(default_factory=list)
    fits: dict[bool, _Fit] = field(default_factory=dict)

    def solo(self, shape: Shape) -> list[Observation]:
        return [one for one in self.observations if one.solo and bool(one.items) == bool(shape.items)]


class Learned:
    """Measurements of models, from the file at ``path`` (``None``: of this process only). Safe for several threads."""

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        self._file = None if path is None else LearnedFile(path)
        self._clock = clock
        self._lock = ForkLock()
        self._models: dict[Key, _Model] = {}

    @property
    def problem(self) -> str:
        """Why the file is not used or was begun anew; empty if nothing is wrong."""
        return "" if self._file is None else self._file.problem

    def observe(self, key: Key, shape: Shape, before: int, peak: int, after: int, *, solo: bool) -> None:
        """Keep a measurement, in bytes held before, at the peak, and after; written to the file now and then."""
        need = max(0, peak, after) - before
        if need <= 0 or shape.prior < 0:
            return
        with self._lock:
            model = self._known(key)
            model.observations.append(Observation(shape.items, shape.tokens, shape.prior, need, solo))
            model.new.append(model.observations[-1])
            model.fits.clear()
            alike = [one for one in model.observations if bool(one.items) == bool(shape.items)]
            if len(alike) > KEPT:
                model.observations.remove(alike[0])
            if len(model.new) >= _FLUSH:
                self._write(key, model)

    def predict(self, key: Key, shape: Shape) -> int:
        """Return the bytes that a batch, or loading, will need: the prior until enough was measured."""
        with self._lock:
            model = self._known(key)
            solo = model.solo(shape)
            seen = max((one.need for one in solo if one.items <= shape.items and one.tokens <= shape.tokens), default=0)
            if len(solo) < _least(shape):
                return max(shape.prior, seen)
            kind = bool(shape.items)
            fit = model.fits[kind] = model.fits.get(kind) or _fitted(solo)
        return max(_predicted(fit, shape.prior), seen)

    def count(self, key: Key, shape: Shape) -> int:
        """Return how many measurements the answer of :meth:`predict` rests on; 0 while it is the prior."""
        with self._lock:
            count = len(self._known(key).solo(shape))
        return count if count >= _least(shape) else 0

    def seen(self, key: Key, shape: Shape) -> int:
        """Return how often about such a batch was measured: as many texts and tokens, up to a factor of two."""
        wanted = _size_class(shape.items, shape.tokens)
        with self._lock:
            solo = self._known(key).solo(shape)
        return sum(1 for one in solo if _size_class(one.items, one.tokens) == wanted)

    def out_of_memory(self, key: Key, shape: Shape) -> None:
        """Remember that so many texts at once were too many: half of them are the most from now on, for a day."""
        ceiling = Ceiling(max(1, shape.items // 2), self._clock())
        with self._lock:
            model = self._known(key)
            model.ceiling = ceiling if self._ceiling(model) is None else min(ceiling, model.ceiling or ceiling)
            if self._file is not None:
                self._file.put_ceiling(str(key), model.ceiling)

    def ceiling(self, key: Key) -> int | None:
        """Return the most texts at once, or ``None`` if memory never ran out (or that was long ago)."""
        with self._lock:
            return self._ceiling(self._known(key))

    def _ceiling(self, model: _Model) -> int | None:
        found = model.ceiling
        # A clock that was set back must not keep a ceiling for ever.
        return found.items if found is not None and 0 <= self._clock() - found.time < _REMEMBERED else None

    def set_budget(self, key: Key, tokens: int) -> None:
        """Remember how many padded tokens a batch of this model should have."""
        with self._lock:
            self._known(key).budget = tokens
            if self._file is not None:
                self._file.put_budget(str(key), tokens, self._clock())

    def budget(self, key: Key) -> int | None:
        """Return how many padded tokens a batch should have, or ``None`` if that was never measured."""
        with self._lock:
            return self._known(key).budget

    def save(self) -> None:
        """Write what is not in the file yet."""
        with self._lock:
            for key, model in self._models.items():
                self._write(key, model)

    def _write(self, key: Key, model: _Model) -> None:
        if self._file is not None and model.new:
            self._file.add(str(key), model.new)
        model.new.clear()

    def _known(self, key: Key) -> _Model:
        if key not in self._models:
            found = self._file.read(str(key)) if self._file is not None else ([], None, None)
            self._models[key] = _Model(*found)
        return self._models[key]


def machine_name() -> str:
    """Return what tells machines apart on which a model needs different memory: kind, cores and GiB."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{os.uname().machine}-{os.cpu_count() or 1}-{round(pages / (1 << 30))}"


def _size_class(items: int, tokens: int) -> tuple[int, int]:
    return items.bit_length(), tokens.bit_length()


def _predicted(fit: _Fit, prior: int) -> int:
    need = min(fit.lift * (fit.constant + fit.slope * prior), _MOST * prior)
    return math.ceil(max(need, prior) if prior > 2 * fit.largest else need)


def _least(shape: Shape) -> int:
    return LEAST if shape.items else 1


def _fitted(solo: Sequence[Observation]) -> _Fit:
    """Return the line through some measurements, lifted over 95 of 100 of them."""
    constant, slope = _line([one.prior for one in solo], [one.need for one in solo])
    ratios = sorted(one.need / max(1.0, constant + slope * one.prior) for one in solo)
    place = min(len(ratios) - 1, math.ceil(_QUANTILE * len(ratios)) - 1)
    return _Fit(constant, slope, max(1.0, ratios[place]) * _MARGIN, max(one.prior for one in solo))


def _line(priors: Sequence[int], needs: Sequence[int]) -> tuple[float, float]:
    """Return constant and slope of the line of least squares; neither is negative."""
    middle, level = sum(priors) / len(priors), sum(needs) / len(needs)
    spread = sum((prior - middle) ** 2 for prior in priors)
    joint = sum((prior - middle) * (need - level) for prior, need in zip(priors, needs, strict=True))
    slope = max(0.0, joint / spread) if spread else 0.0
    if not spread and middle:
        return 0.0, level / middle  # one size only: larger batches need more in proportion
    constant = level - slope * middle
    if constant < 0:
        return 0.0, level / middle if middle else 0.0
    return constant, slope
