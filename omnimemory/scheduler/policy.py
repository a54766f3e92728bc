"""Whether a batch may run: a pure decision, without I/O, so that a recorded one can be replayed.

``room = min(available - outstanding - reserve, max_bytes - used - outstanding)``; a batch that does not fit
is halved until it does, and refused when not even one text fits. What is outstanding is subtracted in full,
though part of it may already show in ``available``: on the safe side.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from omnimemory.errors import MemoryBudgetError
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.probe import UNKNOWN, Available

__all__ = ["BatchRefusedError", "Decision", "Limits", "decide", "default_reserve"]

_MIB = 1 << 20
_RESERVE = "memory.reserve (OMNIMEMORY_MEMORY_RESERVE)"
_MAX_BYTES = "memory.max_bytes (OMNIMEMORY_MEMORY_MAX_BYTES)"


@dataclass(frozen=True, slots=True)
class Limits:
    """What may not be touched, in bytes.

    ``reserve`` stays free for everything else; ``max_bytes`` is the most this process may use at all
    (``None``: no such limit); ``outstanding`` is promised to batches that run now.
    """

    reserve: int
    max_bytes: int | None = None
    outstanding: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision with all that went into it; ``decide(available, request, limits)`` gives it again.

    ``items`` is how many texts may run (0 when refused), ``need`` the bytes they need (when refused: the bytes
    of a single one), ``room`` the bytes there were. ``id`` and ``time`` (seconds since the epoch) are set by
    the scheduler.
    """

    action: Literal["grant", "shrink", "refuse"]
    items: int
    need: int
    room: int
    reason: str
    available: Available
    request: Request
    limits: Limits
    id: str = ""
    time: float = 0.0

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
    return min(max(512 * _MIB, total // 20), total // 4)


def decide(available: Available, request: Request, limits: Limits) -> Decision:
    """Grant the batch, shrink it by halves until it fits, or refuse it."""
    room = _room(available, limits)
    items = request.items
    while items > 1 and request.need(items) > room:
        items //= 2
    need = request.need(items)
    if need > room:
        reason = _refusal(available, request, limits, room)
        return Decision("refuse", 0, need, room, reason, available, request, limits)
    action: Literal["grant", "shrink"] = "grant" if items == request.items else "shrink"
    reason = f"{_texts(items)} with {request.model} need {_up(need)} of {_down(room)}"
    if action == "shrink":
        fixes = [*_fixes(available, limits), f"lower --batch-size to {items}"]
        reason = (
            f"{_texts(request.items)} with {request.model} need {_up(request.need(request.items))}, but there are "
            f"{_down(room)} ({_account(available, limits)}), so {items} run now. {_sentence(fixes)}"
        )
    return Decision(action, items, need, room, reason, available, request, limits)


def _room(available: Available, limits: Limits) -> int:
    free = available.bytes - limits.outstanding - limits.reserve
    if limits.max_bytes is None:
        return max(0, free)
    allowed = limits.max_bytes - available.used - limits.outstanding
    # Where memory cannot be read, a limit set by the user is the only figure there is.
    return max(0, allowed if available.source == UNKNOWN else min(free, allowed))


def _refusal(available: Available, request: Request, limits: Limits, room: int) -> str:
    if available.source == UNKNOWN and limits.max_bytes is None:
        notes = "; ".join(f"{r.source}: {r.note}" for r in available.readings if r.note) or "no source answered"
        return (
            f"The free memory of this machine cannot be read ({notes}), so no batch may run. "
            f"Set {_MAX_BYTES} to the bytes this process may use."
        )
    fixes = _fixes(available, limits)
    if request.base > request.per_item:
        fixes.append("choose a smaller model")
    if limits.outstanding:
        fixes.append("wait for the batches that run now (a lower --batch-size makes them smaller)")
    model = f" ({_up(request.base)} of it for the model)" if request.base else ""
    return (
        f"There is no memory for even one text with {request.model}: it needs {_up(request.need(1))}"
        f"{model}, and there are {_down(room)} ({_account(available, limits)}). "
        f"{_sentence(fixes)}"
    )


def _fixes(available: Available, limits: Limits) -> list[str]:
    """Return what would make more room, for the limit that binds."""
    free = available.bytes - limits.reserve
    if limits.max_bytes is not None and (available.source == UNKNOWN or limits.max_bytes - available.used < free):
        return [f"raise {_MAX_BYTES}"]
    if available.source.startswith("RLIMIT"):
        fixes = [f"raise the limit of this process ({available.source}, see ulimit)"]
    elif available.source.startswith("cgroup"):
        fixes = [f"raise the memory limit of the container or service ({available.source})"]
    else:
        fixes = ["close programs"]
    return [*fixes, f"lower {_RESERVE}"] if limits.reserve else fixes


def _account(available: Available, limits: Limits) -> str:
    parts = [f"{_down(available.bytes)} available by {available.source}", f"{_up(limits.reserve)} kept in reserve"]
    if limits.outstanding:
        parts.append(f"{_up(limits.outstanding)} promised to running batches")
    if limits.max_bytes is not None:
        parts.append(f"{_up(available.used)} used of the {_down(limits.max_bytes)} this process may use")
    return ", ".join(parts)


def _sentence(fixes: list[str]) -> str:
    text = ", or ".join(fixes)
    return f"{text[:1].upper()}{text[1:]}."


def _texts(items: int) -> str:
    return "1 text" if items == 1 else f"{items} texts"


def _up(size: int) -> str:
    return f"{math.ceil(size / _MIB * 10) / 10:,.1f} MiB"


def _down(size: int) -> str:
    return f"{math.floor(size / _MIB * 10) / 10:,.1f} MiB"
