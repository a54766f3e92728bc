"""A decision about a request, with all that went into it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from omnimemory.errors import MemoryBudgetError
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.limits import Limits, Place
from omnimemory.scheduler.probe import Available
from omnimemory.scheduler.profiles import PLAIN
from omnimemory.scheduler.victims import Resident, Spared, Victim

__all__ = ["Action", "BatchRefusedError", "Decision", "Turn"]

Action = Literal["grant", "shrink", "evict", "wait", "refuse"]


@dataclass(frozen=True, slots=True)
class Turn:
    """When a request is decided; seconds.

    ``waited`` of ``patience`` are over; after ``starve_after`` it counts as starved, and models in use are drained for
    it. ``loading`` is the model that is being loaded now: one at a time. Without ``may_evict`` only models whose
    keep-alive has run out go. ``pool`` is where the model was the last time, if that is known.
    ``serving`` is the model that the request's server works for, and whose batches go first.
    """

    now: float = 0.0
    waited: float = 0.0
    patience: float = 0.0
    starve_after: float = PLAIN.starve_after
    loading: str = ""
    may_evict: bool = True
    pool: str = ""
    serving: str = ""

    @property
    def starved(self) -> bool:
        """Whether the request has waited so long that others have to stand back."""
        return self.waited >= self.starve_after


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision with all that went into it; :func:`~omnimemory.scheduler.placing.replay` gives it again.

    ``items`` is how many texts may run (0 when none does), ``need`` the bytes they need (when none runs: the bytes of a
    single one), ``room`` the bytes there were. ``victims`` are to be unloaded before the request is decided again,
    ``drain`` are to get no new leases meanwhile, ``spared`` stay. It is about ``pool``, chosen from ``places`` where
    there was a choice. ``id`` and ``time`` (seconds since the epoch) are set by the scheduler.
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
    pool: str = "ram"
    places: tuple[Place, ...] = ()

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
