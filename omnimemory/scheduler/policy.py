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
from dataclasses import dataclass

from omnimemory.scheduler import reasons
from omnimemory.scheduler.decision import Action, Decision, Turn
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.limits import Limits
from omnimemory.scheduler.probe import Available
from omnimemory.scheduler.victims import Resident, Spared, Victim, choose_victims

__all__ = ["decide"]


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
    if case.turn.serving:
        return f"its server works for {case.turn.serving}, and batches of one model go together"
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
