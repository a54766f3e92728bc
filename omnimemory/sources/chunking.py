"""Documents to chunks of a bounded number of tokens, cut where the text itself says so.

Packing sentence after sentence until a chunk is full is what most splitters do, and it is dear in a memory that is
kept up to date: one word more on page one moves every later boundary, and the whole document is embedded anew. Here
the boundaries depend on the text around them, not on what came before: content-defined chunking, known from rsync and
LBFS (Muthitacharoen, Chen and Mazieres, 2001), in the manner of Bjorner, Blass and Gurevich (2010), who cut at local
extremes.

1. The text is cut into units (see :mod:`omnimemory.sources.units`), which are counted in one batch.
2. Each boundary between units has a rank (heading before paragraph before list item before sentence...) and, within
   its rank, a place in a queue that is as good as random: the CRC-32 of the unit that follows. Boundaries are asked in
   that order, and one becomes a cut if it leaves enough on both sides: a heading a quarter of ``size``, any other two
   fifths of what fits, and only where there is still too much for one chunk. So a boundary competes with the few
   around it only, and an edit changes the one or two chunks it is in. For it to reach further, boundary after boundary
   would have to stand later in the queue than the one before, which soon becomes unlikely.
3. What still does not fit is halved at the best place near its middle, and chunks that might be too long once the
   overlap is added are counted as a whole.

The price is fill: a chunk holds two thirds of ``size`` on average, where greedy packing reaches nine tenths. It is our
own and not semchunk's because that one merges greedily and counts tokens in many small calls.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise, repeat
from zlib import crc32

from omnimemory.errors import ConfigError
from omnimemory.records import Chunk, Document, Heading
from omnimemory.sources.units import SENTENCE_END, TokenCounter, Unit, split_units

__all__ = ["TokenCounter", "chunk"]

_GAP = 200  # so many blanks between two units end a chunk, because tokenizers count blanks too
_LINE_END = re.compile(r"\n\s*")
_BLANKS = re.compile(r"\s+")
_DEEPEST = 12  # headings in a path: source code can be nested thousands deep, and every chunk tells its path


def chunk(document: Document, count_tokens: TokenCounter, *, size: int = 256, overlap: int = 32) -> list[Chunk]:
    """Cut a document into chunks of at most ``size`` tokens, in the order of the text.

    ``document.text[start:end]`` is each chunk's text; together the chunks hold every character that is not blank.
    Up to ``overlap`` tokens of a chunk repeat what stands before it, back to the beginning of a sentence, line or word,
    but never of what stands before a heading. ``metadata["heading"]`` is the path of the headings in force where the
    chunk's own text begins, for example ``"Guide > Install"``. ``count_tokens`` counts a batch of texts.
    Pieces of text whose tokens, with one for each blank between them, sum up to seven eighths of ``size`` are taken to
    fit when joined; every chunk above that is counted as it is.

    Raises :class:`~omnimemory.errors.ConfigError` when ``size`` is below 16, or ``overlap`` is negative or not below
    half of ``size``.
    """
    if size < 16:
        raise ConfigError(f"a chunk of {size} tokens is too small; set the chunk size to 16 or more")
    if not 0 <= overlap < size / 2:
        raise ConfigError(f"an overlap of {overlap} tokens does not suit chunks of {size}; set it below half of that")
    units = split_units(document, count_tokens, size - overlap)
    if not units:
        return []
    pieces = _pieces(document.text, units, count_tokens, size=size, overlap=overlap)
    pieces = _fitted(document.text, pieces, count_tokens, size)
    paths = _paths(document.headings, pieces)
    return [
        Chunk(document.text[piece.begin : piece.end], piece.begin, piece.end, {"heading": path} if path else {})
        for piece, path in zip(pieces, paths, strict=True)
    ]


class _Cuts:
    """Where the chunks begin, as numbers of units, while boundaries are asked one by one."""

    def __init__(self, text: str, units: Sequence[Unit]) -> None:
        gaps = [text[unit.end : after.start] for unit, after in pairwise(units)]
        weights = [unit.tokens + (gap.count("\n") or len(gap[:1])) for unit, gap in zip(units, gaps, strict=False)]
        self.before = list(accumulate([*weights, units[-1].tokens], initial=0))
        self.numbers = [0, *(n for n, gap in enumerate(gaps, start=1) if len(gap) > _GAP), len(units)]

    def ask(self, number: int, least: int, most: int) -> None:
        """Cut before a unit if there are ``least`` tokens on both sides, and more than ``most`` in all."""
        place = bisect_left(self.numbers, number)
        here, left, right = self.before[number], self.before[self.numbers[place - 1]], self.before[self.numbers[place]]
        if here - left >= least and right - here >= least and right - left > most and self.numbers[place] != number:
            self.numbers.insert(place, number)

    def halve(self, units: Sequence[Unit], most: int) -> None:
        """Cut near the middle wherever there is still more than ``most``."""
        done, waiting = [0], self.numbers[:0:-1]
        while waiting:
            first, last = done[-1], waiting[-1]
            if self.before[last] - self.before[first] <= most or last - first == 1:
                done.append(waiting.pop())
            else:
                waiting.append(self._middle(units, first, last, most // 4))
        self.numbers = done

    def _middle(self, units: Sequence[Unit], first: int, last: int, reach: int) -> int:
        """Return the boundary of the best rank within ``reach`` of the middle, or the one nearest to it."""
        middle = (self.before[first] + self.before[last]) / 2
        off = {number: abs(self.before[number] - middle) for number in range(first + 1, last)}
        near = [number for number in off if off[number] <= reach]
        return min(near or off, key=lambda number: (units[number].rank if near else 0, off[number]))


def _chosen(text: str, units: Sequence[Unit], size: int, most: int) -> _Cuts:
    """Return the cuts that leave at most ``most`` tokens in a chunk's own text."""
    cuts = _Cuts(text, units)
    hashes = [crc32(text[unit.start : unit.end].encode("utf-8", "replace")) for unit in units]
    heads = [n for n in range(1, len(units)) if units[n].level]
    for number in sorted(heads, key=lambda n: (units[n].level, hashes[n])):
        cuts.ask(number, size // 4, 0)
    if cuts.before[-1] > most:
        for number in sorted(range(1, len(units)), key=lambda n: (units[n].rank, hashes[n])):
            cuts.ask(number, most * 2 // 5, most)
        cuts.halve(units, most)
    return cuts


@dataclass(frozen=True, slots=True)
class _Piece:
    """A chunk in the making: its own text is ``start`` to ``end``, its overlap begins at ``begin``.

    ``lowest`` is how far back the overlap may reach. A doubtful piece may have too many tokens.
    """

    begin: int
    start: int
    end: int
    lowest: int
    doubtful: bool = True


def _pieces(text: str, units: Sequence[Unit], count_tokens: TokenCounter, *, size: int, overlap: int) -> list[_Piece]:
    """Return the pieces between the cuts, with their overlap."""
    cuts = _chosen(text, units, size, size - overlap)
    overlaps = _overlaps(text, units, cuts.numbers[:-1], count_tokens, overlap)
    pieces = []
    for (first, last), (begin, lowest, shared) in zip(pairwise(cuts.numbers), overlaps, strict=True):
        start, end = units[first].start, units[last - 1].end
        blanks = end - start - sum(unit.end - unit.start for unit in units[first:last])
        tokens = shared + cuts.before[last] - cuts.before[first] + blanks
        pieces.append(_Piece(begin, start, end, lowest, doubtful=tokens * 8 > size * 7))
    return pieces


def _overlaps(
    text: str, units: Sequence[Unit], numbers: Sequence[int], count_tokens: TokenCounter, overlap: int
) -> list[tuple[int, int, int]]:
    """Return for each unit that begins a piece where its overlap begins, how far back it may, and its tokens."""
    starts = [units[number].start for number in numbers]
    limits = [units[0].start, *(unit.start for unit in units if unit.level)]
    lowest = [limits[bisect_right(limits, start) - 1] for start in starts]
    room = [int(overlap / _density(units, number, overlap)) for number in numbers]
    begins = list(map(_reached, repeat(text), lowest, starts, room))
    tokens = [0] * len(numbers)
    waiting = [n for n, start in enumerate(starts) if begins[n] < start]
    while waiting:
        counts = count_tokens([text[begins[n] : starts[n]] for n in waiting])
        too_long = []
        for n, counted in zip(waiting, counts, strict=True):
            tokens[n] = counted if counted <= overlap else 0
            if counted > overlap:
                room[n] = max(0, min((starts[n] - begins[n]) * overlap // counted, room[n] - 1) * 9 // 10)
                begins[n] = _reached(text, lowest[n], starts[n], room[n])
                too_long.append(n)
        waiting = [n for n in too_long if begins[n] < starts[n]]
    return list(zip(begins, lowest, tokens, strict=True))


def _density(units: Sequence[Unit], number: int, overlap: int) -> float:
    """Return the tokens per character of the text just before a unit: of no more, lest a distant edit be felt here."""
    tokens = characters = 1
    while number and tokens <= overlap:
        number -= 1
        tokens += units[number].tokens
        characters += units[number].end - units[number].start
    return tokens / characters


def _reached(text: str, lowest: int, start: int, characters: int) -> int:
    """Return where an overlap of at most ``characters`` before ``start`` begins: at a sentence, line or word."""
    if start - lowest <= characters:
        return lowest
    first = start - characters
    last = first + len(text[first:start].rstrip())
    for pattern, least in ((SENTENCE_END, characters // 4), (_LINE_END, characters // 4), (_BLANKS, 1)):
        match = pattern.search(text, first, last)
        if match and last - match.end() >= max(least, 1):
            return match.end()
    return first if first < last else start


def _fitted(text: str, pieces: list[_Piece], count_tokens: TokenCounter, size: int) -> list[_Piece]:
    """Count the doubtful pieces as they are, and shorten or halve them until none is too long."""
    while True:
        doubtful = [n for n, piece in enumerate(pieces) if piece.doubtful]
        if not doubtful:
            return pieces
        counts = count_tokens([text[pieces[n].begin : pieces[n].end] for n in doubtful])
        tokens = dict(zip(doubtful, counts, strict=True))
        pieces = [part for n, piece in enumerate(pieces) for part in _fitting(text, piece, tokens.get(n, 0), size)]


def _fitting(text: str, piece: _Piece, tokens: int, size: int) -> list[_Piece]:
    """Return a piece of ``tokens``: as it is if it fits, else with less overlap or, if it has none, in two halves."""
    begin, start, end = piece.begin, piece.start, piece.end
    if tokens <= size or end - begin == 1:
        return [replace(piece, doubtful=False)]
    if begin < start:
        excess = (end - begin) * (1 - size / tokens)
        reached = _reached(text, piece.lowest, start, max(0, int(start - begin - excess * 1.1)))
        return [replace(piece, begin=reached if reached > begin else start)]
    blank = _BLANKS.search(text, (start + end) // 2, end)
    place = blank.start() if blank else (start + end) // 2
    first = start + len(text[start:place].rstrip())
    second = end - len(text[place:end].lstrip())
    return [_Piece(start, start, first, start), _Piece(second, second, end, start)]


def _paths(headings: Sequence[Heading], pieces: Sequence[_Piece]) -> list[str]:
    """Return the titles of the headings in force where each piece's own text begins."""
    paths = []
    stack: list[Heading] = []
    position = 0
    for piece in pieces:
        while position < len(headings) and headings[position].start <= piece.start:
            while stack and stack[-1].level >= headings[position].level:
                stack.pop()
            stack.append(headings[position])
            position += 1
        paths.append(" > ".join(heading.title for heading in stack[-_DEEPEST:]))
    return paths
