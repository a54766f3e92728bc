"""Texts to tokens with the ``tokenizers`` runtime: in pieces, so that a text of any length takes bounded memory.

Merging tokens over one very long text takes time and memory out of proportion, and the runtime's records of its tokens
are large. So texts are tokenised in pieces of at most 8,192 characters, cut at a space (else at a line end, else
anywhere), and a bounded number of characters at a time. Tokenizers mark the start of a text as if a space stood there,
or split at spaces anyway, so a cut at a space changes no token.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

__all__ = ["PIECE", "ROUND", "encode", "load_tokenizer", "quiet_forks", "tokenise", "well_formed"]

PIECE = 8_192
"""Characters tokenised as one."""

ROUND = 250_000
"""Characters handed to the tokenizer in one call."""


def load_tokenizer(data: bytes) -> Tokenizer:
    """Make a tokenizer of the bytes of its file. It cuts nothing, pads nothing and keeps no texts."""
    from tokenizers import Tokenizer  # noqa: PLC0415 - heavy, and a single question may need none

    tokenizer = Tokenizer.from_buffer(data)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if hasattr(tokenizer.model, "_resize_cache"):
        # It would keep the tokens of ten thousand whole texts (30 MB), hardly ever tokenised again.
        tokenizer.model._resize_cache(0)  # noqa: SLF001 - there is no public way
    return tokenizer


def tokenise(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[tuple[int, Encoding]]:
    """Yield (position of the text, tokens of one of its pieces), in order, without special tokens."""
    pieces = [(position, piece) for position, text in enumerate(texts) for piece in _pieces(text)]
    start = 0
    while start < len(pieces):
        stop, characters = start, 0
        while stop < len(pieces) and characters < ROUND:
            characters += len(pieces[stop][1])
            stop += 1
        for (position, _), encoding in zip(
            pieces[start:stop], encode(tokenizer, [piece for _, piece in pieces[start:stop]]), strict=True
        ):
            yield position, encoding
        start = stop


def encode(tokenizer: Tokenizer, pieces: list[str]) -> list[Encoding]:
    """Return the tokens of each piece, without special tokens."""
    try:
        return tokenizer.encode_batch_fast(pieces, add_special_tokens=False)
    except TypeError:  # a lone surrogate cannot become UTF-8, which the tokenizer wants
        return tokenizer.encode_batch_fast([well_formed(piece) for piece in pieces], add_special_tokens=False)


def _pieces(text: str) -> list[str]:
    """Cut a text into pieces of at most :data:`PIECE` characters, at a space where there is one."""
    pieces: list[str] = []
    start = 0
    while len(text) - start > PIECE:
        stop = text.rfind(" ", start + 1, start + PIECE + 1)
        if stop < 0:
            stop = text.rfind("\n", start + 1, start + PIECE + 1)
        if stop < 0:
            stop = start + PIECE
        pieces.append(text[start:stop])
        start = stop + (text[stop] == " ")
    pieces.append(text[start:])
    return pieces


def well_formed(text: str) -> str:
    """Join surrogate pairs and put U+FFFD in the place of lone surrogates."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@cache
def quiet_forks() -> None:
    """Switch the tokenizer to one thread in forked children only.

    Its thread pool does not survive a fork. Left alone it notices, and some releases say so on stderr
    at every fork; told in time by its environment variable, all of them do the right thing silently.
    """
    variable = "TOKENIZERS_PARALLELISM"
    set_by_us: list[bool] = []

    def before() -> None:
        if variable not in os.environ:
            os.environ[variable] = "false"
            set_by_us.append(True)

    def after_in_parent() -> None:
        if set_by_us:
            set_by_us.clear()
            os.environ.pop(variable, None)

    os.register_at_fork(before=before, after_in_parent=after_in_parent)
