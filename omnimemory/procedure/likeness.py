"""What followed contexts like this one, by their vectors: asked where the last command is new, and counts know nothing.

A context is the sequence of its last two commands, the newest weighing most. Of the hundred stored contexts nearest to
it those with a cosine of more than .5 count, the closer and the newer the more (a half-life of 300 steps), and the more
they weigh together, the more is believed them, at most .5 (README says what that brings, and what it brings with
shuffled vectors). Where few steps are known nothing is asked: there it was measured to do harm.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omnimemory.procedure.vectors import sequence_vector

__all__ = ["LikeContexts", "Likely", "VectorsOf"]

VectorsOf = Callable[[Sequence[str]], NDArray[np.float32]]
"""Gives the vectors (n, dim) of commands; zeros for one that has none."""

LENGTH, DECAY = 2, 0.5
KEPT = 3000
"""Newest contexts that are compared: what is older counts less than a thousandth."""
LEAST_STEPS = 200
"""Steps from which on it is asked at all."""
_NEAREST, _COSINE, _POWER = 100, 0.5, 2
_HALF_LIFE = 300.0
_EVIDENCE, _MOST = 1.0, 0.5


@dataclass(frozen=True, slots=True)
class Likely:
    """A command that followed contexts like this one: its share of them (0 to 1), and what the nearest ended with."""

    share: float
    after: str


class LikeContexts:
    """The newest contexts, and which command (its number) followed each."""

    def __init__(self, stored: VectorsOf, asked: VectorsOf | None = None) -> None:
        self._stored = stored
        self._asked = asked or stored
        self._contexts: deque[tuple[tuple[str, ...], int]] = deque(maxlen=KEPT)
        self._learned = 0
        self._made = 0
        self._vectors: NDArray[np.float32] | None = None

    def learn(self, context: Sequence[str], command: int) -> None:
        """Learn what followed a context, oldest command first; its vector is made when it is first asked for."""
        self._contexts.append((tuple(context[-LENGTH:]), command))
        self._learned += 1

    def following(self, context: Sequence[str]) -> tuple[dict[int, Likely], float]:
        """Return what followed contexts like this one, and how much that is to be believed (0 to 1)."""
        if self._learned < LEAST_STEPS or not context:
            return {}, 0.0
        wanted = list(context[-LENGTH:])
        query = sequence_vector(self._asked(wanted), DECAY)
        vectors = self._up_to_date(len(query))
        cosines = np.einsum("ij,j->i", vectors, query)  # no OpenBLAS: waking its threads takes longer than the product
        places = np.argpartition(-cosines, min(_NEAREST, len(cosines)) - 1)[:_NEAREST]
        places = places[np.lexsort((-places, -cosines[places]))]
        ages = len(vectors) - places
        weights = np.maximum(cosines[places] - _COSINE, 0.0) ** _POWER * 2.0 ** (-ages / _HALF_LIFE)
        whole = float(weights.sum())
        if whole <= 0:
            return {}, 0.0
        return self._told(places.tolist(), (weights / whole).tolist()), _MOST * whole / (whole + _EVIDENCE)

    def _told(self, places: list[int], shares: list[float]) -> dict[int, Likely]:
        found: dict[int, Likely] = {}
        for place, share in zip(places, shares, strict=True):  # the nearest first
            context, command = self._contexts[place]
            before = found.get(command)
            if share > 0 and before is None:
                found[command] = Likely(share, context[-1])
            elif before is not None:
                found[command] = Likely(before.share + share, before.after)
        return found

    def _up_to_date(self, dim: int) -> NDArray[np.float32]:
        """Return the vectors of all contexts, in their order; an empty one is like nothing."""
        new = list(self._contexts)[-min(self._learned - self._made, len(self._contexts)) :]
        if self._vectors is None:
            self._vectors = np.zeros((0, dim), dtype=np.float32)
        if self._learned > self._made:
            made = self._vectors_of([context for context, _ in new], dim)
            self._vectors = np.concatenate([self._vectors, made])[-len(self._contexts) :]
            self._made = self._learned
        return self._vectors

    def _vectors_of(self, contexts: Sequence[Sequence[str]], dim: int) -> NDArray[np.float32]:
        texts = list(dict.fromkeys(text for context in contexts for text in context))
        found = dict(zip(texts, self._stored(texts), strict=True)) if texts else {}
        made = np.zeros((len(contexts), dim), dtype=np.float32)
        for place, context in enumerate(contexts):
            if context:
                made[place] = sequence_vector(np.stack([found[text] for text in context]), DECAY)
        return made
