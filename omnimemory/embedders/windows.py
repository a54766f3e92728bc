"""Texts to the rows of tokens that an encoder reads, special tokens included; long texts become several rows.

An encoder reads a bounded number of tokens, 256 for the small MiniLM, and says nothing about the rest. So a longer text
is cut into windows of about equal length, each with the special tokens and the prompt, and its vector is the mean of
theirs, weighted by their tokens: nothing is dropped without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from omnimemory.embedders.pieces import PIECE, load_tokenizer, quiet_forks, tokenise
from omnimemory.embedders.word_pieces import WordPieces
from omnimemory.errors import EmbedderError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Row", "WindowTokenizer"]


class Row(NamedTuple):
    """The tokens of one window: which text it is of, its ids, and how many of them are the text's own."""

    text: int
    ids: tuple[int, ...]
    weight: int


@dataclass(frozen=True, slots=True)
class _Frame:
    """The special tokens before and after a text, and the one for what the model does not know."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    unknown: int | None


class WindowTokenizer:
    """A model's tokenizer, and how its windows are made. Safe to use from several threads."""

    def __init__(self, path: Path, max_tokens: int, *, lowercase: bool = False) -> None:
        quiet_forks()
        try:
            self._tokenizer = load_tokenizer(path.read_bytes())
        except Exception as error:
            # The runtime raises plain exceptions for a file that it does not understand.
            raise EmbedderError(f"The tokenizer {path} cannot be read ({error}). Pull the model again.") from error
        self._words = WordPieces.of(self._tokenizer)
        self._frame = _frame(self._tokenizer)
        self._max_tokens = max_tokens
        self._lowercase = lowercase
        self._ahead: dict[str, list[int]] = {}

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return int(self._tokenizer.get_vocab_size())

    @property
    def window(self) -> int:
        """Tokens of a text that fit into one window when there is no prompt."""
        return self._max_tokens - len(self._frame.before) - len(self._frame.after)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, without special ones."""
        return list(map(len, self._ids(texts)))

    def rows(self, texts: Sequence[str], prompt: str) -> tuple[list[Row], list[int]]:
        """Return the rows of all texts, and the positions of the texts in which the model knows no token."""
        ids = self._told([prompt + text for text in texts])
        first = self._prompt_tokens(prompt)
        rows: list[Row] = []
        unknown: list[int] = []
        for position, tokens in enumerate(ids):
            own = tokens[len(first) :]
            if all(token == self._frame.unknown for token in own):
                unknown.append(position)
            else:
                rows += self._windows(position, tuple(first), own)
        return rows, unknown

    def read_ahead(self, texts: Sequence[str], prompt: str) -> None:
        """Tokenise texts of which :meth:`rows` will be asked soon, in place of those that it was told of before."""
        whole = [prompt + text for text in texts if len(text) <= PIECE]
        self._ahead = dict(zip(whole, self._ids(whole), strict=True))

    def _told(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text, without special ones, of which some may have been made before."""
        ahead = self._ahead
        found = [ahead.pop(text, None) for text in texts] if ahead else [None] * len(texts)
        rest = iter(self._ids([text for text, ids in zip(texts, found, strict=True) if ids is None]))
        return [next(rest) if ids is None else ids for ids in found]

    def _prompt_tokens(self, prompt: str) -> list[int]:
        # Without the space at its end, which some tokenizers make part of the first word of the text.
        return self._ids([prompt.rstrip()])[0] if prompt.strip() else []

    def _windows(self, position: int, prompt: tuple[int, ...], own: Sequence[int]) -> list[Row]:
        room = self.window - len(prompt)
        if room < 1:
            raise EmbedderError(
                f"The prompt has {len(prompt)} tokens, and the model reads {self.window}: choose a shorter one."
            )
        frame, rows = self._frame, []
        count = -(-len(own) // room)
        for number in range(count):
            part = tuple(own[number * len(own) // count : (number + 1) * len(own) // count])
            rows.append(Row(position, (*frame.before, *prompt, *part, *frame.after), len(part)))
        return rows

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text, without special ones."""
        texts = [text.lower() for text in texts] if self._lowercase else texts
        by_words = [None] * len(texts) if self._words is None else self._words.ids(texts)
        found = [[] if ids is None else ids for ids in by_words]
        rest = [position for position, ids in enumerate(by_words) if ids is None]
        for number, encoding in tokenise(self._tokenizer, [texts[position] for position in rest]):
            found[rest[number]] += encoding.ids
        return found


def _frame(tokenizer: Tokenizer) -> _Frame:
    """Find the special tokens around a text by looking at one."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a", add_special_tokens=True).ids
    for start in range(len(whole) - len(bare) + 1):
        if bare and whole[start : start + len(bare)] == bare:
            before, after = tuple(whole[:start]), tuple(whole[start + len(bare) :])
            return _Frame(before, after, _unknown(tokenizer))
    raise EmbedderError("The model's tokenizer makes nothing of the letter a: it is not one for texts.")


def _unknown(tokenizer: Tokenizer) -> int | None:
    name = getattr(tokenizer.model, "unk_token", None)
    return tokenizer.token_to_id(name) if isinstance(name, str) else None
