"""Where shells with the hook write down what was run, and whether anything waits there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["SPOOLED", "TAKEN", "spool_folder", "spool_waits"]

SPOOLED, TAKEN = ".spool", ".taken"


def spool_folder(store: Path) -> Path:
    """Return where the hooks of shells write for a store."""
    return store / "spool"


def spool_waits(folder: Path) -> bool:
    """Return whether anything lies in a spool; it costs one look at the folder."""
    with contextlib.suppress(OSError):
        return any(name.endswith((SPOOLED, TAKEN)) for name in os.listdir(folder))  # noqa: PTH208 - names are enough
    return False
