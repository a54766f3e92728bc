"""What this process itself holds, in the one unit of everything that is learned, and the peak of it while work runs.

The unit is private anonymous memory: resident pages that belong to this process alone and to no file (heap, arenas,
stacks), plus what Metal holds for MLX, which is not among them. Files that are mapped, weights among them, do not
count: the kernel takes such pages back when it needs them. It is read as "resident" minus "shared" of
``/proc/self/statm``, in 7 us; ``smaps_rollup`` and psutil's "uss" take 510 and 550 us here and say the same.

A peak is sampled by a thread that looks every two milliseconds while a model is loaded, and less often the longer the
work takes, down to twenty times a second. Each look interrupts a thread that computes and asks for Python's lock: it
took 160 us beside an ingest, and looking 500 times a second was 3 % of the processors' time. Against the kernel's own
mark (VmHWM) on 4 to 256 texts with MiniLM it missed at most 1.5 MiB of 20. That mark is exact and resetting it costs
5 us, but it belongs to the user as well: ``time -v`` and every monitor would show less than the truth. So here it is
only read: when it rose in the meantime it is the peak. The arena of ONNX Runtime takes its memory from ``mmap`` and
tells nothing to ``mallinfo``.

Facts: proc_pid_statm(5), proc_pid_status(5). Kernels from 6.2 to 6.15 may say up to 128 KiB a core too little.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from omnimemory.scheduler.cgroups import ABSURD, BAD, contents, number

__all__ = ["Held", "PeakSampler", "held"]

_PAGE = os.sysconf("SC_PAGE_SIZE")
_MARK = re.compile(rb"^VmHWM:\s*(\d+) kB", re.MULTILINE)
_TICK, _LONGEST_TICK = 0.002, 0.05
_TICK_SHARE = 0.05  # of the time that the work took so far
_PLATFORM: str = sys.platform
_STATM, _STATUS = Path("/proc/self/statm"), Path("/proc/self/status")


class Held(NamedTuple):
    """Bytes that this process holds: ``private`` ones, and ``shared`` ones of files or of several processes."""

    private: int
    shared: int


def held() -> Held:
    """Return what this process holds now; zeros where that cannot be read."""
    try:
        fields = contents(_STATM).split()
        resident, shared = (number(field, ABSURD // _PAGE) * _PAGE for field in fields[1:3])
    except BAD:
        return Held(_resident() + _of_metal(), 0)
    return Held(max(0, resident - shared) + _of_metal(), shared)


def _resident() -> int:
    """Ask psutil: macOS has no ``/proc``, and "uss" takes too long there."""
    import psutil  # noqa: PLC0415 - only where /proc is missing

    try:
        return int(psutil.Process().memory_info().rss)
    except (OSError, psutil.Error):
        return 0


def _of_metal() -> int:
    mlx = sys.modules.get("mlx.core")
    if mlx is None or _PLATFORM != "darwin":
        return 0  # on a processor MLX takes ordinary memory, which was counted already
    return int(mlx.get_active_memory()) + int(mlx.get_cache_memory())


def _peak_of_metal() -> int:
    """Return the most MLX ever used with Metal, without the buffers that it keeps for later, or 0.

    As the kernel's mark it belongs to the user as well, and is never set back here.
    """
    mlx = sys.modules.get("mlx.core")
    return 0 if mlx is None or _PLATFORM != "darwin" else int(mlx.get_peak_memory())


def _mark() -> int:
    """Return the most this process was ever resident, or 0."""
    try:
        match = _MARK.search(contents(_STATUS))
    except OSError:
        return 0
    return 0 if match is None else int(match[1]) << 10


class PeakSampler:
    """Watches what the process holds while a ``with`` block runs.

    ``ready`` is asked at each look; what was held when it first said yes, and the peak until then, are kept apart in
    ``at_ready`` and ``peak_until_ready`` (``None`` if it never did), and ``peak`` is that of the rest.
    """

    def __init__(self, ready: Callable[[], bool] | None = None) -> None:
        self._ready = ready
        self._end = threading.Event()
        self.before = self.after = self.peak = 0
        self.at_ready: int | None = None
        self.peak_until_ready = 0

    def __enter__(self) -> Self:
        self._old_mark, self._old_metal = _mark(), _peak_of_metal()
        now = held()
        self.before = self.peak = now.private
        self._most_shared = now.shared
        self._thread = threading.Thread(target=self._look, name="omnimemory-peak", daemon=True)
        with suppress(RuntimeError):  # no thread can be had now; what is held at the end is seen all the same
            self._thread.start()
        return self

    def _look(self) -> None:
        begun = time.monotonic()
        while not self._end.wait(self._pause(time.monotonic() - begun)):
            self._note()

    def _pause(self, seconds: float) -> float:
        return _TICK if self._ready is not None else min(max(_TICK, seconds * _TICK_SHARE), _LONGEST_TICK)

    def _note(self) -> None:
        now = held()
        self._most_shared = max(self._most_shared, now.shared)
        self.peak = max(self.peak, now.private)
        if self._ready is not None and self._ready():
            self._ready = None
            self.at_ready = held().private  # read again: it may have become ready since
            self.peak_until_ready, self.peak = max(self.peak, self.at_ready), self.at_ready

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._thread.ident is not None:
            self._thread.join()
        waiting = self._ready is not None
        self._note()
        if waiting:  # it became ready after the last look, or not at all: the parts cannot be told from each other
            self.at_ready = None
        self.after = held().private
        mark = _mark()
        if mark > self._old_mark and self.peak_until_ready == 0:
            self.peak = max(self.peak, mark - self._most_shared)
        metal = _peak_of_metal()
        if metal > self._old_metal and self.peak_until_ready == 0:
            self.peak = max(self.peak, self.after - _of_metal() + metal)
