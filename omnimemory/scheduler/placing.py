"""In which pool of memory a model is to be loaded: one of several GPUs, or main memory. Pure, like ``policy.py``.

- A model that is in a pool stays there: its batches are decided by the memory of that pool alone.
- One that has to be loaded goes where all of it fits now; else where a part of its batch fits; else where idle models
  can go for it. Of several such pools the one with the most room is taken, but the one where it was before as long as
  no other has a quarter more: it must not wander with every change of the free memory.
- What an engine can use only as a last resort, as a rule main memory, is looked at when nothing else has room, and
  before the request has to wait.
- It waits for the pool that has the most room, and is refused at once only where no pool could ever hold it.

Only simulated: no machine with a GPU was at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from omnimemory.scheduler.decision import Decision, Turn
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.limits import Place
from omnimemory.scheduler.policy import decide
from omnimemory.scheduler.victims import Resident

__all__ = ["decide_where", "replay"]

_WANDERS = 1.25
"""How much more room another pool must have than the one where the model was before."""

_ORDER = {"grant": 0, "shrink": 1, "evict": 2}


def decide_where(
    places: Sequence[Place], request: Request, residents: Sequence[Resident] = (), turn: Turn | None = None
) -> Decision:
    """Decide a request that could run in several pools; at least one is given, the preferred kinds first."""
    turn = turn or Turn()
    home = next((one.pool for one in residents if one.name == request.model), "")
    open_to = [place for place in places if place.pool == home] or list(places)
    made = [_in(place, request, residents, turn) for place in open_to]
    now = [one for one in made if one.action in _ORDER]
    chosen = _best(now, open_to, turn.pool) if now else _to_wait_for(made)
    return replace(chosen, places=tuple(places), residents=tuple(residents))


def replay(decision: Decision) -> Decision:
    """Decide again what is recorded."""
    if decision.places:
        return decide_where(decision.places, decision.request, decision.residents, decision.turn)
    return decide(decision.available, decision.request, decision.limits, decision.residents, decision.turn)


def _in(place: Place, request: Request, residents: Sequence[Resident], turn: Turn) -> Decision:
    there = [one for one in residents if one.pool == place.pool]
    return replace(decide(place.available, request, place.limits, there, turn), pool=place.pool)


def _best(made: Sequence[Decision], places: Sequence[Place], before: str) -> Decision:
    last = {place.pool for place in places if place.last_resort}

    def rank(one: Decision) -> tuple[bool, int, int, float, str]:
        room = one.room * (_WANDERS if one.pool == before else 1.0)
        return one.pool in last, _ORDER[one.action], -one.items, -room, one.pool

    return min(made, key=rank)


def _to_wait_for(made: Sequence[Decision]) -> Decision:
    """Return the decision about the pool with the most room, of those that may be waited for if there are any."""
    waits = [one for one in made if one.action == "wait"]
    best = max(waits or made, key=lambda one: (one.room, one.pool))
    others = [one.pool for one in made if one is not best]
    if best.action == "refuse" and others:
        return replace(best, reason=f"{best.reason} That is {best.pool}; {', '.join(others)} has less.")
    return best
