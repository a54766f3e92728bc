"""Words that were generated rather than thought of: ``x9Kd2mZq`` is, ``MyProject2`` and ``v1alpha1`` are not.

Three things are counted between neighbours: how usual the pair of letters is (``letters.table``, counted in manual
pages), how often capitals, small letters and digits follow each other, and how long the word is. The limits were set
so that of random words of letters and digits 19 in 20 are recognised, from 8 characters on, and of the words of
manual pages about one in a hundred, most of which are examples of keys.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path

from omnimemory.sources.redaction.values import looks_random

__all__ = ["PIECE", "holds_generated", "is_generated", "looks_generated"]

PIECE = re.compile(r"[A-Za-z0-9]{8,}")
CHANGE = re.compile(r"[a-z](?=[A-Z0-9])|[A-Z](?=[0-9])|[0-9](?=[A-Za-z])|[A-Z](?=[a-z])")
HEXADECIMAL = re.compile(r"(?:0x)?(?:[0-9a-f]+|[0-9A-F]+)")
INTERFACE = re.compile(r"(?:en|wl|ww)[opsx]\w{1,13}")  # `enp0s31f6`: a network card
MOST = 64  # characters of a word that are looked at
LEAST_RATIO, STEP = -4.5, 0.75  # what the digits of the table stand for, see tools/redaction_table/letters.py
SAME_KIND_OF_DIGIT, CAPITAL, OTHER_CHANGE = 0.9, -1.0, -1.3
DAMPED, WORD_START = 0.6, -0.3  # a capital before a small letter is how a word starts


def looks_generated(word: str) -> bool:
    """Say whether a word, or a piece of it between separators, reads like a generated secret."""
    return looks_random(word) or holds_generated(word)


def holds_generated(text: str) -> bool:
    """Say whether any piece of a text between separators reads like a generated secret; hexadecimal ones do not."""
    return any(map(is_generated, PIECE.findall(text)))


@lru_cache(maxsize=64)  # one word is asked about several times, and a long line repeats few
def is_generated(piece: str) -> bool:
    """Say whether at least 8 letters and digits look drawn at random; hexadecimal numbers are names as often."""
    if piece.isdigit() or (piece.isalpha() and (piece.islower() or piece[1:].islower() or piece.isupper())):
        return False
    piece = piece[:MOST]
    length = len(piece)
    if (
        len(CHANGE.findall(piece)) < (2 if length < 10 else 3)
        or HEXADECIMAL.fullmatch(piece)
        or INTERFACE.fullmatch(piece)
    ):
        return False
    usual = usual_pairs()
    ratio = sum([usual[pair] for pair in pairwise(piece)]) / (length - 1)
    return ratio <= max(-0.65, -0.2 - 0.035 * (length - 8))


@cache
def usual_pairs() -> dict[tuple[str, str], float]:
    """Return how usual it is that a character follows another one, for all letters and digits."""
    rows = Path(__file__).with_name("letters.table").read_text(encoding="utf-8").split("\n\n", 1)[1].split()
    letters = "abcdefghijklmnopqrstuvwxyz"
    ratios = {
        (first, second): LEAST_RATIO + STEP * int(digit)
        for first, row in zip(letters, rows, strict=True)
        for second, digit in zip(letters, row, strict=True)
    }
    characters = letters + letters.upper() + "0123456789"
    return {(first, second): usual_pair(first, second, ratios) for first in characters for second in characters}


def usual_pair(first: str, second: str, ratios: dict[tuple[str, str], float]) -> float:
    """Return the log-likelihood ratio of a pair: above 0 it is more usual in words than by chance."""
    if first.isdigit() and second.isdigit():
        return SAME_KIND_OF_DIGIT
    if first.isdigit() or second.isdigit():
        return OTHER_CHANGE
    if first.islower() and second.isupper():
        return CAPITAL
    ratio = ratios[first.lower(), second.lower()]
    return DAMPED * ratio + WORD_START if first.isupper() and second.islower() else ratio
