"""What may not be touched, and the room that this leaves in a pool of memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.probe import UNKNOWN, Available
from omnimemory.scheduler.profiles import PLAIN

__all__ = ["Limits", "Place", "default_reserve"]

_PARTS = {"high": 2, "critical": 8}


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
class Place:
    """A pool that a request could run in: what is there, what may not be touched, whether it is a last resort."""

    pool: str
    available: Available
    limits: Limits
    last_resort: bool = False


def default_reserve(total: int) -> int:
    """Return the bytes to keep free of a pool of ``total``: 512 MiB or 5 %, but never more than a quarter."""
    return PLAIN.reserve(total)
