"""What every benchmark shares: costs in wall and CPU seconds, interleaved rounds, spreads, memory peaks.

On a machine that others use as well, a ratio within one round and CPU seconds are worth more than a time.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

__all__ = ["Cost", "Spread", "Stopwatch", "interleave", "peak_rss", "ratios", "run_program", "say"]

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds on the clock, and seconds that processors worked for it, child processes included."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several measurements, the least and the greatest."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


class Stopwatch:
    """Runs from when it is made; child processes count once they were waited for."""

    def __init__(self) -> None:
        self._cpu = _cpu_seconds()
        self._wall = time.perf_counter()

    def cost(self) -> Cost:
        wall = time.perf_counter() - self._wall
        return Cost(wall, _cpu_seconds() - self._cpu)


def _cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def interleave(rounds: int, actions: Mapping[str, Callable[[int], Result]]) -> dict[str, list[Result]]:
    """Run the actions in turn, all of them in each round, and return the results by name."""
    results: dict[str, list[Result]] = {name: [] for name in actions}
    for number in range(rounds):
        for name, action in actions.items():
            say(f"  round {number + 1} of {rounds}: {name}")
            results[name].append(action(number))
    return results


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Return the spread of the ratios within each pair."""
    return Spread.of([above / below for above, below in zip(numerators, denominators, strict=True)])


def peak_rss() -> tuple[int, int]:
    """Return the most memory that this process, and the largest child it waited for, ever had resident."""
    unit = 1 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss also counts what the process was before exec: the one that started it
        line = next(line for line in status.read_text("ascii").splitlines() if line.startswith("VmHWM:"))
        own = int(line.split()[1]) * 1024
    return own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit


def run_program(arguments: Sequence[str], *, cwd: Path, environment: Mapping[str, str]) -> Cost:
    """Run a program to its end, throwing away what it prints, and return what it cost."""
    started = time.perf_counter()
    process = subprocess.Popen(
        arguments, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    complaint = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise RuntimeError(
            f"{' '.join(arguments)} ended with {process.returncode}: {complaint.decode(errors='replace')}"
        )
    return Cost(wall, usage.ru_utime + usage.ru_stime)


def say(text: str) -> None:
    """Tell how far the run is, beside the results."""
    print(text, file=sys.stderr, flush=True)
