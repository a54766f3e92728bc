"""How much memory this process can really have now.

No single source tells, so the answer is the smallest of: the machine's ``MemAvailable``, the room of every
control group above this process, and for RLIMIT_AS and RLIMIT_DATA the limit minus what is mapped. Swap is
never room. A source that is missing or absurd is flagged and the next one is asked; when nothing can be
believed the answer is "unknown" with 0 bytes: unknown is never unlimited.

Facts: proc_meminfo(5), proc_pid_statm(5), getrlimit(2). psutil never honours control groups (psutil issue
2100), so it is only the last source on Linux. On macOS it is the first one (``available`` = free + inactive):
believed, not tested there.
"""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from omnimemory.scheduler.cgroups import ABSURD, BAD, ControlGroups, Reading, contents, number

__all__ = ["UNKNOWN", "Available", "Probe", "Reading", "available"]

UNKNOWN = "unknown"
_MEMINFO = re.compile(rb"^(MemTotal|MemFree|MemAvailable):\s*(\S+)", re.MULTILINE)
_ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class Available:
    """Bytes this process can still have, the source that allows least, and every reading.

    ``total`` is the most it could ever have (the machine or the tightest limit), so ``0 <= bytes <= total``.
    ``used`` is its private memory now. ``source`` is ``"unknown"`` when nothing could be believed.
    """

    bytes: int
    source: str
    total: int
    readings: tuple[Reading, ...] = ()
    used: int = 0


@dataclass(frozen=True, slots=True)
class _Own:
    """Bytes of this process: mapped, data (heap and stacks), resident and not shared; or why it is unknown."""

    size: int = 0
    data: int = 0
    private: int = 0
    problem: str = ""


class Probe:
    """Reads the sources; call it for an :class:`Available`. A bad source is flagged, never raised.

    ``root`` is where ``/proc`` and ``/sys`` are looked for; ``getrlimit`` is asked for the process limits.
    Safe to call from several threads, and after a fork.
    """

    def __init__(self, root: Path = _ROOT, *, getrlimit: Callable[[int], tuple[int, int]] = resource.getrlimit) -> None:
        self._root = root
        self._getrlimit = getrlimit
        self._meminfo = root / "proc/meminfo"
        self._statm = root / "proc/self/statm"
        self._groups = ControlGroups(root)
        self._page = os.sysconf("SC_PAGE_SIZE")

    def __call__(self) -> Available:
        """Read every source and return the smallest room."""
        own = self._own()
        memory = (self._machine(), *self._groups.readings())
        readings = (*memory, *self._process_limits(own))
        # A process limit bounds addresses; it does not say that memory exists.
        if all(reading.bytes is None for reading in memory):
            return Available(0, UNKNOWN, 0, readings, own.private)
        figures = [(reading.bytes, reading) for reading in readings if reading.bytes is not None]
        room, tightest = min(figures, key=lambda figure: figure[0])
        total = min(reading.total for _, reading in figures)
        return Available(room, tightest.source, total, readings, own.private)

    def _machine(self) -> Reading:
        try:
            fields = dict(_MEMINFO.findall(contents(self._meminfo)))
            total = number(fields.get(b"MemTotal", b""), ABSURD >> 10) << 10
        except BAD as error:
            return self._psutil(f"meminfo: {error}")
        if total == 0:
            return self._psutil("meminfo: MemTotal is 0")
        notes: list[str] = []
        for name in ("MemAvailable", "MemFree"):
            try:
                room = number(fields.get(name.encode(), b""), total >> 10) << 10
                return Reading(name, room, "; ".join(notes), total)
            except ValueError as error:
                notes.append(f"{name}: {error}")
        return self._psutil("; ".join(notes))

    def _psutil(self, note: str) -> Reading:
        """Ask psutil: the usual way outside Linux, the last one on it."""
        if self._root != _ROOT:
            return Reading("machine", None, note)
        import psutil  # noqa: PLC0415 - 50 ms that Linux does not pay

        try:
            memory = psutil.virtual_memory()
            room, total = int(memory.available), int(memory.total)
        except (*BAD, RuntimeError, psutil.Error) as error:
            return Reading("psutil", None, f"{note}; psutil: {error}")
        if not 0 <= room <= total < ABSURD:
            return Reading("psutil", None, f"{note}; psutil: {room} of {total} bytes is absurd")
        return Reading("psutil", room, note if sys.platform == "linux" else "", total)

    def _own(self) -> _Own:
        try:
            pages = [number(field, ABSURD // self._page) * self._page for field in contents(self._statm).split()]
            size, resident, shared, data = pages[0], pages[1], pages[2], pages[5]
        except (*BAD, IndexError) as error:
            return _Own(private=self._resident(), problem=f"the size of this process is unknown: {error}")
        return _Own(size, data, max(0, resident - shared))

    def _resident(self) -> int:
        if self._root != _ROOT:
            return 0
        import psutil  # noqa: PLC0415 - only where /proc is missing

        try:
            return int(psutil.Process().memory_info().rss)
        except (OSError, psutil.Error):
            return 0

    def _process_limits(self, own: _Own) -> Iterator[Reading]:
        for name, used in (("RLIMIT_AS", own.size), ("RLIMIT_DATA", own.data)):
            limit, _hard = self._getrlimit(getattr(resource, name))
            if 0 <= limit < ABSURD:
                # A limit whose use cannot be read leaves no room that could be promised.
                yield Reading(name, 0 if own.problem else max(0, limit - used), own.problem, limit)


def available(root: Path = _ROOT) -> Available:
    """Read the memory once. Keep a :class:`Probe` to read it often: it remembers where to look."""
    return Probe(root)()
