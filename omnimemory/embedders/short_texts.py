"""Byte-pair encoding of one short text without the tokenizer runtime.

Loading ``tokenizers`` and building its model takes about as long as all the rest of a cold search. A question
is a few words: reading the vocabulary of the same file and merging its pairs here gives the same tokens (a test
compares the two) in a fraction of that. The algorithm is that of SentencePiece's BPE (Kudo & Richardson
2018): characters, unknown ones as bytes, then the neighbouring pair of lowest rank is merged until none is left.

The file's 61,249 merges need not be read: they are the pairs of tokens whose concatenation is a token, in the order of
the tokens' numbers. Only runs of spaces are out of order; texts that hold one are left to the runtime. No other token
has a space but at its beginning, so each word is encoded by itself, and those of earlier questions are known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

__all__ = ["LONGEST", "ShortTextTokenizer"]

LONGEST = 200
"""Characters up to which it is quick: merging here takes time with the square of the length."""

_SPACE = "\u2581"
_LEFT = ("<unk>", "<s>", "</s>", _SPACE * 2)
_NONE = 1 << 30
_MOST_WORDS = 4096


class ShortTextTokenizer:
    """The vocabulary and merges of a ``tokenizer.json`` with a BPE model that falls back to bytes."""

    def __init__(self, data: bytes) -> None:
        start = data.index(b'"vocab"') + len(b'"vocab"')
        vocabulary = data[start : data.index(b'"merges"', start)].decode()
        self._vocabulary: Mapping[str, int] = json.loads(vocabulary.strip().strip(":,"))
        self._words: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int] | None:
        """Return the token ids of a text, or ``None`` when it is left to the runtime.

        That is when it is too long, holds the name of a special token, half a surrogate pair or a run of spaces, or
        when two pairs compete for the same token.
        """
        spaced = (_SPACE + text).replace(" ", _SPACE)
        if len(text) > LONGEST or not _is_well_formed(text) or any(name in spaced for name in _LEFT):
            return None
        found: list[int] = []
        for word in text.split(" ") if text else ():
            ids = self._words.get(word)
            if ids is None:
                ids = self._word(_SPACE + word)
                if ids is None:
                    return None
                if len(self._words) >= _MOST_WORDS:
                    self._words.clear()
                self._words[word] = ids
            found += ids
        return found

    def _word(self, spaced: str) -> list[int] | None:
        symbols: list[str] = []
        for char in spaced:
            if char in self._vocabulary:
                symbols.append(char)
            else:
                symbols.extend(f"<0x{byte:02X}>" for byte in char.encode())
        return [self._vocabulary[symbol] for symbol in symbols] if self._merge(symbols) else None

    def _merge(self, symbols: list[str]) -> bool:
        ranks = [self._rank(symbols, place) for place in range(len(symbols) - 1)]
        while ranks and (lowest := min(ranks)) < _NONE:
            place = ranks.index(lowest)
            if ranks.count(lowest) > 1 and self._competing(symbols, ranks, lowest):
                return False
            symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
            del ranks[place]
            for changed in (place - 1, place):
                if 0 <= changed < len(ranks):
                    ranks[changed] = self._rank(symbols, changed)
        return True

    def _rank(self, symbols: list[str], place: int) -> int:
        return self._vocabulary.get(symbols[place] + symbols[place + 1], _NONE)

    @staticmethod
    def _competing(symbols: list[str], ranks: list[int], lowest: int) -> bool:
        """Return whether different pairs make the same token, such as ``-`` and ``--``: only the file ranks those."""
        return len({symbols[place] for place, rank in enumerate(ranks) if rank == lowest}) > 1


def _is_well_formed(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)
