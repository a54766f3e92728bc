"""How long a text is to a model whose tokenizer is on a server, and how to cut one that is too long for it.

The count is an estimate: letters in runs of five, every digit and sign by itself, two for each character of a script
without spaces. Against the tokenizers of two models (WordPiece of BERT, byte-pair encoding of Llama 2) on windows of
2,000 characters of Python source, documentation and HTML the true number was .5 to 1.45 times as large, .8 to .96 in
the median. So what must not be exceeded is kept :data:`MARGIN` below the limit; a server that counts more says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from omnimemory.forks import ForkLock

__all__ = ["MARGIN", "LongTexts", "estimate_tokens", "halves", "windows"]

MARGIN = 1.4
"""How many true tokens an estimated one may be; the most that was seen in ordinary text was 1.45."""

_PIECE = re.compile(r"[A-Z]?[a-z]{1,40}|[A-Z]{1,40}|\n|[^\sA-Za-z]")
_LEAST_HALF = 16


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has; 0 for an empty one."""
    return sum(cost for _, cost in _pieces(text))


def windows(text: str, most: int) -> list[str]:
    """Cut a text, preferably at spaces, into pieces of at most ``most`` estimated tokens that join to the whole.

    ``most`` is at least 16, so that no piece holds more than that.
    """
    if 2 * len(text) <= most:
        return [text]
    cuts, used, since, start, space = [0], 0, 0, 0, 0
    for place, cost in _pieces(text):
        if place and text[place - 1].isspace():
            space, since = place, used
        if used + cost > most:
            # Back to the last space, unless that would leave a window half empty.
            cut, kept = (space, since) if space > start and since * 2 >= most else (place, used)
            cuts.append(cut)
            start, used, since = cut, used - kept, 0
        used += cost
    return [text[begin:end] for begin, end in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def halves(text: str) -> list[str]:
    """Cut a text near its middle, at a space if there is one; one that is too short to be cut comes back whole."""
    if len(text) < 2 * _LEAST_HALF:
        return [text]
    middle = len(text) // 2
    before, after = text.rfind(" ", _LEAST_HALF, middle), text.find(" ", middle, len(text) - _LEAST_HALF)
    spaces = [place for place in (before, after) if place >= 0]
    cut = min(spaces, key=lambda place: abs(place - middle)) + 1 if spaces else middle
    return [text[:cut], text[cut:]]


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Yield (where it begins, estimated tokens) of each piece."""
    for match in _PIECE.finditer(text):
        piece = match[0]
        yield match.start(), -(-len(piece) // 5) if piece < "\x80" else 1 + (piece >= "\u2e80")


class LongTexts:
    """How many texts a model read in several windows, until somebody takes the count. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = ForkLock()
        self._count = 0

    def note(self, windows: Sequence[int]) -> None:
        """Count what was read in several windows; ``windows`` tells for each which text it is of, in order."""
        found = len({text for before, text in pairwise(windows) if before == text})
        if found:
            with self._lock:
                self._count += found

    def take(self) -> int:
        """Return how many there were since this was last asked."""
        if not self._count:
            return 0
        with self._lock:
            count, self._count = self._count, 0
        return count
