"""What this machine's memory looks like to a person: every pool, and how hard it is pressed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from omnimemory.scheduler.pools import read_pools
from omnimemory.scheduler.pressure import PressureGauge

__all__ = ["Machine"]


class Machine:
    """The memory of this machine. Safe for several threads."""

    def __init__(self) -> None:
        self._gauge = PressureGauge()

    def status(self) -> dict[str, Any]:
        """Return all pools and the pressure since this was last asked, as JSON-ready data."""
        pools = read_pools()
        main = pools[0]
        pressure = self._gauge(main.available / main.total if main.total else 0.0)
        return {"pools": [asdict(pool) for pool in pools], "pressure": asdict(pressure)}
