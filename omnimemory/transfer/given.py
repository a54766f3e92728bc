"""Vectors that came along with their texts: used instead of the model, after a look at whether they are its own.

They never go into the cache, which all stores of a user share: a file from elsewhere has no say there.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np

from omnimemory.embedders.base import Role, Vectors
from omnimemory.embedding_batches import Embedded, Meanwhile
from omnimemory.embedding_service import EmbeddingService

__all__ = ["GivenVectors"]

_SAME = 0.999


class GivenVectors(EmbeddingService):
    """An embedding service that knows some vectors beforehand; everything else is embedded by ``service``.

    One vector of each batch is compared with what the model says. When they differ, ``refused`` is set, and from
    then on every text is embedded: a fingerprint only claims whose vectors they are. ``reused`` counts those used.
    """

    def __init__(self, service: EmbeddingService) -> None:
        super().__init__(
            service.embedder, cache=service.cache, scheduler=service.scheduler, batch_size=service.batch_size
        )
        self._given: dict[str, Vectors] = {}
        self._random = random.Random()
        self.reused = 0
        self.refused = False

    def give(self, text: str, vector: Vectors | None) -> None:
        """Keep the vector (dim,) of a text until the text is asked for."""
        if vector is not None and not self.refused:
            self._given[text] = vector

    def forget(self) -> None:
        """Drop what was given: its batch is done."""
        self._given.clear()

    def resolve(
        self,
        texts: Sequence[str],
        role: Role,
        *,
        stored: bool = False,
        shown: Mapping[str, str] | None = None,
        meanwhile: Meanwhile | None = None,
    ) -> Embedded:
        """See :meth:`EmbeddingService.resolve`."""
        ready = [index for index, text in enumerate(texts) if text in self._given]
        if ready and not self._is_own(texts[self._random.choice(ready)], role, shown):
            self.refused = True
        if self.refused or not ready:
            return super().resolve(texts, role, stored=stored, shown=shown, meanwhile=meanwhile)
        missing = [index for index, text in enumerate(texts) if text not in self._given]
        asked = [texts[index] for index in missing]
        rest = super().resolve(asked, role, stored=stored, shown=shown, meanwhile=meanwhile)
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        vectors[missing] = rest.vectors
        vectors[ready] = np.stack([self._given[texts[index]] for index in ready])
        self.reused += len(ready)
        return Embedded(
            vectors,
            {missing[index]: why for index, why in rest.unembeddable.items()},
            embedded=rest.embedded,
            cache_hits=rest.cache_hits,
            left=frozenset(missing[index] for index in rest.left),
            error=rest.error,
        )

    def _is_own(self, text: str, role: Role, shown: Mapping[str, str] | None) -> bool:
        """Return whether the model gives this text the vector that came along; true when it cannot be asked."""
        found = super().resolve([text], role, shown=shown)
        if found.error is not None:
            return True
        return not found.unembeddable and float(found.vectors[0] @ self._given[text]) >= _SAME
