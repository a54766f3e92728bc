"""The file of decisions: what was decided by all processes of a user, and what became of it.

A decision is written when it is made and its end when it ends, so what a killed process was doing is there as well.
What is kept is bounded (``line_file.py``). A file that cannot be written is said once and done without.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from omnimemory.scheduler.decision import Decision
from omnimemory.scheduler.line_file import LineFile
from omnimemory.scheduler.traces import (
    End,
    Trace,
    counts_of,
    line_of_counts,
    line_of_decision,
    line_of_end,
    traces_of,
)

__all__ = ["Journal", "read_counts", "read_journal"]

_NAME = "decisions"


class Journal:
    """Writes to the file in ``folder``, of which at most about ``limit`` bytes are kept. Callers hold a lock."""

    def __init__(self, folder: Path, *, limit: int = 4 << 20) -> None:
        self._file = LineFile(folder, _NAME, limit=limit)

    @property
    def problem(self) -> str:
        """Why decisions are not written; empty if nothing is wrong."""
        return self._file.problem

    def decided(self, decision: Decision) -> None:
        """Write a decision."""
        self._file.write(line_of_decision(decision, os.getpid()))

    def ended(self, name: str, end: End) -> None:
        """Write how a request ended."""
        self._file.write(line_of_end(name, end))

    def counted(self, counts: Mapping[str, int]) -> None:
        """Write what happened beside requests since the last time."""
        self._file.write(line_of_counts(counts))

    def traces(self) -> list[Trace]:
        """Return the requests in the file, oldest first."""
        return traces_of(self._file.lines())

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        self._file.close()


def read_counts(folder: Path, *, tail: int = 64 << 20) -> Counter[str]:
    """Return how often what happened beside requests in all processes: models that went, leases of the dead."""
    return counts_of(LineFile(folder, _NAME, limit=0).lines(tail))


def read_journal(folder: Path, *, tail: int = 64 << 20) -> list[Trace]:
    """Return the requests that all processes recorded in a folder, oldest first; nothing is made.

    Of each of the two files the last ``tail`` bytes are read.
    """
    return traces_of(LineFile(folder, _NAME, limit=0).lines(tail))
