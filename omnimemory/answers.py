"""How long questions took to be answered, and how many answers were less than they could be."""

from __future__ import annotations

from collections import deque
from typing import Any

__all__ = ["Answers"]

_KEPT = 1000


class Answers:
    """Counts the answers of one memory; the times of the last thousand are kept. Safe for several threads."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_KEPT)
        self._degraded = 0
        self._count = 0

    def note(self, seconds: float, *, degraded: bool) -> None:
        """Count an answer that took so long; a degraded one was given without the model."""
        self._seconds.append(seconds)
        self._count += 1
        self._degraded += degraded

    def status(self) -> dict[str, Any]:
        """Return how many answers there were, how many were degraded, and how long they took, in seconds."""
        from omnimemory.scheduler.metrics import percentiles  # noqa: PLC0415 - a search needs none of it

        return {"degraded": self._degraded, **percentiles(list(self._seconds)), "count": self._count}
