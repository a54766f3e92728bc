"""Sequences of steps that come again and again, with other commands in between.

Prefix growth as in PrefixSpan (Pei et al., ICDE 2001), for repetitions within long sessions as well: the support of a
sequence is how often it occurs without overlap, with at most ``gap`` foreign steps between two of its own. What
extends a sequence never occurs more often than it, so growth stops where support ends. Of an end the latest beginning
is kept, which makes counting from the left exact (interval scheduling). The best supported sequences grow first, until
``work`` places have been looked at: what is left then is rarer than what was found.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Frequent", "mine"]

_WORK = 3_000_000
Places = dict[tuple[int, int], int]
"""(sequence, end) -> the latest beginning."""


@dataclass(frozen=True, slots=True)
class Frequent:
    """Steps that recur, and where: (sequence, begin, end), in order and without overlap."""

    steps: tuple[int, ...]
    places: tuple[tuple[int, int, int], ...]

    @property
    def support(self) -> int:
        """How often."""
        return len(self.places)


def mine(
    sequences: Sequence[Sequence[int]], *, support: int, gap: int = 2, longest: int = 8, work: int = _WORK
) -> list[Frequent]:
    """Return the closed frequent sequences of at least two different neighbouring steps.

    Closed: no longer one that contains it is as frequent.
    """
    begin: defaultdict[int, Places] = defaultdict(dict)
    for number, sequence in enumerate(sequences):
        for at, step in enumerate(sequence):
            begin[step][number, at] = at
    waiting: list[tuple[int, tuple[int, ...], Places]] = [
        (-len(places), (step,), places) for step, places in begin.items() if len(places) >= support
    ]
    heapq.heapify(waiting)
    found: list[Frequent] = []
    while waiting and work > 0:
        _, steps, places = heapq.heappop(waiting)
        work -= len(places) * (gap + 1)
        if len(steps) > 1:
            found.append(Frequent(steps, tuple(_apart(places))))
        if len(steps) == longest:
            continue
        for step, longer in _extended(sequences, places, gap, steps[-1]).items():
            count = len(_apart(longer)) if len(longer) >= support else 0
            if count >= support:
                heapq.heappush(waiting, (-count, (*steps, step), longer))
    return _closed(found)


def _extended(sequences: Sequence[Sequence[int]], places: Places, gap: int, last: int) -> dict[int, Places]:
    found: defaultdict[int, Places] = defaultdict(dict)
    for (number, end), start in places.items():
        sequence = sequences[number]
        for at in range(end + 1, min(end + 2 + gap, len(sequence))):
            step = sequence[at]
            if step != last and found[step].get((number, at), -1) < start:
                found[step][number, at] = start
    return found


def _apart(places: Places) -> list[tuple[int, int, int]]:
    """Return as many places as do not overlap."""
    chosen: list[tuple[int, int, int]] = []
    for (number, end), start in sorted(places.items()):
        if not chosen or chosen[-1][0] != number or start > chosen[-1][2]:
            chosen.append((number, start, end))
    return chosen


def _closed(found: list[Frequent]) -> list[Frequent]:
    by_support: defaultdict[int, list[Frequent]] = defaultdict(list)
    for one in found:
        by_support[one.support].append(one)
    return [
        one
        for one in found
        if not any(_contains(other.steps, one.steps) for other in by_support[one.support] if other is not one)
    ]


def _contains(longer: tuple[int, ...], shorter: tuple[int, ...]) -> bool:
    rest = iter(longer)
    return len(longer) > len(shorter) and all(step in rest for step in shorter)
