"""Leases: a batch runs only for bytes that exist and that no other batch was promised, in this process or another.

Before every batch the memory is read, :func:`~omnimemory.scheduler.policy.decide` is asked, and what it grants is
promised until the batch ends. Nothing is cached between batches: one check costs about a tenth of a millisecond. What
may run is decided in ``admissions.py``; here are the lock, the waiting and the clock.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from omnimemory.errors import ConfigError
from omnimemory.forks import begins_again
from omnimemory.scheduler.admissions import Admissions, Ticket
from omnimemory.scheduler.decision import BatchRefusedError, Decision
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.gpu_pools import GpuPools
from omnimemory.scheduler.happenings import TellHappenings, happenings
from omnimemory.scheduler.journal import Journal
from omnimemory.scheduler.lease import Lease
from omnimemory.scheduler.ledger import Ledger
from omnimemory.scheduler.loadable import Loadable
from omnimemory.scheduler.out_of_memory import RanOutError
from omnimemory.scheduler.pressed import PressureWatch
from omnimemory.scheduler.probe import Available, Probe
from omnimemory.scheduler.residency import Residency
from omnimemory.scheduler.rules import Rules
from omnimemory.scheduler.trace_log import TraceLog
from omnimemory.scheduler.traces import Trace
from omnimemory.scheduler.warming import LoadAhead

if TYPE_CHECKING:
    from omnimemory.scheduler.pools import Pool

__all__ = ["Scheduler"]

_LOOK_AGAIN = 0.02  # other processes cannot wake this one


class Scheduler:
    """Admits batches by memory. Safe to share between threads; a forked child starts with no leases.

    ``rules`` are what may be used; ``reserve`` (bytes kept free for everything else) and ``max_bytes`` (the most this
    process may use at all) can be given alone. ``ledger`` is where processes tell each other what they were promised
    (``None``: they do not). A request that does not fit waits up to ``patience`` seconds. ``keep`` requests are
    remembered, and all are written to the ``journal`` (``None``: to no file). Under ``pressure`` batches are cut
    down. ``pools`` lists what memory there is beside the main one, for models that can be there. ``neighbours`` may be
    set to what returns the models of servers here; it is asked when something does not fit.
    """

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        reserve: int | None = None,
        max_bytes: int | None = None,
        probe: Callable[[], Available] | None = None,
        ledger: Ledger | None = None,
        journal: Journal | None = None,
        pressure: PressureWatch | None = None,
        pools: Callable[[Available], Sequence[Pool]] | None = None,
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
        self._pressure = pressure
        self._pools = pools
        self._patience = patience
        self._log = TraceLog(keep, journal)
        self._users: list[object] = []
        self.residency = Residency()
        self.neighbours: Callable[[], Sequence[Loadable]] | None = None
        self.begin_again()
        begins_again(self)

    def begin_again(self) -> None:
        """Start with no leases; in a forked child the lock may be held by a thread that is not there."""
        self._changed = threading.Condition(threading.Lock())
        self._log.begin_again()
        self._admissions = Admissions(self._rules, self._probe, self._ledger)
        if self._pressure is not None:
            self._pressure.begin_again()
            self._admissions.pressure = self._pressure
        if self._pools is not None:
            self._admissions.pools = GpuPools(self._rules, self._pools, self._ledger)
        self.residency.begin(self._changed, self._admissions)
        self.residency.warm = LoadAhead(self)
        self.residency.tell = TellHappenings(self)
        if self._ledger is not None:
            self._ledger.begin_again()

    def join(self, user: object) -> None:
        """Count ``user`` among those that share this scheduler, until it leaves."""
        with self._changed:
            if not any(one is user for one in self._users):
                self._users.append(user)

    def leave(self, user: object) -> None:
        """Forget the models that ``user`` brought, and free those of them that are still loaded; the last one closes.

        What others brought stays as it is, in use or idle. Calling it again does nothing.
        """
        self.residency.leave(user)
        with self._changed:
            self._users = [one for one in self._users if one is not user]
            last = not self._users
        if last:
            self.close()

    @contextmanager
    def lease(
        self,
        request: Request,
        *,
        patience: float | None = None,
        cancelled: Callable[[], bool] | None = None,
        may_evict: bool = True,
        ahead: bool = False,
    ) -> Iterator[Lease]:
        """Hold memory for as many texts of the batch as fit, and give it back at the end, also after an error.

        Waits up to ``patience`` seconds (``None``: as the scheduler was told), or until ``cancelled`` says so. Without
        ``may_evict`` only models whose keep-alive has run out are unloaded for it; for one that is loaded ``ahead`` of
        any use nothing is. Raises
        :class:`~omnimemory.scheduler.decision.BatchRefusedError` (a ``MemoryBudgetError`` with the ``decision``) when
        not even one text fits.
        """
        patience = self._patience if patience is None else patience
        trace = self._log.new()
        decision = self._admit(Ticket(request, time.monotonic(), patience, may_evict, ahead), cancelled, trace)
        lease, began, outcome = Lease(decision.items, decision.need, decision), time.monotonic(), "failed"
        try:
            yield lease
            outcome = "done"
        except RanOutError:
            outcome = "out of memory"
            raise
        except Exception:
            raise
        except BaseException:
            outcome = "cancelled"
            raise
        finally:
            now = time.monotonic()
            end = lease.end(outcome, now - began)
            with self._changed:
                self._admissions.release(decision.id, now, ended_well=outcome == "done")
                self._log.ended(trace, end)
                self._log.counted(happenings(self._admissions, self.residency))
                self._changed.notify_all()
            self.residency.watch()

    def _admit(self, ticket: Ticket, cancelled: Callable[[], bool] | None, trace: Trace) -> Decision:
        try:
            decision = self._step(ticket, trace, only_now=self.neighbours is not None)
            if self.neighbours is not None and not decision.runs:
                self._look_around(decision)
                decision = self._step(ticket, trace)
            while decision.action in ("wait", "evict"):
                if decision.action == "evict":
                    if ticket.ahead:
                        break
                    self.residency.make_room(tuple(victim.model for victim in decision.victims))
                if cancelled is not None and cancelled():
                    ticket.patience = 0.0
                decision = self._step(ticket, trace)
        except BaseException:
            with self._changed:
                self._admissions.abandon(ticket, time.monotonic())
            raise
        if decision.runs:
            return decision
        with self._changed:
            self._admissions.abandon(ticket, time.monotonic())
        raise BatchRefusedError(decision)

    def _look_around(self, decision: Decision) -> None:
        """Where a request does not fit, get to know which models of servers on this machine could go."""
        assert self.neighbours is not None
        short = decision.action in ("wait", "refuse") and not decision.turn.serving
        for model in self.neighbours() if short else ():
            self.residency.know(model)

    def _step(self, ticket: Ticket, trace: Trace, *, only_now: bool = False) -> Decision:
        # Reading, deciding and promising are one step: two threads must not be promised the same bytes.
        with self._changed:
            decision = self._admissions.ask(ticket, time.monotonic(), trace.id, only_now=only_now)
            if only_now and not decision.runs:
                return decision
            if decision.runs and not ticket.ahead:
                self.residency.used(decision.request.model)
            waits = decision.action == "wait"
            if not (waits and trace.steps):
                decision = replace(decision, time=time.time())
                self._log.decided(decision, trace)
            if waits:
                self._changed.wait(_LOOK_AGAIN)
            return decision

    def plan(self, request: Request, *, may_evict: bool = True) -> Decision:
        """Return what would be decided about a request now, and promise nothing."""
        with self._changed:
            now = time.monotonic()
            return self._admissions.preview(Ticket(request, now, may_evict=may_evict), now)

    def close(self) -> None:
        """End what runs in the background and close the files; a later batch opens them again."""
        self.residency.close()
        with self._changed:
            self._log.counted(happenings(self._admissions, self.residency))
            self._log.close()
            if self._ledger is not None:
                self._ledger.close()

    def count(self) -> None:
        """Write down what happened beside requests since the last time: models that went, leases of the dead."""
        with self._changed:
            self._log.counted(happenings(self._admissions, self.residency))

    def log(self) -> list[Decision]:
        """Return the last decision about each of the last requests, oldest first; such as wait are left out."""
        with self._changed:
            return [trace.last for trace in self._log.all() if trace.last.action not in ("wait", "evict")]

    def traces(self) -> list[Trace]:
        """Return the last requests of this process, oldest first; they may go on."""
        with self._changed:
            return self._log.all()

    def explain(self, name: str) -> str:
        """Say in sentences what happened to a request of this process, or of any that has written to the journal.

        ``name`` is the id of a decision. Raises :class:`ConfigError` for one that is not remembered.
        """
        return self._log.explain(name)

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
                "unloaded": dict(self.residency.unloads),
                "thrashed": admissions.residents.thrashed,
                "ahead": dict(self.residency.warming.counts),
                "problem": self._problem(),
                "readings": [asdict(reading) for reading in available.readings],
            }

    def _problem(self) -> str:
        parts = ("" if self._ledger is None else self._ledger.problem, self._log.problem)
        return "; ".join(filter(None, parts))

    def _others(self) -> Sequence[dict[str, int]]:
        """Return what other processes hold now; reading it makes no file."""
        if self._ledger is None:
            return []
        with self._changed:
            rows = self._ledger.rows()
        return [{"pid": row.pid, "reserved": row.reserved} for row in rows if row.pid != os.getpid()]


def _check(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise ConfigError(f"{name} must be at least {least}, not {value}")
