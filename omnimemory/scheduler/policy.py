"""Whether a batch may run, or a model be loaded: a pure decision, without I/O, so that a recorded one can be replayed.

``room = min(available - outstanding - reserve, max_bytes - used - outstanding)``. What is outstanding is subtracted in
full, though part of it may already show in ``available``: on the safe side. The ladder:

1. A batch that does not fit is halved until it does, down to one text.
2. If not even one fits, or a model has to be loaded and there are as many as may be, idle models go: those least worth
   keeping, no more than are needed, and none when it would not be enough.
3. If that does not help either, the request waits, until its patience ends.
4. Then it is refused. What can never fit, even with nothing else in memory, is refused at once; nothing goes for it.

Another model is never put in the place of the one that was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from omnimemory.errors import MemoryBudgetError
from omnimemory.scheduler import reasons
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.probe import UNKNOWN, Available
from omnimemory.scheduler.profiles import PLAIN
from omnimemory.scheduler.victims import Resident, Spared, Victim, choose_victims

__all__ = ["Action", "BatchRefusedError", "Decision", "Limits", "Turn", "decide", "default_reserve", "replay"]

_PARTS = {"high": 2, "critical": 8}
Action = Literal["grant", "shrink", "evict", "wait", "refuse"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What may not be touched, in bytes.

    ``reserve`` stays free for everything else; ``max_bytes`` is the most this process may use at all (``None``: no such
    limit); ``outstanding`` is promised to batches that run now, here and in other processes; ``held`` is kept for a
    request that waited longer than this one. No model may need more than ``max_model_bytes``, and no more than
    ``max_loaded`` are loaded. ``factor`` multiplies what was asked for. ``blind`` says why other processes cannot be
    seen: then half of the room is theirs. ``forbidden`` says why this model may not be used at all.
    Under high ``pressure`` (``pressure.py``) no more than half of a batch runs at once, under critical an eighth.
    """

    reserve: int
    max_bytes: int | None = None
    outstanding: int = 0
    held: int = 0
    max_model_bytes: int | None = None
    max_loaded: int | None = None
    factor: float = 1.0
    blind: str = ""
    forbidden: str = ""
    pressure: str = "ok"

    def need(self, request: Request, items: int) -> int:
        """Return the bytes to promise for ``items`` texts of a request."""
        return math.ceil(request.need(items) * self.factor)

    def most(self, items: int) -> int:
        """Return how many of so many texts may run at once under this pressure."""
        return max(1, items // _PARTS.get(self.pressure, 1))

    def room(self, available: Available) -> int:
        """Return the bytes that can be promised now."""
        free = self._free(available)
        return max(0, free // 2 if self.blind else free)

    def short(self, available: Available, need: int) -> int:
        """Return the bytes that must come back before ``need`` can be promised; the reserve may be in use as well."""
        return (2 * need if self.blind else need) - self._free(available)

    def _free(self, available: Available) -> int:
        taken = self.outstanding + self.held
        free = available.bytes - taken - self.reserve
        if self.max_bytes is None:
            return free
        allowed = self.max_bytes - available.used - taken
        # Where memory cannot be read, a limit set by the user is the only figure there is.
        return allowed if available.source == UNKNOWN else min(free, allowed)

    def capacity(self, available: Available) -> int:
        """Return the bytes that could be promised if nothing at all were in memory."""
        if available.source == UNKNOWN:
            return self.max_bytes or 0
        whole = max(0, available.total - self.reserve)
        return whole if self.max_bytes is None else min(whole, self.max_bytes)


@dataclass(frozen=True, slots=True)
class Turn:
    """When a request is decided; seconds.

    ``waited`` of ``patience`` are over; after ``starve_after`` it counts as starved, and models in use are drained for
    it. ``loading`` is the model that is being loaded now: one at a time. Without ``may_evict`` only models whose
    keep-alive has run out go.
    """

    now: float = 0.0
    waited: float = 0.0
    patience: float = 0.0
    starve_after: float = PLAIN.starve_after
    loading: str = ""
    may_evict: bool = True

    @property
    def starved(self) -> bool:
        """Whether the request has waited so long that others have to stand back."""
        return self.waited >= self.starve_after


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision with all that went into it; :func:`replay` gives it again.

    ``items`` is how many texts may run (0 when none does), ``need`` the bytes they need (when none runs: the bytes of a
    single one), ``room`` the bytes there were. ``victims`` are to be unloaded before the request is decided again,
    ``drain`` are to get no new leases meanwhile, ``spared`` stay. ``id`` and ``time`` (seconds since the epoch) are set
    by the scheduler.
    """

    action: Action
    items: int
    need: int
    room: int
    reason: str
    available: Available
    request: Request
    limits: Limits
    id: str = ""
    time: float = 0.0
    residents: tuple[Resident, ...] = ()
    turn: Turn = Turn()
    victims: tuple[Victim, ...] = ()
    drain: tuple[str, ...] = ()
    spared: tuple[Spared, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether the request may begin."""
        return self.action in ("grant", "shrink")

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as JSON-ready data. It holds no user text."""
        return asdict(self)


class BatchRefusedError(MemoryBudgetError):
    """Not even one text of the batch fits; ``decision`` tells why."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.reason)
        self.decision = decision

    def __reduce__(self) -> tuple[type[BatchRefusedError], tuple[Decision]]:
        return type(self), (self.decision,)


def default_reserve(total: int) -> int:
    """Return the bytes to keep free of a pool of ``total``: 512 MiB or 5 %, but never more than a quarter."""
    return PLAIN.reserve(total)


def decide(
    available: Available,
    request: Request,
    limits: Limits,
    residents: Sequence[Resident] = (),
    turn: Turn | None = None,
) -> Decision:
    """Grant the request, shrink it by halves until it fits, make room, wait, or refuse it."""
    case = _Case(available, request, limits, tuple(residents), turn or Turn(), limits.room(available))
    never = _never(case)
    if never:
        return case.decision("refuse", never)
    later = _not_yet(case)
    if later:
        return _wait(case, later)
    over = _over(case)
    items = _fitting(case)
    if items and over <= 0:
        return case.runs(items)
    short = limits.short(available, limits.need(request, 1))
    victims, spared = choose_victims(
        case.residents,
        short,
        over,
        case.turn.now,
        without=request.model,
        starved=case.turn.starved,
        expired_only=not case.turn.may_evict,
    )
    if victims:
        names = ", ".join(victim.model for victim in victims)
        return case.decision("evict", f"{names} must go to make room for {request.model}", victims, spared)
    return _wait(case, "", spared, short, over)


def replay(decision: Decision) -> Decision:
    """Decide again what is recorded."""
    return decide(decision.available, decision.request, decision.limits, decision.residents, decision.turn)


@dataclass(frozen=True, slots=True)
class _Case:
    """What is decided, with the room that follows from it."""

    available: Available
    request: Request
    limits: Limits
    residents: tuple[Resident, ...]
    turn: Turn
    room: int

    def runs(self, items: int) -> Decision:
        request, limits = self.request, self.limits
        need = limits.need(request, items)
        if items == request.items:
            return self._made("grant", items, need, reasons.granted(request, items, need, self.room))
        whole = limits.need(request, request.items)
        if items == limits.most(request.items):
            return self._made("shrink", items, need, reasons.pressed(request, items, limits.pressure))
        told = reasons.shrunk(request, items, whole, self.room, self.available, limits)
        return self._made("shrink", items, need, told)

    def decision(
        self,
        action: Action,
        reason: str,
        victims: tuple[Victim, ...] = (),
        spared: tuple[Spared, ...] = (),
        drain: tuple[str, ...] = (),
    ) -> Decision:
        return self._made(action, 0, self.limits.need(self.request, 1), reason, victims, spared, drain)

    def refusal(self, spared: tuple[Spared, ...] = (), waited: float = 0.0) -> str:
        need = self.limits.need(self.request, 1)
        return reasons.refused(self.request, need, self.room, self.available, self.limits, spared=spared, waited=waited)

    def _made(
        self,
        action: Action,
        items: int,
        need: int,
        reason: str,
        victims: tuple[Victim, ...] = (),
        spared: tuple[Spared, ...] = (),
        drain: tuple[str, ...] = (),
    ) -> Decision:
        return Decision(
            action,
            items,
            need,
            self.room,
            reason,
            self.available,
            self.request,
            self.limits,
            residents=self.residents,
            turn=self.turn,
            victims=victims,
            spared=spared,
            drain=drain,
        )


def _never(case: _Case) -> str:
    """Say why the request can never run, or nothing."""
    request, limits = case.request, case.limits
    if limits.forbidden:
        return f"{request.model} may not be used: {limits.forbidden}"
    base = math.ceil(request.base * limits.factor)
    if limits.max_model_bytes is not None and base > limits.max_model_bytes:
        return (
            f"{request.model} needs {reasons.mib_up(base)}, and no model may need more than "
            f"{reasons.mib_down(limits.max_model_bytes)}. Raise schedule.max_model_bytes, or choose a smaller model."
        )
    if limits.need(request, 1) > case.limits.capacity(case.available):
        return case.refusal()
    return ""


def _not_yet(case: _Case) -> str:
    """Say what the request has to wait for whatever the room is, or nothing."""
    model, loading = case.request.model, case.turn.loading
    if any(one.name == model and one.draining for one in case.residents):
        return f"{model} is about to be unloaded for a request that waited longer"
    if case.request.base and loading and loading != model:
        return f"{loading} is being loaded, and models are loaded one at a time"
    return ""


def _over(case: _Case) -> int:
    """Return how many of our models would have to go before this one may be loaded."""
    if not case.request.base or case.limits.max_loaded is None:
        return 0
    loaded = sum(1 for one in case.residents if not one.foreign and one.name != case.request.model)
    return loaded + 1 - case.limits.max_loaded


def _fitting(case: _Case) -> int:
    items = case.limits.most(case.request.items)
    while items > 1 and case.limits.need(case.request, items) > case.room:
        items //= 2
    return items if case.limits.need(case.request, items) <= case.room else 0


def _wait(case: _Case, later: str, spared: tuple[Spared, ...] = (), short: int = 0, over: int = 0) -> Decision:
    turn = case.turn
    crowded = f"{case.limits.max_loaded} models are loaded, and none of them can go" if over > 0 >= short else ""
    if turn.waited >= turn.patience:
        why = later or crowded
        kept = " ".join(f"{one.model} stays: {one.why}." for one in spared)
        told = f"{case.request.model} cannot run now: {why}. {kept}".rstrip() if why else ""
        return case.decision("refuse", told or case.refusal(spared, turn.waited), (), spared)
    drain: tuple[str, ...] = ()
    if turn.starved and not later and turn.may_evict:
        chosen, _ = choose_victims(
            case.residents, short, over, turn.now, without=case.request.model, starved=True, leased=True
        )
        drain = tuple(victim.model for victim in chosen)
    told = later or crowded or f"{case.request.model} waits for {reasons.mib_up(short)}"
    return case.decision("wait", told, (), spared, drain)
