"""How much of a model has arrived, told while some client of its own is busy fetching it.

Neither pip nor the hub's client says so in a way that every version has, but both write what they get into a folder.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from omnimemory.records import Progress

__all__ = ["arriving", "written"]

_SECONDS = 0.5
_MIB = 1 << 20


@contextlib.contextmanager
def arriving(folder: Path, expected: int, progress: Callable[[Progress], None]) -> Iterator[None]:
    """Tell every half second, from a thread, how many MiB of ``expected`` bytes are in a folder, until this ends."""
    done = threading.Event()

    def tell() -> None:
        total, most = max(1, expected // _MIB), 0
        while not done.wait(_SECONDS):
            most = max(most, min(written(folder) // _MIB, total))  # files are moved, and half ones thrown away
            progress(Progress("download", most, total, "MiB"))

    thread = threading.Thread(target=tell, name="omnimemory-arriving", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def written(folder: Path) -> int:
    """Return the bytes of all files below a folder; those that go meanwhile do not count."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 - a Path for each costs more
    return total
