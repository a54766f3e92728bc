"""How usual each pair of letters is in ordinary words: what tells ``xqWz8Kd2`` from ``MyProject2``."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from string import ascii_lowercase

__all__ = ["letter_pairs"]

WORD = re.compile(r"[A-Za-z]+")
MOST = 3  # a word of a page counts no more often than that: `option` must not decide about all pairs
LEAST, STEP = -4.5, 0.75  # a digit d of the table stands for a log-likelihood ratio of LEAST + d * STEP


def letter_pairs(texts: Iterable[str]) -> Iterator[str]:
    """Yield a line for each first letter with a digit for each second one: how much more likely than by chance."""
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word.lower() for word in WORD.findall(text) if len(word) > 1)
    pairs: Counter[str] = Counter()
    for word, count in words.items():
        for first, second in pairwise(word):
            pairs[first + second] += min(count, MOST)
    total = pairs.total() + len(ascii_lowercase) ** 2
    for first in ascii_lowercase:
        ratios = (math.log((pairs[first + second] + 1) / total * 26 * 26) for second in ascii_lowercase)
        yield "".join(str(max(0, min(9, round((ratio - LEAST) / STEP)))) for ratio in ratios)
