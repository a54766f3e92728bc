"""What the scheduler needs to know of a model to load and to unload it, wherever it is held."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import NamedTuple

from omnimemory.scheduler.own_memory import held

__all__ = ["Loadable", "Unloaded", "trim"]


class Unloaded(NamedTuple):
    """A model that was unloaded and the bytes that came back; ``reason`` is why: asked, room, idle or pressure."""

    model: str
    freed_bytes: int
    reason: str


class Loadable(NamedTuple):
    """A model by its name. ``need`` returns the bytes that loading takes and how many measurements say so.

    ``unload`` returns the bytes that came back and is sure that the model is gone, or raises. ``is_loaded`` is asked
    often and must be quick. ``footprint`` is an estimate of what it holds. Models of a server are ``served``;
    ``foreign`` ones were loaded by others. ``pools`` are the kinds of memory it can be in. ``copies``
    tells how many are loaded, where there may be several.
    """

    name: str
    is_loaded: Callable[[], bool]
    load: Callable[[], object]
    unload: Callable[[], int]
    need: Callable[[], tuple[int, int]]
    footprint: int = 0
    served: bool = False
    foreign: bool = False
    pools: tuple[str, ...] = ("ram",)
    copies: Callable[[], int] | None = None


def trim() -> int:
    """Give back what nobody uses: garbage, caches of MLX, free memory of the C library. Returns the bytes freed."""
    before = held().private
    gc.collect()
    mlx = sys.modules.get("mlx.core")
    if mlx is not None:
        mlx.clear_cache()
    if sys.platform == "linux":
        _malloc_trim()
    return max(0, before - held().private)


def _malloc_trim() -> None:
    """Have glibc return free pages (malloc_trim(3)); another C library has no such call."""
    import ctypes  # noqa: PLC0415 - a search needs none of it

    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return
