"""The newest transitions and sequences of a stream of events, held in as much memory as these need, not the events."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field

__all__ = ["SEQUENCE", "Contents", "NewestSteps"]

SEQUENCE = 8
"""Commands of a stored sequence, at most."""

Contents = tuple[int, int | str]
"""(before, after) of a transition; (first event, rows of commands as JSON) of a sequence."""


@dataclass(slots=True)
class _Part:
    event: int
    rows: list[int] = field(default_factory=list)
    kept: bool = True


class NewestSteps:
    """Of the events taken, in the order they ran, the ``most`` transitions and sequences of each kind that are newest.

    A transition is as new as the last time it was taken, a sequence as its first command.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._last: dict[tuple[int, int], None] = {}  # in the order they were taken last
        self._open: dict[int, _Part] = {}
        self._before: dict[int, int] = {}
        self._parts: deque[_Part] = deque()
        self._single = 0

    def take(self, session: int, event: int, row: int) -> None:
        """Take the next event: its session, its number and the row of its command."""
        before = self._before.get(session)
        self._before[session] = row
        if before is not None and before != row:
            self._last.pop((before, row), None)
            self._last[before, row] = None
            if len(self._last) > self._most:
                del self._last[next(iter(self._last))]
        self._extend(session, event, row)

    def _extend(self, session: int, event: int, row: int) -> None:
        part = self._open.get(session)
        if part is None or len(part.rows) == SEQUENCE:
            part = self._open[session] = _Part(event)
            self._parts.append(part)
            self._single += 1
        elif len(part.rows) == 1 and part.kept:
            self._single -= 1
        part.rows.append(row)
        # One command alone is no sequence yet; where it would become one, those after it are newer all the same.
        while len(self._parts) - self._single > self._most:
            oldest = self._parts.popleft()
            oldest.kept = False
            self._single -= len(oldest.rows) == 1

    def transitions(self) -> set[Contents]:
        """Return the pairs (before, after) of rows of commands."""
        return set(self._last)

    def sequences(self) -> set[Contents]:
        """Return (first event, rows of commands as JSON)."""
        return {(part.event, json.dumps(part.rows)) for part in self._parts if len(part.rows) > 1}
