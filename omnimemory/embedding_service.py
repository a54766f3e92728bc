"""Text in, vectors out: the cache is asked first, then the scheduler, then the embedder.

No batch reaches the embedder without a lease. A text that was embedded before, in any store, is never
embedded again; equal texts in one call are embedded once.

The same text gets the same vector in every batch, thread and process: bit for bit from the cache and from the
static model, within what an embedder itself promises otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from omnimemory.embedders.base import (
    Embedder,
    Role,
    UnembeddableTextError,
    Vectors,
    check_strings,
    trained_dims,
    truncate,
)
from omnimemory.embedding_batches import Ask, Batches, Embedded, Meanwhile
from omnimemory.embedding_costs import Costs
from omnimemory.errors import EmbedderError, InvalidVectorError
from omnimemory.question_aside import QuestionAside
from omnimemory.scheduler.observation import Observer
from omnimemory.scheduler.scheduler import Scheduler
from omnimemory.storage.cache import EmbeddingCache

if TYPE_CHECKING:
    from omnimemory.procedure.vectors import CommandSequence

__all__ = ["Embedded", "EmbeddingService"]


class EmbeddingService:
    """One embedder behind a cache and a scheduler; safe for several threads.

    ``cache`` may be ``None``: every text is embedded then. ``batch_size`` is the most texts the embedder
    gets at once; the scheduler may allow fewer, and an embedder may want fewer (``most_texts``). ``profiles`` are
    the caller's own names of vector sizes, for :meth:`apply_mrl`. ``observer`` measures what batches need, so that
    the scheduler is asked for that and not for an estimate.
    """

    def __init__(
        self,
        embedder: Embedder,
        *,
        cache: EmbeddingCache | None,
        scheduler: Scheduler,
        batch_size: int = 512,
        profiles: Mapping[str, int] | None = None,
        observer: Observer | None = None,
        sequence_decay: float = 0.1,
    ) -> None:
        self.embedder = embedder
        self.cache = cache
        self.scheduler = scheduler
        self.batch_size = batch_size
        self.profiles = dict(profiles or {})
        self.observer = observer
        self.sequence_decay = sequence_decay
        self._costs = Costs(embedder, observer)
        self._aside = QuestionAside()
        self.seat = object()  # what the scheduler knows this service by, and does not keep it alive with
        scheduler.join(self.seat)
        loadable = self._costs.loadable()
        if loadable is not None:
            scheduler.residency.know(loadable, self.seat)

    @property
    def dim(self) -> int:
        """Components of a vector."""
        return self.embedder.dim

    def initialize(self) -> None:
        """Load the model now, so that no later call waits for it. Raises :class:`EmbedderError`."""
        self.embed_text("warm", "query", use_cache=False)

    def embed_text(
        self, text: str, role: Role = "document", target_dim: int | str | None = None, use_cache: bool = True
    ) -> Vectors:
        """Return the vector (dim,) of one text; see :meth:`embed_batch`."""
        vector: Vectors = self.embed_batch([text], role, target_dim, use_cache)[0]
        return vector

    def embed_within(self, text: str, role: Role, seconds: float) -> Vectors | None:
        """As :meth:`embed_text`, but return ``None`` if there is no vector after so many seconds.

        The model goes on: a later call finds it loaded, or is told why it could not be. While it does, further calls
        only wait for that.
        """

        def work(is_left: Callable[[], bool]) -> Vectors:
            def ask(texts: Sequence[str], role: Role) -> Vectors:
                if is_left():
                    raise EmbedderError("the memory was closed while the model was asked")
                return self.embedder.embed(texts, role)

            vector: Vectors = self._embed(ask, [text], role, None, True, None, is_left)[0]
            return vector

        return self._aside.within(seconds, work)

    def embed_batch(
        self,
        texts: Sequence[str],
        role: Role = "document",
        target_dim: int | str | None = None,
        use_cache: bool = True,
        batch_size: int | None = None,
    ) -> Vectors:
        """Return the vectors (n, dim) of texts, in order; of ``target_dim`` components, see :meth:`apply_mrl`.

        Without ``use_cache`` nothing is looked up and nothing kept, nor are queries of a model that answers faster than
        the cache (``instant``). ``batch_size`` texts go to the embedder at once.
        Raises :class:`EmbedderError` (naming the texts that have no vector, when it is that) and
        :class:`MemoryBudgetError` when there is no memory for a single text.
        """
        return self._embed(self.embedder.embed, texts, role, target_dim, use_cache, batch_size)

    def embed_command_sequence(self, commands: Sequence[str]) -> CommandSequence:
        """Return the vectors of a sequence of commands, oldest first: of all, of each, and of each step.

        The newest command weighs most (``history.sequence_decay``). Raises :class:`EmbedderError` for no commands, and
        as :meth:`embed_batch`.
        """
        return self._sequence(self.embed_batch(_some_commands(commands)))

    def _sequence(self, vectors: Vectors) -> CommandSequence:
        from omnimemory.procedure.vectors import command_sequence  # noqa: PLC0415 - a search needs none of it

        return command_sequence(vectors, self.sequence_decay)

    async def ainitialize(self) -> None:
        """As :meth:`initialize`; see :meth:`aembed_batch`."""
        await self.aembed_text("warm", "query", use_cache=False)

    async def aembed_text(
        self, text: str, role: Role = "document", target_dim: int | str | None = None, use_cache: bool = True
    ) -> Vectors:
        """As :meth:`embed_text`; see :meth:`aembed_batch`."""
        vector: Vectors = (await self.aembed_batch([text], role, target_dim, use_cache))[0]
        return vector

    async def aembed_batch(
        self,
        texts: Sequence[str],
        role: Role = "document",
        target_dim: int | str | None = None,
        use_cache: bool = True,
        batch_size: int | None = None,
    ) -> Vectors:
        """As :meth:`embed_batch`, beside the event loop, which goes on.

        Cancelling it drops a request to a server at once, and asks nothing more of any model.
        """
        from omnimemory.embedding_async import run_off_loop  # noqa: PLC0415 - 50 ms that only such callers need

        return await run_off_loop(
            self.embedder,
            lambda ask, cancelled: self._embed(ask, texts, role, target_dim, use_cache, batch_size, cancelled),
        )

    async def aembed_command_sequence(self, commands: Sequence[str]) -> CommandSequence:
        """As :meth:`embed_command_sequence`; see :meth:`aembed_batch`."""
        return self._sequence(await self.aembed_batch(_some_commands(commands)))

    def _embed(
        self,
        ask: Ask,
        texts: Sequence[str],
        role: Role,
        target_dim: int | str | None,
        use_cache: bool,
        batch_size: int | None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Vectors:
        check_strings(texts)
        if role == "query" and getattr(self.embedder, "instant", False):
            use_cache = False
        found = self._batches(ask, use_cache=use_cache, batch_size=batch_size, cancelled=cancelled).resolve(texts, role)
        if found.error is not None:
            raise found.error
        if found.unembeddable:
            reasons = "; ".join(f"text {index}: {why}" for index, why in sorted(found.unembeddable.items())[:3])
            raise UnembeddableTextError(
                f"{_counted(len(found.unembeddable))} no vector ({reasons})",
                sorted(found.unembeddable),
                reasons=found.unembeddable,
                vectors=found.vectors,
            )
        return found.vectors if target_dim is None else self.apply_mrl(found.vectors, target_dim)

    def apply_mrl(self, vector: ArrayLike, dim: int | str, *, force: bool = False) -> Vectors:
        """Return a vector (d,), or vectors (n, d), cut to their first ``dim`` components and of unit length again.

        ``dim`` may be a profile: "full", "balanced" (the largest trained size up to half of it), "small" (the smallest
        one), or one of ``profiles``. Raises :class:`InvalidVectorError` for a size that the model was not trained for,
        unless ``force``: an ordinary model loses by it (MiniLM cut from 384 to 256 lost 2.3 to 3.2 % of its MRR).
        """
        trained = trained_dims(self.embedder)
        rows = np.asarray(vector)
        size = self._profile(dim, trained) if isinstance(dim, str) else dim
        made = truncate(np.atleast_2d(rows), size, dims=trained, force=force)
        return made[0] if rows.ndim == 1 else made

    def _profile(self, name: str, trained: Sequence[int]) -> int:
        sizes = sorted({*trained, self.dim})
        known = {
            "full": self.dim,
            "balanced": max((size for size in sizes if size * 2 <= self.dim), default=self.dim),
            "small": sizes[0],
            **self.profiles,
        }
        if name not in known:
            raise InvalidVectorError(f"there is no profile {name!r:.80} of vector sizes: choose {', '.join(known)}")
        return known[name]

    def get_cache_stats(self) -> dict[str, Any]:
        """Return what the cache holds and how often it helped, as JSON-ready data; see :meth:`EmbeddingCache.stats`."""
        if self.cache is None:
            return {"enabled": False, "cache_size": 0, "embedding_dim": self.dim}
        stats = self.cache.stats()
        return {"enabled": True, "cache_size": stats["items"], "embedding_dim": self.dim, **stats}

    def learned_status(self) -> dict[str, Any]:
        """Return what was measured of the model on this machine, as JSON-ready data."""
        return self._costs.status()

    def clear_cache(self) -> int:
        """Delete all cached vectors, of all stores; return how many there were. Raises :class:`StoreError`."""
        return 0 if self.cache is None else self.cache.clear()

    def resolve(
        self,
        texts: Sequence[str],
        role: Role,
        *,
        stored: bool = False,
        shown: Mapping[str, str] | None = None,
        meanwhile: Meanwhile | None = None,
    ) -> Embedded:
        """Return vectors for all texts that have one, and why the others have none; raises nothing for the model.

        ``stored`` says that the vectors will go into the index, whose growth is then part of what the
        scheduler is asked for. ``shown`` maps a text to what the model is shown instead of it: the vector
        is kept under the text itself. ``meanwhile`` begins whenever the model is at work, or memory is waited for, and
        writes the cache's file.
        """
        if meanwhile is None:
            batches = self._batches(self.embedder.embed)
        else:

            def waits() -> bool:
                meanwhile.begin()
                return False

            batches = self._batches(self._asking(meanwhile), cancelled=waits, later=meanwhile.later)
        return batches.resolve(texts, role, stored=stored, shown=shown)

    def _asking(self, meanwhile: Meanwhile) -> Ask:
        """Return how to ask the embedder so that others begin with what they do meanwhile once it is at work.

        What an embedder does in Python before that (``prepared``) is over then: two who want Python's lock take longer.
        """
        prepared: Callable[[Sequence[str], Role], Callable[[], Vectors]] | None
        prepared = getattr(self.embedder, "prepared", None)

        def ask(texts: Sequence[str], role: Role) -> Vectors:
            work = partial(self.embedder.embed, texts, role) if prepared is None else prepared(texts, role)
            meanwhile.begin()
            return work()

        return ask

    def read_ahead(self, texts: Sequence[str], role: Role) -> None:
        """Prepare texts that the model will soon be asked for, if it is loaded and can do that beside its work.

        What was prepared before and not asked for is dropped.
        """
        prepare: Callable[[Sequence[str], Role], None] | None = getattr(self.embedder, "read_ahead", None)
        if prepare is not None:
            prepare(texts, role)

    def _batches(
        self,
        ask: Ask,
        *,
        use_cache: bool = True,
        batch_size: int | None = None,
        cancelled: Callable[[], bool] | None = None,
        later: Callable[[Callable[[], None]], object] | None = None,
    ) -> Batches:
        size = self.batch_size if batch_size is None else batch_size
        if not isinstance(size, int) or size < 1:
            raise EmbedderError(f"batch_size must be a whole number of at least 1, not {size!r}")
        cache = self.cache if use_cache else None
        return Batches(self.embedder, ask, cache, self.scheduler, size, self._costs, cancelled, later)

    def close(self) -> None:
        """Free the model and close the cache. Others who share the scheduler go on with it."""
        self._aside.leave()
        try:
            self.embedder.close()
        finally:
            self._aside.finish()
            self.scheduler.leave(self.seat)
            if self.observer is not None:
                self.observer.learned.save()
            if self.cache is not None:
                self.cache.close()


def _some_commands(commands: Sequence[str]) -> Sequence[str]:
    check_strings(commands)
    if not len(commands):
        raise EmbedderError("a sequence needs at least one command: embed_command_sequence(['cd api', 'make'])")
    return commands


def _counted(texts: int) -> str:
    return "1 text has" if texts == 1 else f"{texts:,} texts have"
