"""The pools that models take memory from: main memory, each GPU, and memory that both share.

Main memory is what :class:`~omnimemory.scheduler.probe.Probe` says. NVIDIA cards are asked through nvidia-ml-py
(``pynvml``) where it is installed. On Apple silicon processor and GPU share one memory, of which Metal gives a process
no more than its recommended working set (``max_recommended_working_set_size``); what MLX holds of that is not counted
in the process's own memory. A pool that cannot be read is listed with 0 bytes and the reason: unknown is never
unlimited.

Tested with stand-ins for both libraries; no GPU and no Apple machine was at hand.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from omnimemory.scheduler.cgroups import ABSURD
from omnimemory.scheduler.probe import Available, Probe

__all__ = ["Pool", "read_pools"]

Find = Callable[[str], Any]
"""Returns a library by its name, or ``None`` when it is not installed."""


@dataclass(frozen=True, slots=True)
class Pool:
    """One kind of memory: bytes in all and bytes that can be had now, and who says so.

    ``note`` is empty unless something was wrong with the source.
    """

    name: str
    kind: Literal["ram", "gpu", "unified"]
    total: int
    available: int
    source: str
    note: str = ""


def read_pools(
    available: Available | None = None, *, find: Find | None = None, platform: str = sys.platform
) -> tuple[Pool, ...]:
    """Return all pools, main memory first.

    ``available`` spares reading main memory again; ``find`` says where libraries come from. Never raises.
    """
    found = Probe()() if available is None else available
    look = find or _installed
    main = Pool("ram", "ram", found.total, found.bytes, found.source, _notes(found))
    if platform == "darwin":
        main = _unified(main, look)
    return (main, *_nvidia(look))


def _installed(name: str) -> Any:
    """Import a library if it is there. One that is there and broken raises ``ImportError`` or worse."""
    if name in sys.modules:
        return sys.modules[name]
    try:
        there = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return None if there is None else importlib.import_module(name)


def _notes(found: Available) -> str:
    return "; ".join(f"{reading.source}: {reading.note}" for reading in found.readings if reading.note)


def _unified(main: Pool, find: Find) -> Pool:
    """Bound main memory by what Metal gives to one process."""
    try:
        mlx = find("mlx.core")
        if mlx is None:
            return main
        limit = int(mlx.device_info().get("max_recommended_working_set_size", 0))
        held = int(mlx.get_active_memory()) + int(mlx.get_cache_memory())
    except Exception as error:  # noqa: BLE001 - a library that is broken in any way is a sensor that is broken
        return _flagged(main, f"MLX: {error}")
    if limit == 0:
        return main  # an MLX without Metal
    if not (0 < limit < ABSURD and 0 <= held < ABSURD):
        return _flagged(main, f"MLX: {held} of {limit} bytes is absurd")
    total, room = min(main.total, limit), min(main.available, max(0, limit - held))
    source = "MLX working set" if room < main.available else main.source
    return Pool("unified", "unified", total, room, source, main.note)


def _flagged(main: Pool, problem: str) -> Pool:
    note = "; ".join(part for part in (main.note, problem) if part)
    return Pool("unified", "unified", main.total, main.available, main.source, note)


def _nvidia(find: Find) -> Iterator[Pool]:
    try:
        nvml = find("pynvml")
        if nvml is None:
            return
        nvml.nvmlInit()
    except Exception as error:  # noqa: BLE001 - as above
        if type(error).__name__ not in ("NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded"):
            yield Pool("gpu", "gpu", 0, 0, "nvml", f"nvml: {error}")
        return  # without a driver there is no card
    try:
        count = int(nvml.nvmlDeviceGetCount())
        yield from [_card(nvml, number) for number in range(count)]
    except Exception as error:  # noqa: BLE001 - as above
        yield Pool("gpu", "gpu", 0, 0, "nvml", f"nvml: {error}")
    finally:
        nvml.nvmlShutdown()


def _card(nvml: Any, number: int) -> Pool:
    name, source = f"gpu:{number}", "nvml"
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(number))
        total, free = int(memory.total), int(memory.free)
    except Exception as error:  # noqa: BLE001 - as above
        return Pool(name, "gpu", 0, 0, source, f"nvml: {error}")
    if not 0 <= free <= total < ABSURD:
        return Pool(name, "gpu", 0, 0, source, f"nvml: {free} of {total} bytes is absurd")
    return Pool(name, "gpu", total, free, source)
