"""Windows around loads and batches: what the process held before, at the peak and after, handed to what learns.

An arena keeps what a batch took for the next one, so a smaller batch needs nothing new and says nothing about what it
would need in a fresh process. What an engine keeps is followed from batch to batch, and a window is learned from when
it raised what is held by a tenth, or when its batch is about as large as the largest so far, for which the arena is
there: then peak plus kept is the whole need, and never less than it. What an ingest reads and stores beside a batch
counts as part of its need: it is needed at the same time.

Looking takes two reads (15 us) and, for the peak, a thread: 0.2 ms, and a tenth of the time of a model that is mostly
Python. So the thread runs for the first eight windows of a size and then for every sixty-fourth, and not at all for
batches of less than 16 MiB, which are not what fills a memory; the reads are always made. Where hardly any memory is
left there is no thread either: its stack counts, and measuring must not be what breaks a batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from omnimemory.forks import ForkLock
from omnimemory.scheduler.learned import Key, Learned, Shape
from omnimemory.scheduler.own_memory import PeakSampler, held

__all__ = ["Observer", "Window"]

_FIRST, _EVERY = 8, 64
_SMALL, _SPARE = 16 << 20, 64 << 20
_NOISE = 256 << 10
_ALIKE = 0.9


@dataclass(slots=True, eq=False)  # equal windows are not the same one
class Window:
    """One batch while it is observed. ``result`` is the bytes of its vectors, which are no longer the engine's.

    Afterwards ``observed`` is the bytes it was seen to need and ``predicted`` what was expected; 0 if it told nothing.
    """

    shape: Shape
    loading: Shape | None
    solo: bool
    result: int = 0
    observed: int = 0
    predicted: int = 0


class Observer:
    """Observes the batches of one model at a time in this process. Safe for several threads."""

    def __init__(self, learned: Learned) -> None:
        self.learned = learned
        self._lock = ForkLock()
        self._open: list[Window] = []
        self._kept = self._largest = 0
        self._looked: Counter[tuple[int, int]] = Counter()

    @contextmanager
    def window(
        self,
        key: Key,
        shape: Shape,
        spare: int,
        *,
        loading: Shape | None = None,
        ready: Callable[[], bool] | None = None,
    ) -> Iterator[Window]:
        """Observe the batch that runs inside, beside which ``spare`` bytes stay free.

        ``loading`` is given when the model is not in memory yet; ``ready`` tells when it is. A batch that fails is not
        learned from.
        """
        opened = self._enter(shape, loading)
        sampled = spare >= _SPARE and (loading is not None or self._is_due(key, shape))
        before = held().private
        sampler = PeakSampler(ready if loading is not None else None) if sampled else None
        try:
            with sampler or nullcontext():
                yield opened
        except BaseException:
            self._leave(opened)
            raise
        self._leave(opened)
        if sampler is None:
            after = held().private
            self._learn(key, opened, before, max(before, after), after, sure=False)
        elif loading is None:
            self._learn(key, opened, sampler.before, sampler.peak, sampler.after, sure=True)
        else:
            self._loaded(key, opened, sampler)

    def begin_again(self) -> None:
        """Forget what the engine keeps: the model was unloaded."""
        with self._lock:
            self._kept = self._largest = 0

    def _enter(self, shape: Shape, loading: Shape | None) -> Window:
        with self._lock:
            opened = Window(shape, loading, solo=not self._open)
            for other in self._open:
                other.solo = False
            self._open.append(opened)
            return opened

    def _leave(self, window: Window) -> None:
        with self._lock:
            self._open.remove(window)

    def _is_due(self, key: Key, shape: Shape) -> bool:
        if shape.prior < _SMALL:
            return False
        size = (shape.items.bit_length(), shape.tokens.bit_length())
        with self._lock:
            self._looked[size] += 1
            looked = self._looked[size]
        return looked % _EVERY == 0 or (looked <= _FIRST and self.learned.seen(key, shape) < _FIRST)

    def _loaded(self, key: Key, window: Window, sampler: PeakSampler) -> None:
        """Learn of loading and of the first batch apart, if the moment between them was seen."""
        self._kept = self._largest = 0
        if sampler.at_ready is None or window.loading is None:
            return
        self.learned.observe(
            key, window.loading, sampler.before, sampler.peak_until_ready, sampler.at_ready, solo=window.solo
        )
        self._learn(key, window, sampler.at_ready, sampler.peak, sampler.after, sure=True)

    def _learn(self, key: Key, window: Window, before: int, peak: int, after: int, *, sure: bool) -> None:
        """``sure`` means that the peak was watched; else it counts only if it is above what was expected."""
        with self._lock:
            kept = self._kept
            need = kept + peak - before
            raised = peak - before > max(_NOISE, need // 10)
            if raised:
                self._kept = min(need, max(0, kept + after - before - window.result))
            largest = window.shape.prior >= _ALIKE * self._largest
            self._largest = max(self._largest, window.shape.prior)
        if raised or (sure and largest):
            predicted = self.learned.predict(key, window.shape)
            if sure or need > predicted:
                window.observed, window.predicted = need, predicted
                self.learned.observe(key, window.shape, 0, need, 0, solo=window.solo)
