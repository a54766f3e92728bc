"""The right to run a batch, for as long as a ``with`` block lasts."""

from __future__ import annotations

import time
from dataclasses import dataclass

from omnimemory.scheduler.decision import Decision
from omnimemory.scheduler.traces import End

__all__ = ["Lease"]


@dataclass(slots=True)
class Lease:
    """The right to run ``items`` texts in ``reserved`` bytes until the ``with`` block ends.

    Who measures the batch sets ``observed`` to the bytes it was seen to need and ``predicted`` to what was expected,
    and who runs it how many texts were read in parts (``windowed``), or cut off by the model (``truncated``).
    """

    items: int
    reserved: int
    decision: Decision
    observed: int = 0
    predicted: int = 0
    windowed: int = 0
    truncated: int = 0

    def end(self, outcome: str, seconds: float) -> End:
        """Return how it ended, now."""
        measured = self.observed, self.predicted
        return End(outcome, seconds, *measured, time.time(), self.windowed, self.truncated)
