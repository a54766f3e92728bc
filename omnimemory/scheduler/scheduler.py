"""Leases: a batch runs only for bytes that exist and that no other batch was promised, in this process or another.

Before every batch the memory is read, :func:`~omnimemory.scheduler.policy.decide` is asked, and what it grants is
promised until the batch ends. Nothing is cached between batches: one check costs about a tenth of a millisecond. What
may run is decided in ``admissions.py``; here are the lock, the waiting and the clock.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from omnimemory.errors import ConfigError
from omnimemory.scheduler.admissions import Admissions, Rules, Ticket
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.ledger import Ledger
from omnimemory.scheduler.policy import BatchRefusedError, Decision
from omnimemory.scheduler.probe import Available, Probe

__all__ = ["Lease", "Scheduler"]

_LOOK_AGAIN = 0.02  # other processes cannot wake this one


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run ``items`` texts in ``reserved`` bytes until the ``with`` block ends."""

    items: int
    reserved: int
    decision: Decision


class Scheduler:
    """Admits batches by memory. Safe to share between threads; a forked child starts with no leases.

    ``rules`` are what may be used; ``reserve`` (bytes kept free for everything else) and ``max_bytes`` (the most this
    process may use at all) can be given alone. ``ledger`` is where processes tell each other what they were promised
    (``None``: they do not). A request that does not fit waits up to ``patience`` seconds. ``keep`` decisions are
    remembered.
    """

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        reserve: int | None = None,
        max_bytes: int | None = None,
        probe: Callable[[], Available] | None = None,
        ledger: Ledger | None = None,
        patience: float = 0.0,
        keep: int = 200,
    ) -> None:
        rules = rules or Rules(reserve=reserve, max_bytes=max_bytes)
        _check("memory.reserve", rules.reserve, 0)
        _check("memory.max_bytes", rules.max_bytes, 1)
        _check("the number of decisions to keep", keep, 1)
        self._rules = rules
        self._probe = probe or Probe()
        self._ledger = ledger
        self._patience = patience
        self._keep = keep
        self._begin()
        os.register_at_fork(after_in_child=_BeginAgain(self))

    def _begin(self) -> None:
        """Start with no leases; in a forked child the lock may be held by a thread that is not there."""
        self._changed = threading.Condition(threading.Lock())
        self._numbers = itertools.count(1)
        self._log: deque[Decision] = deque(maxlen=self._keep)
        self._admissions = Admissions(self._rules, self._probe, self._ledger)
        if self._ledger is not None:
            self._ledger.begin_again()

    @contextmanager
    def lease(
        self,
        request: Request,
        *,
        patience: float | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[Lease]:
        """Hold memory for as many texts of the batch as fit, and give it back at the end, also after an error.

        Waits up to ``patience`` seconds (``None``: as the scheduler was told), or until ``cancelled`` says so. Raises
        :class:`~omnimemory.scheduler.policy.BatchRefusedError` (a ``MemoryBudgetError`` with the ``decision``) when
        not even one text fits.
        """
        patience = self._patience if patience is None else patience
        decision = self._admit(Ticket(request, time.monotonic(), patience), cancelled)
        ended_well = False
        try:
            yield Lease(decision.items, decision.need, decision)
            ended_well = True
        finally:
            with self._changed:
                self._admissions.release(decision.id, time.monotonic(), ended_well=ended_well)
                self._changed.notify_all()

    def _admit(self, ticket: Ticket, cancelled: Callable[[], bool] | None) -> Decision:
        name = f"{os.getpid()}-{next(self._numbers)}"
        try:
            decision = self._step(ticket, name)
            while decision.action == "wait":
                if cancelled is not None and cancelled():
                    ticket.patience = 0.0
                decision = self._step(ticket, name)
        except BaseException:
            with self._changed:
                self._admissions.abandon(ticket, time.monotonic())
            raise
        if decision.runs:
            return decision
        raise BatchRefusedError(decision)

    def _step(self, ticket: Ticket, name: str) -> Decision:
        # Reading, deciding and promising are one step: two threads must not be promised the same bytes.
        with self._changed:
            decision = self._admissions.ask(ticket, time.monotonic(), name)
            if decision.action == "wait":
                self._changed.wait(_LOOK_AGAIN)
                return decision
            decision = replace(decision, time=time.time())
            self._log.append(decision)
            return decision

    def log(self) -> list[Decision]:
        """Return the last decisions, oldest first."""
        with self._changed:
            return list(self._log)

    def status(self) -> dict[str, Any]:
        """Read the memory and return it with the limits, the live leases and the counts, as JSON-ready data."""
        others = self._others()
        with self._changed:
            available = self._probe()
            admissions = self._admissions
            limits = self._rules.limits(available)
            return {
                "profile": self._rules.profile.name,
                "available": available.bytes,
                "source": available.source,
                "total": available.total,
                "used": available.used,
                "reserve": limits.reserve,
                "max_bytes": limits.max_bytes,
                "outstanding": admissions.promised,
                "leases": admissions.leases,
                "waiting": admissions.waiting,
                "others": others,
                "granted": admissions.counts["grant"],
                "shrunk": admissions.counts["shrink"],
                "waited": admissions.counts["wait"],
                "refused": admissions.counts["refuse"],
                "dead_purged": admissions.purged,
                "problem": "" if self._ledger is None else self._ledger.problem,
                "readings": [asdict(reading) for reading in available.readings],
            }

    def _others(self) -> Sequence[dict[str, int]]:
        """Return what other processes hold now; reading it makes no file."""
        if self._ledger is None:
            return []
        with self._changed:
            rows = self._ledger.rows()
        return [{"pid": row.pid, "reserved": row.reserved} for row in rows if row.pid != os.getpid()]


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
