"""Text in, vectors out: the cache is asked first, then the scheduler, then the embedder.

No batch reaches the embedder without a lease. A text that was embedded before, in any store, is never
embedded again; equal texts in one call are embedded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from omnimemory.embedders.base import Embedder, Role, UnembeddableTextError, Vectors, check_vectors
from omnimemory.errors import EmbedderError, MemoryBudgetError
from omnimemory.scheduler.footprint import Request, index_bytes
from omnimemory.scheduler.scheduler import Scheduler
from omnimemory.storage.cache import EmbeddingCache

__all__ = ["Embedded", "EmbeddingService"]


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of n texts, (n, dim); rows named in ``unembeddable`` (index -> reason) hold zeros.

    So do those in ``left``: the model was not asked for them, or gave up, because of ``error``.
    """

    vectors: Vectors
    unembeddable: dict[int, str] = field(default_factory=dict)
    embedded: int = 0
    cache_hits: int = 0
    left: frozenset[int] = frozenset()
    error: EmbedderError | MemoryBudgetError | None = None


class EmbeddingService:
    """One embedder behind a cache and a scheduler; safe for several threads.

    ``cache`` may be ``None``: every text is embedded then. ``batch_size`` is the most texts the embedder
    gets at once; the scheduler may allow fewer.
    """

    def __init__(
        self, embedder: Embedder, *, cache: EmbeddingCache | None, scheduler: Scheduler, batch_size: int = 512
    ) -> None:
        self.embedder = embedder
        self.cache = cache
        self.scheduler = scheduler
        self.batch_size = batch_size

    @property
    def dim(self) -> int:
        """Components of a vector."""
        return self.embedder.dim

    def embed_text(self, text: str, role: Role = "document") -> Vectors:
        """Return the vector (dim,) of one text. Raises :class:`EmbedderError`."""
        vector: Vectors = self.embed_batch([text], role)[0]
        return vector

    def embed_batch(self, texts: Sequence[str], role: Role = "document") -> Vectors:
        """Return the vectors (n, dim) of texts, in order.

        Raises :class:`EmbedderError` (naming the texts that have no vector, when it is that) and
        :class:`MemoryBudgetError` when there is no memory for a single text.
        """
        if isinstance(texts, str):
            raise EmbedderError("got one str where a list of texts is expected: pass [text], or use embed_text(text)")
        found = self.resolve(texts, role)
        if found.error is not None:
            raise found.error
        if found.unembeddable:
            reasons = "; ".join(f"text {index}: {why}" for index, why in sorted(found.unembeddable.items())[:3])
            raise UnembeddableTextError(
                f"{len(found.unembeddable)} texts have no vector ({reasons})", [*found.unembeddable]
            )
        return found.vectors

    async def aembed_text(self, text: str, role: Role = "document") -> Vectors:
        """As :meth:`embed_text`, in a thread, so that the event loop goes on."""
        import asyncio  # noqa: PLC0415 - 50 ms that only asynchronous callers need, and they have it

        return await asyncio.to_thread(self.embed_text, text, role)

    async def aembed_batch(self, texts: Sequence[str], role: Role = "document") -> Vectors:
        """As :meth:`embed_batch`, in a thread, so that the event loop goes on."""
        import asyncio  # noqa: PLC0415 - as above

        return await asyncio.to_thread(self.embed_batch, texts, role)

    def resolve(self, texts: Sequence[str], role: Role, *, stored: bool = False) -> Embedded:
        """Return vectors for all texts that have one, and why the others have none; raises nothing for the model.

        ``stored`` says that the vectors will go into the index, whose growth is then part of what the
        scheduler is asked for.
        """
        first: dict[str, int] = {}
        for text in texts:
            first.setdefault(text, len(first))
        unique = list(first)
        vectors = np.zeros((len(unique), self.dim), dtype=np.float32)
        unembeddable = {index: "it is blank" for index, text in enumerate(unique) if not text or text.isspace()}
        known = np.zeros(len(unique), dtype=np.bool_)
        if self.cache is not None and unique:
            cached, known = self.cache.get_many(self.embedder.fingerprint, role, self.dim, unique)
            vectors[known] = cached[known]
        missing = [i for i in np.flatnonzero(~known).tolist() if i not in unembeddable]
        left, error = self._compute(unique, missing, role, vectors, unembeddable, stored=stored)
        places = [first[text] for text in texts]
        return Embedded(
            vectors[places] if len(unique) != len(texts) else vectors,
            {index: unembeddable[place] for index, place in enumerate(places) if place in unembeddable},
            embedded=sum(1 for i in missing if i not in unembeddable) - len(left),
            cache_hits=int(known.sum()),
            left=frozenset(index for index, place in enumerate(places) if place in left),
            error=error,
        )

    def _compute(
        self,
        texts: list[str],
        missing: list[int],
        role: Role,
        vectors: Vectors,
        unembeddable: dict[int, str],
        *,
        stored: bool,
    ) -> tuple[set[int], EmbedderError | MemoryBudgetError | None]:
        """Embed ``texts[missing]`` into ``vectors``, batch by batch, each under a lease and then cached.

        Returns what is left to do, and why. Short texts come first: a text that is too long for the memory there
        is must not keep the others from theirs.
        """
        order = sorted(missing, key=lambda i: len(texts[i]))
        position, size = 0, self.batch_size
        while position < len(order):
            batch = order[position : position + size]
            costs = self._costs([texts[i] for i in batch])
            try:
                with self.scheduler.lease(self._request(costs, stored=stored)) as lease:
                    batch = batch[: _fitting(costs, lease.items)]
                    self._embed_some(texts, batch, role, vectors, unembeddable)
            except MemoryBudgetError as error:
                if len(batch) == 1:
                    return set(order[position:]), error
                size = len(batch) // 2  # the average was refused; half of them cost less
            except EmbedderError as error:
                return set(order[position:]), error
            else:
                position += len(batch)
        return set(), None

    def _embed_some(
        self, texts: list[str], batch: list[int], role: Role, vectors: Vectors, unembeddable: dict[int, str]
    ) -> None:
        while batch:
            try:
                made = self.embedder.embed([texts[i] for i in batch], role)
            except UnembeddableTextError as error:
                # Leave out exactly the texts it names; the others keep their chance.
                for index in error.indexes:
                    unembeddable[batch[index]] = "the model has no vector for it"
                batch = [i for index, i in enumerate(batch) if index not in set(error.indexes)]
                continue
            check_vectors(made, len(batch), self.dim)
            vectors[batch] = made
            if self.cache is not None:
                self.cache.put_many(self.embedder.fingerprint, role, self.dim, [texts[i] for i in batch], made)
            return

    def _costs(self, texts: list[str]) -> list[int]:
        """Return the bytes each text needs while it is embedded."""
        footprint, limit = self.embedder.footprint(), self.embedder.max_tokens
        # A text has at most as many tokens as characters; asking for the real count would tokenise it twice.
        tokens = (len(text) if limit is None else min(len(text), limit) for text in texts)
        return [footprint.per_item + footprint.per_token * count for count in tokens]

    def _request(self, costs: list[int], *, stored: bool) -> Request:
        return Request(
            model=self.embedder.name,
            items=len(costs),
            base=0 if self.embedder.loaded else self.embedder.footprint().base,
            per_item=-(-sum(costs) // len(costs)),
            growth_per_item=index_bytes(1, self.dim) if stored else 0,
        )

    def close(self) -> None:
        """Free the model and close the cache."""
        self.embedder.close()
        if self.cache is not None:
            self.cache.close()


def _fitting(costs: list[int], items: int) -> int:
    """Return how many of the first texts fit into what was granted for ``items`` average ones.

    At least one, because costs are in ascending order: the first is not above the average.
    """
    if items >= len(costs):
        return len(costs)
    granted, used = items * -(-sum(costs) // len(costs)), 0
    for count, cost in enumerate(costs):
        used += cost
        if used > granted:
            return max(1, count)
    return len(costs)
