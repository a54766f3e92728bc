"""Snippets: of a long text, the part that shows why it was found."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

__all__ = ["focus"]

_LENGTH = 240
_LEAD = 40  # characters of a snippet before what was looked for
_MOST_WORDS, _LONGEST_WORD = 64, 64  # a question of a whole page is a question still, but no snippet shows more
_WORD = re.compile(r"\w{3,}|[\u2e80-\U000fffff]{2}")


def focus(query: str) -> Callable[[str], str]:
    """Return a function that cuts from a text the part with the most of the query's words."""
    words = _sought(query)

    def cut(text: str) -> str:
        if len(text) <= _LENGTH:
            return text
        place = _densest(_places(text, words))
        start = 0
        if place + _LENGTH // 4 >= _LENGTH:
            start = place - _LEAD
            # At the beginning of a word, if one begins here: a long one must not push the place out of the snippet.
            start = text.rfind(" ", start - _LEAD, start) + 1 or start
        end = min(len(text), start + _LENGTH)
        return ("… " if start else "") + text[start:end].strip() + (" …" if end < len(text) else "")

    return cut


def _places(text: str, words: Sequence[str]) -> list[int]:
    """Return where any of the (lowercase) words begins in a text, in order; a place counts once."""
    # No regular expression: making one takes longer than all of its use, which is for one question.
    plain = _lowered(text)
    found: set[int] = set()
    for word in words:
        place = plain.find(word)
        while place >= 0:
            found.add(place)
            place = plain.find(word, place + len(word))
    return sorted(found)


def _lowered(text: str) -> str:
    """Return a text in lowercase, each character at its place: some become two."""
    plain = text.lower()
    return plain if len(plain) == len(text) else "".join(sign.lower()[0] for sign in text)


def _sought(query: str) -> list[str]:
    """Return what a snippet should show, in lowercase: the query's words, pairs of signs where there are no spaces."""
    words: list[str] = []
    for word in _WORD.findall(query)[:_MOST_WORDS]:
        spaced = word[0] < "\u2e80"
        words += [word[:_LONGEST_WORD]] if spaced else map("".join, pairwise(word[:_LONGEST_WORD]))
    return [_lowered(word) for word in words]


def _densest(places: list[int]) -> int:
    """Return the place from which a snippet holds the most of the (sorted) places; 0 when there are none."""
    best, most, last = 0, 0, 0
    for first, place in enumerate(places):
        while last < len(places) and places[last] < place + _LENGTH:
            last += 1
        if last - first > most:
            best, most = place, last - first
    return best
