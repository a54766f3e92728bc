"""Which lines of a rewritten history are new, when there are no timestamps to tell.

Shells trim their histories at the front and append at the end; people delete or edit lines in the middle;
another session may overwrite the end; ``logrotate`` starts anew. Commands repeat all the time, so a line can only be
known by its place among others. The rule, in linear time:

1. **A split point** cuts both lists where they run in step for the last time: the end of the longest run of ``seen``
   that is also the end of ``stored`` (all behind it was appended), else the end of the longest run they
   share anywhere, else the beginning. A run convinces when it is at least 8 entries long with 4 different commands, or
   when it is all of ``stored``. Where several runs end ``stored``, the last one that is at least half as long as
   the longest is taken, so that a repeating tail is not cut too early.
2. **On each side** a command is new only as far as it occurs more often than in the same side of ``stored`` (multiset
   difference; the last occurrences are the new ones). Behind a run that ends ``stored`` that side is empty:
   everything is new.
3. **Never twice.** The longest beginning of ``seen`` that is ``stored`` with some entries deleted could be nothing
   but old lines, so it is taken to be. Hence trimming, deleting and appending, in any mixture, never make an old
   line new.

Where the lists leave room for doubt a line is taken for known: a lost repetition of a common command
costs little, doubled events would bend every count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

__all__ = ["align"]

CONVINCING_LENGTH = 8
CONVINCING_VARIETY = 4


def align(stored: Sequence[int], seen: Sequence[int]) -> list[bool]:
    """Return for each command id in ``seen`` (a file's, in order) whether it is new against ``stored``."""
    stored, seen = list(stored), list(seen)
    known = _subsequence_length(stored, seen)
    if known == len(seen):
        return [False] * len(seen)
    stored_cut, seen_cut = _split(stored, seen)
    new = [*_excess(stored[:stored_cut], seen[:seen_cut]), *_excess(stored[stored_cut:], seen[seen_cut:])]
    new[:known] = [False] * known
    return new


def _subsequence_length(stored: list[int], seen: list[int]) -> int:
    """Return the length of the longest beginning of ``seen`` that is a subsequence of ``stored``."""
    rest = iter(stored)
    for length, item in enumerate(seen):
        if item not in rest:  # this moves the iterator behind the match
            return length
    return len(seen)


def _excess(stored: list[int], seen: list[int]) -> list[bool]:
    """Mark what ``seen`` holds more often than ``stored``, the last occurrences first."""
    surplus = Counter(seen)
    surplus.subtract(Counter(stored))
    new = [False] * len(seen)
    for index in range(len(seen) - 1, -1, -1):
        if surplus[seen[index]] > 0:
            surplus[seen[index]] -= 1
            new[index] = True
    return new


def _split(stored: list[int], seen: list[int]) -> tuple[int, int]:
    """Return where to cut ``stored`` and ``seen``: what stands before the cuts belongs together."""
    lengths = _tail_lengths(stored, seen)
    longest = max(lengths, default=0)
    shortest = _convincing_lengths(seen)
    for index in range(len(seen) - 1, -1, -1):
        length = lengths[index]
        if 0 < length == len(stored) or (2 * length >= longest and length >= shortest[index]):
            return len(stored), index + 1
    return _longest_shared_run(stored, seen, shortest)


def _convincing_lengths(seen: list[int]) -> list[int]:
    """Return for each index of ``seen`` how long a run that ends there must be to convince."""
    lengths = []
    latest: dict[int, int] = {}  # the last few different commands and where they stood last, oldest first
    for index, item in enumerate(seen):
        latest.pop(item, None)
        latest[item] = index
        if len(latest) > CONVINCING_VARIETY:
            del latest[next(iter(latest))]
        varied = index - next(iter(latest.values())) + 1 if len(latest) == CONVINCING_VARIETY else len(seen) + 1
        lengths.append(max(CONVINCING_LENGTH, varied))
    return lengths


def _tail_lengths(stored: list[int], seen: list[int]) -> list[int]:
    """Return for each index of ``seen`` how many entries that end there are also the end of ``stored``.

    This is the Z-function (Gusfield 1997, section 1.3) of both lists reversed.
    """
    text: list[int | None] = [*reversed(stored), None, *reversed(seen)]
    lengths = [0] * len(text)
    left = right = 0
    for index in range(1, len(text)):
        length = min(right - index, lengths[index - left]) if index < right else 0
        while index + length < len(text) and text[length] == text[index + length]:
            length += 1
        lengths[index] = length
        if index + length > right:
            left, right = index, index + length
    return lengths[: -len(seen) - 1 : -1] if seen else []


def _longest_shared_run(stored: list[int], seen: list[int], shortest: list[int]) -> tuple[int, int]:
    """Return where the longest run that both lists share ends in either; (0, 0) when none convinces.

    Runs are followed from the first place in ``stored`` where their first 8 entries stand, and ``seen`` is never read
    twice, as in Ziv and Lempel's parsing: linear, at the price of sometimes seeing a long run as two.
    """
    places: dict[tuple[int, ...], int] = {}
    for start, window in enumerate(_windows(stored)):
        places.setdefault(window, start)
    windows = list(_windows(seen))
    best = (0, 0, 0)
    start = 0
    while start < len(windows):
        place = places.get(windows[start])
        if place is None:
            start += 1
            continue
        length = _common_length(stored, place, seen, start)
        if length >= best[0] and length >= shortest[start + length - 1]:
            best = (length, place + length, start + length)
        start += length
    return best[1:]


def _windows(items: list[int]) -> list[tuple[int, ...]]:
    return list(zip(*(items[offset:] for offset in range(CONVINCING_LENGTH)), strict=False))


def _common_length(stored: list[int], place: int, seen: list[int], start: int) -> int:
    most = min(len(stored) - place, len(seen) - start)
    length = 0
    while length < most and stored[place + length] == seen[start + length]:
        length += 1
    return length
