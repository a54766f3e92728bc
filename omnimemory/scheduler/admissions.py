"""What one process was promised, and what waits in it: every request is decided here, one at a time.

Nothing here blocks, starts a thread or reads a clock: :class:`~omnimemory.scheduler.scheduler.Scheduler` does that
around it, and so does the simulated machine of the tests, so that both are governed by the same rules.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from omnimemory.scheduler.decision import Decision, Turn
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.gpu_pools import GpuPools, Promises
from omnimemory.scheduler.grouping import Groups
from omnimemory.scheduler.ledger import Shared
from omnimemory.scheduler.limits import Place
from omnimemory.scheduler.placing import decide_where
from omnimemory.scheduler.policy import decide
from omnimemory.scheduler.probe import Available
from omnimemory.scheduler.residents import Residents, State
from omnimemory.scheduler.rules import Rules
from omnimemory.scheduler.victims import choose_victims

__all__ = ["Admissions", "Ticket"]


@dataclass(slots=True)
class Ticket:
    """One request on its way, patient for so many seconds, or ``ahead`` of any use; ``need`` is that of one text."""

    request: Request
    asked: float
    patience: float = 0.0
    may_evict: bool = True
    ahead: bool = False
    number: int = 0
    need: int = 0


@dataclass(slots=True)
class _Live:
    reserved: int
    request: Request
    pool: str = "ram"
    epoch: int | None = None

    @property
    def model(self) -> str:
        return self.request.model


@dataclass(slots=True)
class Admissions:
    """The requests of one process. Callers hold a lock around every call; times are seconds of one clock."""

    rules: Rules
    probe: Callable[[], Available]
    promises: Promises | None
    residents: Residents = field(default_factory=Residents)
    counts: Counter[str] = field(default_factory=Counter)
    purged: int = 0
    reclaiming: bool = False
    pressure: Callable[[], str] = lambda: "ok"
    pools: GpuPools | None = None
    groups: Groups = field(default_factory=Groups)
    _live: dict[str, _Live] = field(default_factory=dict)
    _waiting: dict[int, Ticket] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def promised(self) -> int:
        """Bytes of main memory promised to the batches that run now in this process."""
        return self.promised_of("ram")

    def promised_of(self, pool: str) -> int:
        """Return the bytes of a pool promised to the batches that run now in this process."""
        return sum(live.reserved for live in self._live.values() if live.pool == pool)

    @property
    def leases(self) -> int:
        """How many batches run now."""
        return len(self._live)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def ask(self, ticket: Ticket, now: float, name: str, *, only_now: bool = False) -> Decision:
        """Decide a request; what is granted is promised under ``name`` until it is released.

        With ``only_now`` a request that may not run at once leaves no trace, as with :meth:`preview`.
        """
        ticket.number = ticket.number or next(self._numbers)
        with self._locked() as shared:
            decision = replace(self._decide(ticket, now, shared), id=name)
            if only_now and not decision.runs:
                return decision
            known = self._waiting.pop(ticket.number, None)
            if decision.runs:
                self._grant(decision, now)
            elif decision.action != "refuse":
                ticket.need = decision.need if decision.pool == "ram" else 0
                self._waiting[ticket.number] = ticket
            self._tell(shared, now, decision.pool)
        for model in decision.drain:
            self.residents.drain(model)
        if known is None or decision.action != "wait":
            self.counts[decision.action] += 1
        self._stand_easy(now)
        return decision

    def preview(self, ticket: Ticket, now: float) -> Decision:
        """Decide a request without promising anything."""
        with self._locked() as shared:
            return self._decide(ticket, now, shared)

    def release(self, name: str, now: float, *, ended_well: bool = True) -> None:
        """Give back what was promised under ``name``; how it ended says whether a model it had to load is there."""
        live = self._live.pop(name, None)
        if live is None:
            return
        self.groups.ended(live.request, now)
        entry = self.residents.sync(live.model, now)
        self.residents.release(live.model, now)
        if live.epoch is not None and entry is not None:
            if ended_well if entry.is_loaded is None else entry.is_loaded():
                self.residents.loaded(live.model, live.epoch, now, entry.footprint, now - entry.began)
            else:
                self.residents.failed(live.model, live.epoch, now)
        with self._locked() as shared:
            self._tell(shared, now, live.pool)

    def abandon(self, ticket: Ticket, now: float) -> None:
        """Forget a request that waits no longer."""
        if self._waiting.pop(ticket.number, None) is None:
            return
        self._stand_easy(now)
        with self._locked() as shared:
            self._tell(shared, now)

    def reclaim(self, now: float) -> str:
        """Return the idle model to unload when less than the ``low`` share is left, and then until ``high`` is."""
        available = self.probe()
        profile = self.rules.profile
        left = available.bytes / available.total if available.total else 1.0
        self.reclaiming = left < (profile.high if self.reclaiming else profile.low)
        if not self.reclaiming:
            return ""
        for wanted in self.residents.view():
            self.residents.sync(wanted.name, now)
        victims, _ = choose_victims(self.residents.view(), 1, 1, now)
        return victims[0].model if victims else ""

    # -- one decision

    @contextmanager
    def _locked(self) -> Iterator[Shared]:
        if self.promises is None:
            yield Shared(None)
            return
        with self.promises.locked() as shared:
            self.purged += shared.purged
            yield shared

    def _decide(self, ticket: Ticket, now: float, shared: Shared) -> Decision:
        request = self._as_it_is(ticket.request, now)
        available = self.probe()
        limits = self.rules.limits(
            available,
            request,
            outstanding=self.promised + shared.outstanding,
            held=self._held(ticket, now, shared) if self._waiting or shared.rows else 0,
            blind=self.promises.problem if self.promises is not None else "",
            pressure=self.pressure() if request.items > 1 else "ok",
        )
        waited = max(0.0, now - ticket.asked)
        turn = Turn(
            now,
            waited,
            ticket.patience,
            self.rules.profile.starve_after,
            self._busy_with(request.model),
            ticket.may_evict,
            serving=self.groups.busy_with(request, waited, ticket.patience, now),
        )
        if self.pools is None or request.pools == ("ram",):
            return decide(available, request, limits, self.residents.view(), turn)
        entry, main = self.residents.get(request.model), Place("ram", available, limits)
        turn = replace(turn, pool="" if entry is None or not entry.load_seconds else entry.pool)
        places = self.pools.places(main, request, self.promised_of)
        return decide_where(places, request, self.residents.view(), turn)

    def _as_it_is(self, request: Request, now: float) -> Request:
        """Return the request with what the model needs by the state it is in now."""
        entry = self.residents.sync(request.model, now)
        if entry is None:
            return request
        entry.footprint = request.base or entry.footprint
        # Somebody else may have loaded it meanwhile, or is loading it: then that is joined. Or it has been unloaded.
        another = entry.here and entry.copies is not None and request.base > 0
        joins = (entry.here and not another) or entry.state is State.LOADING
        base = 0 if joins else entry.footprint
        return request if base == request.base else replace(request, base=base)

    def _stand_easy(self, now: float) -> None:
        """Let models be used again that were kept from it for a request which waits no longer."""
        if next(self._starved(now), None) is None:
            self.residents.undrain()

    def _busy_with(self, model: str) -> str:
        entry = self.residents.get(model)
        if entry is not None and entry.state is State.UNLOADING:
            return f"{model}, which is still being unloaded,"
        return self.residents.loading

    def _held(self, ticket: Ticket, now: float, shared: Shared) -> int:
        """Return the bytes kept for the request that waited longest of all, if it is starved and not this one."""
        own = ((one.asked, one.number) for one in self._starved(now))
        first = min(own, default=None)
        elsewhere = shared.oldest()
        if elsewhere is not None and (first is None or elsewhere[0] < first[0]):
            return elsewhere[1] if elsewhere[0] < ticket.asked else 0
        if first is None or first >= (ticket.asked, ticket.number):
            return 0
        return self._waiting[first[1]].need

    def _starved(self, now: float) -> Iterator[Ticket]:
        return (one for one in self._waiting.values() if now - one.asked >= self.rules.profile.starve_after)

    def _grant(self, decision: Decision, now: float) -> None:
        request = decision.request
        live = _Live(decision.need, request, decision.pool)
        self.groups.began(request, now)
        entry = self.residents.get(request.model)
        if request.base and entry is not None:
            live.epoch = self.residents.begin_load(request.model, now)
            entry.pool = decision.pool
        self._live[decision.id] = live
        self.residents.lease(request.model, now)

    def _tell(self, shared: Shared, now: float, pool: str = "ram") -> None:
        if pool != "ram" and self.pools is not None:
            self.pools.tell(pool, self.promised_of(pool))
        starved = min(self._starved(now), key=lambda one: (one.asked, one.number), default=None)
        if starved is None:
            shared.write(self.promised)
        else:
            shared.write(self.promised, starved.need, starved.asked)
