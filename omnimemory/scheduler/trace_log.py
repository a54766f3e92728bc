"""The last requests of one scheduler: remembered, and written to the file of decisions as they are decided and end."""

from __future__ import annotations

import itertools
import os
from collections import Counter, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from omnimemory.errors import ConfigError
from omnimemory.scheduler.decision import Decision
from omnimemory.scheduler.traces import End, Trace

if TYPE_CHECKING:
    from omnimemory.scheduler.journal import Journal

__all__ = ["TraceLog"]


class TraceLog:
    """Keeps the last ``keep`` requests; all are written to the ``journal`` (``None``: to no file).

    Callers hold a lock, but for :meth:`explain`.
    """

    def __init__(self, keep: int, journal: Journal | None) -> None:
        self._keep = keep
        self._journal = journal
        self.begin_again()

    def begin_again(self) -> None:
        """Remember nothing, as in a forked child, whose requests have names of their own."""
        self._name = os.urandom(4).hex()
        self._numbers = itertools.count(1)
        self._traces: deque[Trace] = deque(maxlen=self._keep)
        self._counts: dict[str, int] = {}
        self.close()

    @property
    def problem(self) -> str:
        """Why the file is not written; empty if nothing is wrong."""
        return "" if self._journal is None else self._journal.problem

    def new(self) -> Trace:
        """Return a request that nothing was decided about yet."""
        return Trace(f"{self._name}-{next(self._numbers)}", os.getpid())

    def decided(self, decision: Decision, trace: Trace) -> None:
        """Note a decision about a request."""
        if not trace.steps:
            self._traces.append(trace)
        trace.steps.append(decision)
        if self._journal is not None:
            self._journal.decided(decision)

    def ended(self, trace: Trace, end: End) -> None:
        """Note how a request ended."""
        trace.end = end
        if self._journal is not None:
            self._journal.ended(trace.id, end)

    def counted(self, counts: Mapping[str, int]) -> None:
        """Write by how much these counts have grown since this was last called."""
        if counts == self._counts:
            return
        grown = Counter(counts)
        grown.subtract(self._counts)
        self._counts = dict(counts)
        if self._journal is not None:
            self._journal.counted({name: count for name, count in grown.items() if count > 0})

    def all(self) -> list[Trace]:
        """Return the requests that are remembered, oldest first."""
        return list(self._traces)

    def explain(self, name: str) -> str:
        """Say in sentences what happened to a request of this process, or of any that has written to the journal."""
        from omnimemory.scheduler.explanation import explain  # noqa: PLC0415 - only who asks needs it

        recorded = [] if self._journal is None else self._journal.traces()
        for trace in (*self.all(), *recorded):
            if trace.id == name:
                return explain(trace)
        raise ConfigError(f"There is no decision {name!r:.80}: `omnimemory schedule log` shows those that are kept.")

    def close(self) -> None:
        """Close the file; a later request opens it again."""
        if self._journal is not None:
            self._journal.close()
