"""How texts become vectors: the cache first, then batch by batch, each under a lease, what was made kept at once.

A batch that is refused, or for which memory runs out in spite of its lease, is halved until it fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from omnimemory.embedders.base import Embedder, Role, UnembeddableTextError, Vectors, check_vectors
from omnimemory.embedding_costs import BatchCosts, Costs
from omnimemory.errors import EmbedderError, MemoryBudgetError
from omnimemory.scheduler.lease import Lease
from omnimemory.scheduler.out_of_memory import RanOutError, is_out_of_memory
from omnimemory.scheduler.scheduler import Scheduler
from omnimemory.storage.cache import EmbeddingCache

__all__ = ["Ask", "Batches", "Embedded", "Meanwhile"]

Ask = Callable[[Sequence[str], Role], Vectors]
"""How a batch is embedded: an embedder's ``embed``, or what stands before it."""


class Meanwhile(Protocol):
    """What others do while the model works."""

    def begin(self) -> None:
        """Begin, if it has not begun: the model is at work, or memory is waited for."""

    def later(self, job: Callable[[], None]) -> object:
        """Do this when the model works again, or at the end."""


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


@dataclass(frozen=True, slots=True)
class Batches:
    """One way of embedding: by which model, asked how, with which cache (``None``: none), how many texts at once.

    A batch waits for memory no longer once it is ``cancelled``. ``later`` is given what writes into the cache's file,
    to be called soon; ``None``: that is done at once.
    """

    embedder: Embedder
    ask: Ask
    cache: EmbeddingCache | None
    scheduler: Scheduler
    batch_size: int
    costs: Costs
    cancelled: Callable[[], bool] | None = None
    later: Callable[[Callable[[], None]], object] | None = None

    def resolve(
        self, texts: Sequence[str], role: Role, *, stored: bool = False, shown: Mapping[str, str] | None = None
    ) -> Embedded:
        """Return vectors for all texts that have one, and why the others have none.

        ``stored`` and ``shown`` are told at :meth:`omnimemory.embedding_service.EmbeddingService.resolve`.
        """
        first: dict[str, int] = {}
        for text in texts:
            first.setdefault(text, len(first))
        unique = list(first)
        vectors = np.zeros((len(unique), self.embedder.dim), dtype=np.float32)
        unembeddable = {index: "it is blank" for index, text in enumerate(unique) if not text or text.isspace()}
        known = np.zeros(len(unique), dtype=np.bool_)
        if self.cache is not None and unique:
            cached, known = self.cache.get_many(self.embedder.fingerprint, role, self.embedder.dim, unique)
            vectors[known] = cached[known]
        missing = [i for i in np.flatnonzero(~known).tolist() if i not in unembeddable]
        left, error = self._compute(unique, missing, role, vectors, unembeddable, stored=stored, shown=shown or {})
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
        shown: Mapping[str, str],
    ) -> tuple[set[int], EmbedderError | MemoryBudgetError | None]:
        """Embed ``texts[missing]`` into ``vectors``, batch by batch, each under a lease and then cached.

        Returns what is left to do, and why. Short texts come first: a text that is too long for the memory there
        is must not keep the others from theirs.
        """
        order = sorted(missing, key=lambda i: len(texts[i]))
        # What an embedder asks for in several requests is lost as a whole when one of them fails.
        size = min(self.batch_size, getattr(self.embedder, "most_texts", self.batch_size))
        position, size = 0, self.costs.most_texts(size)
        while position < len(order):
            batch = order[position : position + size]
            costs = self.costs.of([texts[i] for i in batch])
            try:
                request = self.costs.request(costs, stored=stored)
                with self.scheduler.lease(request, cancelled=self.cancelled) as lease:
                    fitting = _fitting(costs.each, lease.items)
                    if fitting < len(batch):
                        batch = batch[:fitting]
                        costs = self.costs.of([texts[i] for i in batch])
                    costs = replace(costs, spare=lease.decision.room - lease.decision.need)
                    with _limited(self.embedder, lease.reserved):
                        self._embed_some(texts, batch, costs, role, vectors, unembeddable, shown, lease)
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
        self,
        texts: list[str],
        batch: list[int],
        costs: BatchCosts,
        role: Role,
        vectors: Vectors,
        unembeddable: dict[int, str],
        shown: Mapping[str, str],
        lease: Lease,
    ) -> None:
        while batch:
            try:
                made = self._asked([shown.get(texts[i], texts[i]) for i in batch], costs, role, lease)
            except UnembeddableTextError as error:
                # Leave out exactly the texts it names; the others keep their chance, or what was made of them.
                for index in error.indexes:
                    unembeddable[batch[index]] = error.reasons.get(index, "the model has no vector for it")
                kept = [index for index in range(len(batch)) if index not in set(error.indexes)]
                batch = [batch[index] for index in kept]
                if error.vectors is None:
                    costs = self.costs.of([texts[i] for i in batch])
                    continue
                made = error.vectors[kept]
            self._note_long([shown.get(texts[i], texts[i]) for i in batch], lease)
            self._keep(texts, batch, role, vectors, made)
            return

    def _note_long(self, texts: Sequence[str], lease: Lease) -> None:
        """Note which texts were longer than the model reads at once: it says so, or cuts them off."""
        limit, seen = self.embedder.max_tokens, getattr(self.embedder, "long_texts", None)
        lease.windowed += 0 if seen is None else seen.take()
        long = [] if limit is None else [text for text in texts if len(text) > limit]
        if long:
            lease.truncated += sum(count > limit for count in self.embedder.count_tokens(long) if limit is not None)

    def _keep(self, texts: list[str], batch: list[int], role: Role, vectors: Vectors, made: Vectors) -> None:
        dim = self.embedder.dim
        check_vectors(made, len(batch), dim)
        vectors[batch] = made
        if self.cache is not None and batch:
            kept = [texts[i] for i in batch]
            self.cache.put_many(self.embedder.fingerprint, role, dim, kept, made, later=self.later)

    def _asked(self, texts: list[str], costs: BatchCosts, role: Role, lease: Lease) -> Vectors:
        """Ask the model, and measure it. Memory that runs out is a ``MemoryBudgetError``, as if it had been refused."""
        try:
            with self.costs.observed(costs, role, lease) as made:
                made.append(self.ask(texts, role))
            return made[0]
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.costs.ran_out(costs)
            raise RanOutError(self.embedder.name, len(texts)) from error


def _limited(embedder: Embedder, granted: int) -> AbstractContextManager[None]:
    """Tell an embedder whose library can keep to a number of bytes (``limited``) how many were granted."""
    limited: Callable[[int], AbstractContextManager[None]] | None = getattr(embedder, "limited", None)
    return nullcontext() if limited is None else limited(granted)


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
