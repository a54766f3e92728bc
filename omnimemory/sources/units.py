"""The smallest pieces that a document is cut into, with their tokens counted.

A unit is a paragraph, a list item, or what begins at a heading. One that is too long is taken apart by the next finer
means: sentences (in code: lines), lines, phrases, words, and at last so many characters. Nothing is looked at twice by
the same means, so a megabyte without a space takes no longer than one of prose.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple
from zlib import crc32

from omnimemory.records import Document
from omnimemory.sources.formats.markup import fences

__all__ = ["SENTENCE_END", "TokenCounter", "Unit", "split_units"]

TokenCounter = Callable[[Sequence[str]], list[int]]
"""Counts the tokens of a batch of texts."""

SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]{0,3}\s+|[。！？｡．][”’」』）]{0,3}\s*")  # noqa: RUF001 - CJK full stops
"""The end of a sentence with the blanks behind it; Chinese and Japanese need none."""

_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
_ITEM = re.compile(r"\n[ \t]*(?=(?:[-*+•]|\d{1,3}[.)])[ \t])")
_LINE = re.compile(r"[\n\r]\s*")
_PHRASE = re.compile(r"[,:)\]>|][\"']?\s+|[;{}]\s*|[，、；：]\s*")  # noqa: RUF001 - CJK punctuation
_WORD = re.compile(r"\s+")
_BODY = re.compile(r"\S")
_HEADING_RANK, _PARAGRAPH_RANK, _ITEM_RANK, _FINER_RANK = range(4)
_LONGEST_HEADING = 500
_LONGEST_TOKEN = 16  # characters: what is longer than so many for each token is not worth counting in one piece


class Unit(NamedTuple):
    """The characters ``start`` to ``end``, without the blanks around them.

    ``rank`` tells how good a place its beginning is to cut at, 0 is the best; ``level`` is that of the heading it
    begins with, or 0. ``tokens`` is negative until they are counted.
    """

    start: int
    end: int
    rank: int
    level: int = 0
    tokens: int = -1


def split_units(document: Document, count_tokens: TokenCounter, limit: int) -> list[Unit]:
    """Return the units of a document in order, each of at most ``limit`` tokens (or a single character)."""
    text = document.text
    units = _counted(text, _coarse(document, limit), count_tokens, limit)
    by_line = document.format in {"code", "notebook"}
    steps = (_LINE, SENTENCE_END) if by_line else (SENTENCE_END, _LINE)
    for rank, pattern in enumerate((*steps, _PHRASE, _WORD), start=_FINER_RANK):
        if all(unit.tokens <= limit for unit in units):
            return units
        parts = (part for unit in units for part in _split(text, unit, pattern, rank, limit))
        units = _counted(text, parts, count_tokens, limit)
    while any(unit.tokens > limit and unit.end - unit.start > 1 for unit in units):
        units = _counted(text, (part for unit in units for part in _sliced(unit, limit)), count_tokens, limit)
    return units


def _coarse(document: Document, limit: int) -> Iterator[Unit]:
    """Yield what headings, blank lines and list items separate, not counted yet."""
    text = document.text
    first = _BODY.search(text)
    if first is None:
        return
    code = [edge for fence in fences(text) for edge in fence] if document.format == "markdown" else []
    ranks = {first.start(): _PARAGRAPH_RANK}
    for pattern, rank in ((_PARAGRAPH, _PARAGRAPH_RANK), (_ITEM, _ITEM_RANK)):
        for match in pattern.finditer(text, first.start()) if rank != _ITEM_RANK or document.format != "code" else ():
            within = bisect_left(code, match.end()) % 2  # inside a fence: not a place to cut at if it can be helped
            ranks.setdefault(match.end(), _FINER_RANK if within else rank)
    levels = {
        body.start(): heading.level for heading in document.headings if (body := _BODY.search(text, heading.start))
    }
    ranks.update(dict.fromkeys(levels, _HEADING_RANK))
    ranks.pop(len(text), None)
    edges = [*sorted(ranks), len(text)]
    if document.format != "code":
        edges = _with_headings(text, edges, levels)
    for start, after in pairwise(_thinned(text, edges, limit, levels)):
        yield Unit(start, start + len(text[start:after].rstrip()), ranks[start], levels.get(start, 0))


def _with_headings(text: str, edges: Sequence[int], levels: Container[int]) -> list[int]:
    """Leave out the edges between a heading (with its underline) and the text it stands over."""
    kept = [edges[0]]
    for before, edge in pairwise(edges):
        is_over = before in levels and edge not in levels and edge < len(text) and edge - before <= _LONGEST_HEADING
        if not is_over or any(map(str.isalnum, text[before:edge].partition("\n")[2])):
            kept.append(edge)
    return kept


def _thinned(text: str, edges: Sequence[int], limit: int, always: Container[int] = ()) -> Sequence[int]:
    """Leave out most edges between tiny parts, each of which would cost a count; hashes choose, so edits stay local."""
    tiny = max(1, limit // 8)
    kept = [edges[0]]
    for before, edge, after in zip(edges, edges[1:], edges[2:], strict=False):
        apart = edge - kept[-1]
        wanted = edge - before >= tiny or after - edge >= tiny or apart >= 4 * tiny or edge in always
        if wanted or (apart * 2 >= tiny and crc32(text[edge:after].encode("utf-8", "replace")) % 4 == 0):
            kept.append(edge)
    return [*kept, edges[-1]]


def _counted(text: str, units: Iterable[Unit], count_tokens: TokenCounter, limit: int) -> list[Unit]:
    """Return the units with their tokens; those far too long get their length instead."""
    counted = list(units)
    longest = _LONGEST_TOKEN * limit
    wanted = [n for n, unit in enumerate(counted) if unit.tokens < 0 and unit.end - unit.start <= longest]
    counts = count_tokens([text[counted[n].start : counted[n].end] for n in wanted]) if wanted else []
    for number, tokens in zip(wanted, counts, strict=True):
        counted[number] = counted[number]._replace(tokens=tokens)
    return [unit if unit.tokens >= 0 else unit._replace(tokens=unit.end - unit.start) for unit in counted]


def _split(text: str, unit: Unit, pattern: re.Pattern[str], rank: int, limit: int) -> Iterator[Unit]:
    """Yield the parts of a unit that is too long, or the unit itself."""
    ends = [m.end() for m in pattern.finditer(text, unit.start, unit.end)] if unit.tokens > limit else []
    edges = _thinned(text, [unit.start, *(end for end in ends if end < unit.end), unit.end], limit)
    if len(edges) == 2:
        yield unit
        return
    for start, after in pairwise(edges):
        end = start + len(text[start:after].rstrip())
        own = start == unit.start
        yield Unit(start, end, unit.rank if own else rank, unit.level if own else 0)


def _sliced(unit: Unit, limit: int) -> Iterator[Unit]:
    """Yield slices of about half of ``limit`` if the unit is too long, or the unit itself."""
    length = unit.end - unit.start
    if unit.tokens <= limit or length == 1:
        yield unit
        return
    step = max(1, length * limit // (2 * unit.tokens))
    for start in range(unit.start, unit.end, step):
        own = start == unit.start
        rank = unit.rank if own else _FINER_RANK + 4
        yield Unit(start, min(start + step, unit.end), rank, unit.level if own else 0)
