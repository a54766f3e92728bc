"""What this machine's memory looks like to a person: every pool, and how hard it is pressed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from omnimemory.scheduler.pools import read_pools
from omnimemory.scheduler.pressure import PressureGauge

__all__ = ["machine_status"]


def machine_status(gauge: PressureGauge) -> dict[str, Any]:
    """Return all pools and the pressure since the gauge was last asked, as JSON-ready data."""
    pools = read_pools()
    main = pools[0]
    pressure = gauge(main.available / main.total if main.total else 0.0)
    return {"pools": [asdict(pool) for pool in pools], "pressure": asdict(pressure)}
