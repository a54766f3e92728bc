"""How hard memory is pressed, asked for before a batch.

It is read at most once a second, because what is read are counters and averages of ten seconds.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omnimemory.scheduler.pressure import Level, PressureGauge

__all__ = ["PressureWatch"]

_SECONDS = 1.0


class PressureWatch:
    """Call it for the level; callers hold a lock. How much is left does not count: the room of a batch tells that."""

    def __init__(self) -> None:
        self.begin_again()

    def begin_again(self) -> None:
        """Forget everything, as in a forked child, where a thread may have held a lock."""
        self._gauge: PressureGauge | None = None
        self._level: Level = "ok"
        self._next = 0.0

    def __call__(self) -> Level:
        """Return the level of now, or of less than a second ago."""
        now = time.monotonic()
        if now >= self._next:
            if self._gauge is None:
                from omnimemory.scheduler.pressure import PressureGauge  # noqa: PLC0415 - a search needs none of it

                self._gauge = PressureGauge()
            self._level = self._gauge(1.0).level
            self._next = now + _SECONDS
        return self._level
