"""What the user set, and the limits that follow from it for a request."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.limits import Limits
from omnimemory.scheduler.probe import Available
from omnimemory.scheduler.profiles import PLAIN, Profile

__all__ = ["Rules"]

MEASURED = 3
"""A need that rests on so many measurements is taken as it is."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the user set. Sizes in bytes; ``None`` where the profile decides or there is no limit.

    ``keep_alive`` holds patterns of names with seconds (``None``: for ever), ``priority`` such with ranks.
    """

    profile: Profile = PLAIN
    reserve: int | None = None
    max_bytes: int | None = None
    max_model_bytes: int | None = None
    max_loaded: int | None = None
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    pin: tuple[str, ...] = ()
    keep_alive: tuple[tuple[str, float | None], ...] = ()
    priority: tuple[tuple[str, int], ...] = ()

    def kept(self, model: str) -> float | None:
        """Return how many seconds an idle model stays: the first pattern that fits, or the profile; ``None``: ever."""
        found = (seconds for pattern, seconds in self.keep_alive if fnmatchcase(model, pattern))
        return next(found, self.profile.keep_alive)

    def ranks(self, model: str) -> int:
        """Return the priority of a model: of the first pattern that fits, or 0."""
        return next((rank for pattern, rank in self.priority if fnmatchcase(model, pattern)), 0)

    def pins(self, model: str) -> bool:
        """Return whether a model is never unloaded by itself."""
        return any(fnmatchcase(model, pattern) for pattern in self.pin)

    def limits(
        self,
        available: Available,
        request: Request | None = None,
        *,
        outstanding: int = 0,
        held: int = 0,
        blind: str = "",
        pressure: str = "ok",
    ) -> Limits:
        """Return the limits for a request."""
        reserve = self.profile.reserve(available.total) if self.reserve is None else self.reserve
        return Limits(
            reserve,
            self.max_bytes,
            outstanding,
            held,
            max_model_bytes=self.max_model_bytes,
            max_loaded=self.profile.max_loaded if self.max_loaded is None else self.max_loaded,
            factor=1.0 if request is None else self._factor(request),
            blind=blind,
            pressure=pressure,
            forbidden="" if request is None else self.forbids(request.model),
        )

    def forbids(self, model: str) -> str:
        """Say why a model may not be used, or nothing."""
        if any(fnmatchcase(model, pattern) for pattern in self.deny):
            return "schedule.deny names it"
        if self.allow and not any(fnmatchcase(model, pattern) for pattern in self.allow):
            return "schedule.allow does not name it"
        return ""

    def _factor(self, request: Request) -> float:
        return 1.0 if request.measured >= MEASURED else self.profile.factor
