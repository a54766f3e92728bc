"""Three ways to share a machine, each by name: ``max_use``, ``balanced`` and ``conservative``.

They reconcile three rules of thumb that were never about the same quantity. "Use 100 % of the memory" is a cap on the
pool: ``max_use`` leaves a floor of 256 MiB free and no more. "Add 20 %" is a factor on a model whose need was never
measured: ``balanced`` and, with 35 %, ``conservative`` have one, and measured needs have none. "Stay below 75-80 %" is
a cap on the use of the whole machine: ``conservative`` admits up to 80 % and takes idle models back from 75 % on.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PLAIN", "PROFILES", "Profile"]

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Profile:
    """How much is left to others, and how long models stay.

    ``floor`` (bytes) and ``share`` (of the pool) stay free, whichever is more, but never more than a quarter of the
    pool. ``factor`` multiplies needs that were not measured. At most ``max_loaded`` models of ours are loaded at once
    (``None``: as many as fit). An idle model goes after ``keep_alive`` seconds. A request that waited ``starve_after``
    seconds is served before younger ones. Idle models are taken back when less than ``low`` of the pool is free, until
    ``high`` is.
    """

    name: str
    floor: int
    share: float
    factor: float
    max_loaded: int | None
    keep_alive: float
    starve_after: float
    low: float
    high: float

    def reserve(self, total: int) -> int:
        """Return the bytes to keep free of a pool of ``total``."""
        return min(max(self.floor, int(total * self.share)), total // 4)


PLAIN = Profile("plain", 512 * _MIB, 0.05, 1.0, None, 300.0, 10.0, 0.05, 0.12)
"""Sizes as they are asked for: what a scheduler does that was given no profile."""

PROFILES = {
    profile.name: profile
    for profile in (
        Profile("max_use", 256 * _MIB, 0.0, 1.0, 3, 3600.0, 30.0, 0.02, 0.05),
        Profile("balanced", 512 * _MIB, 0.05, 1.2, 2, 300.0, 10.0, 0.05, 0.12),
        Profile("conservative", 1024 * _MIB, 0.20, 1.35, 1, 60.0, 10.0, 0.25, 0.30),
    )
}
