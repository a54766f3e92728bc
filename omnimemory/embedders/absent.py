"""The place of a model that is not here: a store made with it opens, and only what needs the model fails.

Keywords still find what is stored, and what is added waits for its vectors. Which model it is, and how to get it,
stands in the error.
"""

from __future__ import annotations

from collections.abc import Sequence

from omnimemory.embedders.base import ModelFootprint, Role, Vectors, check_strings, check_texts
from omnimemory.errors import EmbedderError

__all__ = ["AbsentEmbedder"]


class AbsentEmbedder:
    """An embedder that knows its space and has no model; ``reason`` is what its errors say."""

    def __init__(self, name: str, dim: int, fingerprint: str, reason: str) -> None:
        self._name = name
        self._dim = dim
        self._fingerprint = fingerprint
        self._reason = reason

    @property
    def name(self) -> str:
        """Provider and model."""
        return self._name

    @property
    def dim(self) -> int:
        """Components of a vector."""
        return self._dim

    @property
    def max_tokens(self) -> int | None:
        """``None``: nobody knows."""
        return None

    @property
    def fingerprint(self) -> str:
        """The vector space, as the store has it."""
        return self._fingerprint

    @property
    def loaded(self) -> bool:
        """Never."""
        return False

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """Raise :class:`EmbedderError` that says how to get the model."""
        check_texts(texts, role)
        raise EmbedderError(self._reason)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Raise :class:`EmbedderError` that says how to get the model."""
        check_strings(texts)
        raise EmbedderError(self._reason)

    def footprint(self) -> ModelFootprint:
        """Return next to nothing."""
        return ModelFootprint(1, 1, 4 * self._dim)

    def close(self) -> None:
        """Do nothing."""
