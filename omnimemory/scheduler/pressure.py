"""How hard memory is pressed, beside how much is left: swapping, stalls, limits of control groups that were hit.

A machine can show free memory and still stand still, because pages go out and come back. Four kinds of signs are read:
pages written to swap, the share of time tasks wait for memory (PSI), how often a control group of version 2 was held
back at ``memory.high``, hit ``memory.max`` or lost a process, and the level that macOS tells by itself. Most are
counters, so two readings are compared: :func:`between`. :func:`level` turns what was found into one word.

A sign that cannot be read is left out and noted. Without any sign the share of memory that is left decides alone.

Facts: Linux ``accounting/psi`` and ``admin-guide/cgroup-v2`` (memory.events), proc_vmstat(5). The thresholds are
judgement, not measurements: 5 % and 12 % of room left are where reclaim starts and stops; a tenth of the time spent
waiting is what a user feels. macOS (``kern.memorystatus_vm_pressure_level``: 1, 2, 4) is believed, not tested.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from omnimemory.scheduler.cgroups import ABSURD, BAD, ControlGroups, contents, number

__all__ = ["LEVELS", "Counters", "Level", "Pressure", "PressureGauge", "PressureProbe", "Signs", "between", "level"]

Level = Literal["ok", "elevated", "high", "critical"]
LEVELS: tuple[Level, ...] = ("ok", "elevated", "high", "critical")

_MIB = 1 << 20
_ROOT = Path("/")
_SWAPPED = re.compile(rb"^pswpout (\S+)", re.MULTILINE)
_STALL = re.compile(rb"^(some|full) avg10=(\d{1,3}\.\d{1,4}) ", re.MULTILINE)
_HELD = 0.7
"""A level is left only when its sign has fallen below this part of what raised it."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What the sources say at one time (seconds of a monotonic clock); ``None`` where a source is missing.

    ``swapped_out`` (bytes), ``throttled``, ``limit_hits`` and ``killed`` only ever grow; ``some`` and ``full`` are
    percent of the last ten seconds that some or all tasks waited for memory; ``told`` is macOS's own level.
    """

    time: float
    swapped_out: int | None = None
    some: float | None = None
    full: float | None = None
    throttled: int | None = None
    limit_hits: int | None = None
    killed: int | None = None
    told: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Signs:
    """What happened between two readings. ``left`` is the share of memory that is available, 0 to 1.

    ``swap_rate`` is bytes a second; ``throttled``, ``limit_hits`` and ``killed`` are how often it happened.
    """

    left: float = 1.0
    swap_rate: float = 0.0
    some: float = 0.0
    full: float = 0.0
    throttled: int = 0
    limit_hits: int = 0
    killed: int = 0
    told: int = 0


def between(earlier: Counters, later: Counters, left: float = 1.0) -> Signs:
    """Return what happened from one reading to a later one; a counter that went back or is missing tells nothing.

    ``left`` is the share of memory that is available now; one outside 0 to 1 counts as 0: unknown is never unlimited.
    """
    seconds = max(later.time - earlier.time, 0.001)
    return Signs(
        left=left if 0 <= left <= 1 else 0.0,
        swap_rate=_growth(earlier.swapped_out, later.swapped_out) / seconds,
        some=later.some or 0.0,
        full=later.full or 0.0,
        throttled=_growth(earlier.throttled, later.throttled),
        limit_hits=_growth(earlier.limit_hits, later.limit_hits),
        killed=_growth(earlier.killed, later.killed),
        told=later.told or 0,
    )


def level(previous: Level, signs: Signs) -> Level:
    """Return the level of pressure. It rises at once, and falls only when its sign has clearly fallen."""
    risen = _worst(signs, 1.0)
    if risen >= LEVELS.index(previous):
        return LEVELS[risen]
    return LEVELS[min(LEVELS.index(previous), _worst(signs, _HELD))]


def _worst(signs: Signs, part: float) -> int:
    """Return the highest level that any sign reaches, with thresholds at this part of their height."""
    return max(
        _reached(signs.some, (10, 25, 60), part),
        _reached(signs.full, (1, 5, 20), part),
        _reached(signs.swap_rate, (1 * _MIB, 16 * _MIB, 64 * _MIB), part),
        _reached(1 - signs.left, (0.88, 0.95, 0.98), 1 - 0.05 * (part < 1)),
        1 if signs.throttled else 0,
        2 if signs.limit_hits else 0,
        3 if signs.killed else 0,
        {2: 2, 4: 3}.get(signs.told, 0),
    )


def _reached(value: float, thresholds: tuple[float, float, float], part: float) -> int:
    return sum(1 for threshold in thresholds if value >= threshold * part)


def _growth(earlier: int | None, later: int | None) -> int:
    return max(0, later - earlier) if earlier is not None and later is not None else 0


class PressureProbe:
    """Reads the sources; call it for :class:`Counters`. A bad source is noted, never raised.

    ``root`` is where ``/proc`` and ``/sys`` are looked for; ``told`` asks the system for a level of its own.
    """

    def __init__(self, root: Path = _ROOT, *, told: Callable[[], int | None] | None = None) -> None:
        self._root = root
        self._groups = ControlGroups(root)
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._told = told or (_macos_level if sys.platform == "darwin" else _nothing)

    def __call__(self) -> Counters:
        """Read every source once."""
        notes: list[str] = []
        some, full = self._stalls(notes)
        throttled, limit_hits, killed = self._events(notes)
        return Counters(
            time=time.monotonic(),
            swapped_out=self._swapped_out(notes),
            some=some,
            full=full,
            throttled=throttled,
            limit_hits=limit_hits,
            killed=killed,
            told=self._told(),
            notes=tuple(notes),
        )

    def _swapped_out(self, notes: list[str]) -> int | None:
        try:
            match = _SWAPPED.search(contents(self._root / "proc/vmstat"))
            return None if match is None else number(match[1], ABSURD // self._page) * self._page
        except FileNotFoundError:
            return None  # not Linux
        except BAD as error:
            notes.append(f"vmstat: {error}")
            return None

    def _stalls(self, notes: list[str]) -> tuple[float | None, float | None]:
        """Return the larger of what the machine and the own control group waited, in percent."""
        found: dict[bytes, float] = {}
        own = [folder / "memory.pressure" for folder in self._groups.folders("cgroup2")[:1]]
        for path in (self._root / "proc/pressure/memory", *own):
            try:
                raw = contents(path)
            except OSError as error:
                if not isinstance(error, FileNotFoundError):  # a kernel without PSI has no such file
                    notes.append(f"{path.name}: {error}")
                continue
            for kind, percent in _STALL.findall(raw):
                if float(percent) <= 100:
                    found[kind] = max(found.get(kind, 0.0), float(percent))
                else:
                    notes.append(f"{path}: {percent.decode()} % of the time is absurd")
        return found.get(b"some"), found.get(b"full")

    def _events(self, notes: list[str]) -> tuple[int | None, int | None, int | None]:
        """Return how often any group above this process was throttled, hit its limit, or lost a process to it."""
        totals: dict[bytes, int] = {}
        for name, value in self._event_lines(notes):
            totals[name] = totals.get(name, 0) + value
        return totals.get(b"high"), totals.get(b"max"), totals.get(b"oom_kill")

    def _event_lines(self, notes: list[str]) -> Iterator[tuple[bytes, int]]:
        for folder in self._groups.folders("cgroup2"):
            try:
                for line in contents(folder / "memory.events").splitlines():
                    name, _, value = line.partition(b" ")
                    yield name, number(value, ABSURD)
            except FileNotFoundError:
                continue
            except BAD as error:
                notes.append(f"memory.events: {error}")


@dataclass(frozen=True, slots=True)
class Pressure:
    """The level, what it was found from, and what was wrong with the sources."""

    level: Level
    signs: Signs
    notes: tuple[str, ...] = ()


class PressureGauge:
    """Remembers the last reading and level; call it with the share of memory that is left. Safe for several threads."""

    def __init__(self, probe: Callable[[], Counters] | None = None) -> None:
        self._probe = probe or PressureProbe()
        self._lock = threading.Lock()
        self._last: Counters | None = None
        self._level: Level = "ok"

    def __call__(self, left: float) -> Pressure:
        """Read the sources and return the pressure since the last call; the first one sees what is left and stalls."""
        with self._lock:
            now = self._probe()
            signs = between(self._last or now, now, left)
            self._last, self._level = now, level(self._level, signs)
            return Pressure(self._level, signs, now.notes)


def _nothing() -> int | None:
    return None


def _macos_level() -> int | None:
    """Return what ``sysctl kern.memorystatus_vm_pressure_level`` says, or ``None``."""
    import ctypes  # noqa: PLC0415 - only macOS needs it

    value, size = ctypes.c_int(0), ctypes.c_size_t(4)
    try:
        ask = ctypes.CDLL(None).sysctlbyname
        failed = ask(b"kern.memorystatus_vm_pressure_level", ctypes.byref(value), ctypes.byref(size), None, 0)
    except (OSError, AttributeError):
        return None
    return None if failed else value.value
