"""Which model will probably be used next: what followed the last one before, in this process and in the record.

A model is loaded ahead only into memory that is free anyway; nothing goes for it. Whether that helped is counted: a hit
when it was used before it went, wasted when it was not.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from omnimemory.errors import OmniMemoryError
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.traces import Trace

if TYPE_CHECKING:
    from omnimemory.scheduler.scheduler import Scheduler

__all__ = ["LoadAhead", "Warming"]

_LEAST = 3
_SHARE = 0.5
_TOGETHER = 600.0
"""Uses further apart (seconds) say nothing about each other."""


class Warming:
    """Learns from uses which model follows which. Callers hold a lock."""

    def __init__(self) -> None:
        self._followed: dict[str, Counter[str]] = {}
        self._last: tuple[str, float] | None = None
        self._ahead: set[str] = set()
        self.counts: Counter[str] = Counter()

    def learn(self, traces: Iterable[Trace]) -> None:
        """Learn from what was recorded, of one process after the other."""
        last: dict[int, tuple[str, float]] = {}
        for trace in traces:
            name, now = trace.last.request.model, trace.last.time
            if trace.last.runs:
                self._count(last.get(trace.pid), name, now)
                last[trace.pid] = (name, now)

    def used(self, name: str, now: float) -> None:
        """Note that a model is used."""
        self._count(self._last, name, now)
        self._last = (name, now)
        if name in self._ahead:
            self._ahead.remove(name)
            self.counts["hit"] += 1

    def next(self, absent: Collection[str]) -> str:
        """Return the model that will probably be used next, if it is among those that are not loaded; or nothing."""
        if self._last is None:
            return ""
        followed = self._followed.get(self._last[0], Counter())
        seen = followed.total()
        name, count = max(followed.items(), key=lambda each: (each[1], each[0]), default=("", 0))
        return name if seen >= _LEAST and count >= _SHARE * seen and name in absent else ""

    def loaded_ahead(self, name: str) -> None:
        """Note that a model was loaded before it was asked for."""
        self._ahead.add(name)
        self.counts["ahead"] += 1

    def gone(self, name: str) -> None:
        """Note that a model was unloaded."""
        if name in self._ahead:
            self._ahead.remove(name)
            self.counts["wasted"] += 1

    def _count(self, before: tuple[str, float] | None, name: str, now: float) -> None:
        if before is not None and before[0] != name and 0 <= now - before[1] <= _TOGETHER:
            self._followed.setdefault(before[0], Counter())[name] += 1


class LoadAhead:
    """Loads a model if it fits without anything going; call it with its name. It does not keep the scheduler alive."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = weakref.ref(scheduler)

    def __call__(self, name: str) -> bool:
        """Return whether the model was loaded."""
        scheduler = self._scheduler()
        model = None if scheduler is None else scheduler.residency.get(name)
        if scheduler is None or model is None or model.served:
            return False
        need, measured = model.need()
        try:
            with scheduler.lease(Request(name, 1, need, 0, measured=measured), patience=0.0, ahead=True):
                model.load()
        except OmniMemoryError:
            return False
        scheduler.residency.warming.loaded_ahead(name)
        return True
