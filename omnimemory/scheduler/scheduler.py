"""Leases: a batch runs only for bytes that exist and that no other batch was promised.

Before every batch the memory is read, :func:`~omnimemory.scheduler.policy.decide` is asked, and what it
grants is held back from the other threads until the batch ends. Nothing is cached between batches: one check
costs about a tenth of a millisecond.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from omnimemory.errors import ConfigError
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.policy import BatchRefusedError, Decision, Limits, decide, default_reserve
from omnimemory.scheduler.probe import Available, Probe

__all__ = ["Lease", "Scheduler"]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run ``items`` texts in ``reserved`` bytes until the ``with`` block ends."""

    items: int
    reserved: int
    decision: Decision


class Scheduler:
    """Admits batches by memory. Safe to share between threads; a forked child starts with no leases.

    ``reserve`` is the bytes to keep free for everything else (``None``: 512 MiB or 5 %, at most a quarter of
    the memory), ``max_bytes`` the most this process may use at all, ``keep`` how many decisions are remembered.
    """

    def __init__(
        self,
        *,
        reserve: int | None = None,
        max_bytes: int | None = None,
        probe: Callable[[], Available] | None = None,
        keep: int = 200,
    ) -> None:
        _check("memory.reserve", reserve, 0)
        _check("memory.max_bytes", max_bytes, 1)
        _check("the number of decisions to keep", keep, 1)
        self._reserve = reserve
        self._max_bytes = max_bytes
        self._probe = probe or Probe()
        self._keep = keep
        self._begin()
        os.register_at_fork(after_in_child=_BeginAgain(self))

    def _begin(self) -> None:
        """Start with no leases; in a forked child the lock may be held by a thread that is not there."""
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._promised: dict[str, int] = {}
        self._log: deque[Decision] = deque(maxlen=self._keep)
        self._decided: Counter[str] = Counter()

    @contextmanager
    def lease(self, request: Request) -> Iterator[Lease]:
        """Hold memory for as many texts of the batch as fit, and give it back at the end, also after an error.

        Raises :class:`~omnimemory.scheduler.policy.BatchRefusedError` (a ``MemoryBudgetError`` with the
        ``decision``) when not even one text fits.
        """
        decision = self._admit(request)
        try:
            yield Lease(decision.items, decision.need, decision)
        finally:
            with self._lock:
                self._promised.pop(decision.id, None)

    def _admit(self, request: Request) -> Decision:
        # Reading, deciding and promising are one step: two threads must not be promised the same bytes.
        with self._lock:
            available = self._probe()
            decision = decide(available, request, self._limits(available))
            name = f"{os.getpid()}-{next(self._numbers)}"
            decision = replace(decision, id=name, time=time.time())
            self._log.append(decision)
            self._decided[decision.action] += 1
            if decision.action == "refuse":
                raise BatchRefusedError(decision)
            self._promised[name] = decision.need
            return decision

    def _limits(self, available: Available) -> Limits:
        reserve = default_reserve(available.total) if self._reserve is None else self._reserve
        return Limits(reserve, self._max_bytes, sum(self._promised.values()))

    def log(self) -> list[Decision]:
        """Return the last decisions, oldest first."""
        with self._lock:
            return list(self._log)

    def status(self) -> dict[str, Any]:
        """Read the memory and return it with the limits, the live leases and the counts, as JSON-ready data."""
        with self._lock:
            available = self._probe()
            limits = self._limits(available)
            return {
                "available": available.bytes,
                "source": available.source,
                "total": available.total,
                "used": available.used,
                "reserve": limits.reserve,
                "max_bytes": limits.max_bytes,
                "outstanding": limits.outstanding,
                "leases": len(self._promised),
                "granted": self._decided["grant"],
                "shrunk": self._decided["shrink"],
                "refused": self._decided["refuse"],
                "readings": [asdict(reading) for reading in available.readings],
            }


class _BeginAgain:
    """What a forked child calls first; it does not keep the scheduler alive."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = weakref.ref(scheduler)

    def __call__(self) -> None:
        scheduler = self._scheduler()
        if scheduler is not None:
            scheduler._begin()  # noqa: SLF001 - the scheduler's own other half


def _check(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise ConfigError(f"{name} must be at least {least}, not {value}")
