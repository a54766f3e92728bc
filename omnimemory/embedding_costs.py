"""What a batch of texts costs a model in memory: its own estimate, corrected by what was measured on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from omnimemory.embedders.base import Embedder, Role, Vectors
from omnimemory.errors import EmbedderError
from omnimemory.scheduler.footprint import Request, index_bytes
from omnimemory.scheduler.learned import Key, Learned, Shape, machine_name
from omnimemory.scheduler.lease import Lease
from omnimemory.scheduler.loadable import Loadable, trim
from omnimemory.scheduler.observation import Observer
from omnimemory.scheduler.own_memory import held

__all__ = ["BatchCosts", "Costs", "learned_key", "use_budget"]

_LEAST_BUDGET, _MOST_BUDGET = 16, 1 << 20


@dataclass(frozen=True, slots=True)
class BatchCosts:
    """The bytes that each text needs while it is embedded, those that all share, and the tokens in work at once.

    ``spare`` is how many bytes stay free beside the batch, known once it was granted.
    """

    each: list[int]
    shared: int
    tokens: int
    spare: int = 0

    @property
    def shape(self) -> Shape:
        """What measurements are compared by."""
        return Shape(len(self.each), self.tokens, self.shared + sum(self.each))


class Costs:
    """The costs of one embedder; without an ``observer`` they are its own estimates and nothing is measured."""

    def __init__(self, embedder: Embedder, observer: Observer | None) -> None:
        self._embedder = embedder
        self._observer = observer
        self._found: Key | None = None

    @property
    def _key(self) -> Key | None:
        if self._found is None and self._observer is not None:
            # If its files or its server do not answer, embedding will say that better.
            with suppress(EmbedderError):
                self._found = learned_key(self._embedder)
        return self._found

    def of(self, texts: Sequence[str]) -> BatchCosts:
        """Return what these texts cost by the model's own estimate."""
        footprint, limit = self._embedder.footprint(), self._embedder.max_tokens
        # A text has at most as many tokens as characters; asking for the real count would tokenise it twice.
        tokens = [len(text) if limit is None else min(len(text), limit) for text in texts]
        if sum(tokens) > footprint.at_once:
            each, shared = [footprint.per_item] * len(tokens), footprint.per_token * footprint.at_once
            return BatchCosts(each, shared, footprint.at_once)
        return BatchCosts([footprint.per_item + footprint.per_token * count for count in tokens], 0, sum(tokens))

    def request(self, costs: BatchCosts, *, stored: bool) -> Request:
        """Return what the scheduler is asked for; ``stored`` vectors will make the index grow."""
        shape, base = costs.shape, self._loading()
        need, rests_on = shape.prior, 0
        if self._observer is not None and self._key is not None:
            learned = self._observer.learned
            need, rests_on = learned.predict(self._key, shape), learned.count(self._key, shape)
            base = base and base._replace(prior=learned.predict(self._key, base))
        # The proportions stay those of the estimate, so that half a batch is half of what each text needs.
        shared = -(-costs.shared * need // max(1, shape.prior))
        return Request(
            model=self._embedder.name,
            items=shape.items,
            base=0 if base is None else base.prior,
            per_item=-(-max(0, need - shared) // shape.items),
            growth_per_item=index_bytes(1, self._embedder.dim) if stored else 0,
            per_batch=shared,
            measured=rests_on,
            server=getattr(self._embedder, "server", "") if stored else "",
        )

    def _loading(self) -> Shape | None:
        return None if self._embedder.loaded else Shape(0, 0, self._embedder.footprint().base)

    def most_texts(self, usual: int) -> int:
        """Return how many texts to try at once: ``usual``, or fewer if memory ran out with them."""
        if self._observer is None or self._key is None:
            return usual
        return min(usual, self._observer.learned.ceiling(self._key) or usual)

    def ran_out(self, costs: BatchCosts) -> None:
        """Remember that memory ran out with this batch."""
        if self._observer is not None and self._key is not None:
            self._observer.learned.out_of_memory(self._key, costs.shape)

    @contextmanager
    def observed(self, costs: BatchCosts, role: Role, lease: Lease) -> Iterator[list[Vectors]]:
        """Measure what runs inside under a lease, which is told; the vectors that were made are put into the list.

        Questions are not measured: they are one text each, and their first answer should not wait for it.
        """
        made: list[Vectors] = []
        if self._observer is None or self._key is None or role == "query":
            yield made
            return
        loading = self._loading()
        ready = self._is_loaded
        with self._observer.window(self._key, costs.shape, costs.spare, loading=loading, ready=ready) as window:
            yield made
            window.result = sum(vectors.nbytes for vectors in made)
        lease.observed, lease.predicted = window.observed, window.predicted

    def loadable(self) -> Loadable | None:
        """Return how the scheduler loads and unloads this model; ``None`` for one that another process holds."""
        embedder = self._embedder
        if hasattr(embedder, "aembed"):
            return None
        with suppress(EmbedderError):
            base = embedder.footprint().base
            if base > 0:
                return Loadable(embedder.name, self._is_loaded, self._load, self._unload, self._to_load, base)
        return None

    def _to_load(self) -> tuple[int, int]:
        shape = Shape(0, 0, self._embedder.footprint().base)
        if self._observer is None or self._key is None:
            return shape.prior, 0
        learned = self._observer.learned
        return learned.predict(self._key, shape), learned.count(self._key, shape)

    def _load(self) -> None:
        self._embedder.embed(["warm"], "query")

    def _unload(self) -> int:
        before = held().private
        self._embedder.close()
        if self._observer is not None:
            self._observer.begin_again()
        trim()
        return max(0, before - held().private)

    def status(self) -> dict[str, Any]:
        """Return what was learned of the model on this machine, as JSON-ready data; ``None`` for what is not known."""
        if self._observer is None or self._key is None:
            return {"enabled": self._observer is not None, "measured": 0}
        learned, key = self._observer.learned, self._key
        return {
            "enabled": True,
            "measured": learned.count(key, Shape(1, 0, 0)),
            "most_texts": learned.ceiling(key),
            "budget": learned.budget(key),
            "problem": learned.problem or None,
        }

    def _is_loaded(self) -> bool:
        return self._embedder.loaded


def learned_key(embedder: Embedder) -> Key:
    """Return what measurements of this embedder are kept under. Raises :class:`EmbedderError`."""
    engine, _, rest = embedder.name.partition(":")
    precision = rest.partition("@")[2].partition(":")[0] or "float32"
    return Key(engine, embedder.fingerprint, precision, machine_name())


def use_budget(embedder: Embedder, learned: Learned) -> None:
    """Let a model that computes in batches of so many padded tokens use the best size that was measured here."""
    if hasattr(embedder, "budget"):
        tokens = learned.budget(learned_key(embedder))
        if tokens is not None and _LEAST_BUDGET <= tokens <= _MOST_BUDGET:  # the file may hold anything
            embedder.budget = tokens
