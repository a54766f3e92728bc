"""An embedder whose model is on a server: what every kind of server has in common.

- A text longer than the model reads is cut at spaces into windows that fit; its vector is their mean, weighted by
  length. Nothing is dropped without a word: the server is told not to truncate.
- Vectors are scaled to unit length here, whatever the server did, and cut here if it cannot.
- The fingerprint holds the model's identity (its digest, or which model of that name it is, see ``served_models.py``),
  its size, prompts, options and window. Knowing it takes the server only once; after that the model is remembered.
- Before the first texts of a process, and whenever a minute has passed, an answer is compared with what is known.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnimemory.embedders.base import (
    ModelFootprint,
    Role,
    UnembeddableTextError,
    Vectors,
    check_strings,
    check_texts,
    check_vectors,
    space_fingerprint,
)
from omnimemory.embedders.lengths import MARGIN, LongTexts, estimate_tokens, windows
from omnimemory.embedders.served_models import Face, KnownModel
from omnimemory.embedders.served_requests import Asking, Dialect, StrangeAnswerError, Wanted
from omnimemory.embedders.served_rows import joined_pieces
from omnimemory.errors import ConfigError, ModelChangedError
from omnimemory.model_servers.exchange import Steps, Terms
from omnimemory.model_servers.lines import AsyncLine, Line
from omnimemory.model_servers.patience import Patience, impatient

if TYPE_CHECKING:
    import ssl

__all__ = ["ServedEmbedder", "ServedOptions"]

_LOG = logging.getLogger("omnimemory")
_CHECK_SECONDS = 60.0
_LEAST_WINDOW = 16


@dataclass(frozen=True, slots=True)
class ServedOptions:
    """What may be chosen for any server.

    ``dim`` is the size of the vectors (``None``: the model's own), ``dims`` the smaller ones it was trained for; with
    ``force_dim`` others are cut as well. ``prompts`` stand before texts, by role. ``max_tokens`` of a text go into one
    window (``None``: what the server says). ``batch_size`` texts go into a request. ``folder`` is where models that
    were met are remembered (``None``: nowhere).
    """

    dim: int | None = None
    dims: tuple[int, ...] = ()
    force_dim: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    max_tokens: int | None = None
    batch_size: int = 32
    folder: Path | None = None
    patience: Patience = field(default_factory=Patience)


class ServedEmbedder:
    """Texts to vectors by a server that speaks ``dialect``; safe for several threads. See the embedders built on it.

    ``usual_tokens`` is how much of a text such a server reads when it does not say so, ``most_tokens`` how much at
    most whatever it says; ``space`` is what else changes its vectors.
    """

    works_aside = True
    """It waits for a server: an ingest reads and stores meanwhile."""

    def __init__(
        self,
        name: str,
        dialect: Dialect,
        terms: Terms,
        options: ServedOptions,
        *,
        usual_tokens: int,
        most_tokens: int | None,
        space: Mapping[str, Any],
    ) -> None:
        self._name = name
        self._terms = terms
        self._options = options
        self._usual_tokens = usual_tokens
        self._most_tokens = most_tokens
        self._space = space
        self._dialect = dialect
        self._asking = Asking(dialect, options.patience, options.batch_size)
        provider, _, model = name.partition(":")
        self._known = KnownModel(provider, model, options.folder)
        self._line = Line(terms)
        self._tls: ssl.SSLContext | None = None
        self._face: Face | None = None
        self._checked: float | None = None
        self._told = terms.address.is_loopback
        self.long_texts = LongTexts()

    @property
    def name(self) -> str:
        """Provider and model."""
        return self._name

    @property
    def server(self) -> str:
        """The server's address."""
        return self._dialect.origin

    @property
    def dim(self) -> int:
        """Components of a vector. Asks the server if the model was never met."""
        native, wanted = self._met().dim, self._options.dim
        if wanted is None or wanted == native:
            return native
        if wanted > native:
            raise ConfigError(f"{self._name} has {native} dimensions, not {wanted}: embedding.dim can be at most that.")
        if wanted not in self._options.dims and not self._options.force_dim:
            known = ", ".join(map(str, sorted(self._options.dims))) or "none that is known"
            raise ConfigError(
                f"{self._name} was not trained to be cut to {wanted} dimensions (smaller sizes: {known}): leave "
                f"embedding.dim out for its own {native}, or set servers.force_dim = true to cut all the same."
            )
        return wanted

    @property
    def dims(self) -> tuple[int, ...]:
        """The smaller sizes that vectors may be cut to."""
        return self._options.dims

    @property
    def most_texts(self) -> int:
        """How many texts it wants at once: those of one request."""
        return max(1, self._asking.most_texts - 1)

    @property
    def max_tokens(self) -> int | None:
        """``None``: every token of a text counts, window by window."""
        return None

    @property
    def fingerprint(self) -> str:
        """The vector space. Asks the server if the model was never met."""
        face = self._met()
        return space_fingerprint(
            provider=self._name.partition(":")[0],
            model=self._name.partition(":")[2],
            weights=face.identity,
            precision="server",
            dim=self.dim,
            pooling="server",
            normalisation="l2",
            prompts={"document": self._prompt("document"), "query": self._prompt("query")},
            max_tokens=self._window(face),
            **self._space,
        )

    @property
    def loaded(self) -> bool:
        """Whether the server was asked by this process and has the model that is known."""
        return self._checked is not None

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """Return (n, dim) float32 rows of unit length, in the order of the texts.

        Raises UnembeddableTextError naming the texts that the server has no vector for (with the vectors of the
        others), ModelChangedError, and ModelServerError for everything else.
        """
        check_texts(texts, role)
        return self._finish(self._line.run(self._steps_for(list(texts), role)))

    async def aembed(self, texts: Sequence[str], role: Role) -> Vectors:
        """As :meth:`embed`, on the event loop. Cancelling it drops the request under way."""
        check_texts(texts, role)
        if self._terms.address.scheme == "https" and self._tls is None:
            self._tls = self._terms.tls_context()
        async with AsyncLine(self._terms, self._tls) as line:
            return self._finish(await line.run(self._steps_for(list(texts), role)))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the estimated number of tokens of each text; 0 for an empty one."""
        check_strings(texts)
        return [estimate_tokens(text) for text in texts]

    def footprint(self) -> ModelFootprint:
        """Return the bytes that asking takes here, not what the model takes where the server is.

        A vector passes through JSON text, a list of Python numbers and rows of float64.
        """
        dim = self.dim
        return ModelFootprint(base=(4 << 20) + 40 * dim * 2, per_token=16, per_item=120 * dim)

    def close(self) -> None:
        """Close the connections; the server keeps its model as long as it was told."""
        self._checked = None
        self._line.close()

    # -- knowing the model

    def _met(self) -> Face:
        if self._face is None:
            self._face = self._known.current()
        if self._face is None:
            self._line.run(self._verify())
        assert self._face is not None
        return self._face

    def _verify(self) -> Steps[Face]:
        """See that the server has the model that is known, or meet it; return it."""
        digest = yield from self._dialect.digest()
        self._face = self._face or self._known.current()
        if self._face is None or (digest is not None and digest not in self._face.digests):
            return (yield from self._look(digest))
        return self._face

    def _look(self, digest: str | None) -> Steps[Face]:
        """Compare the model with the one that is known. Raises ModelChangedError when it is another."""
        canaries = yield from self._asking.canaries()
        known = self._face
        if known is None or not known.looks_like(canaries):
            # One wrong answer is no other model: what all vectors will be compared with has to be seen twice.
            canaries = yield from self._asking.canaries(again=canaries)
        face = self._known.meet(digest, (yield from self._dialect.context()), canaries)
        if known is not None and known.identity != face.identity:
            raise ModelChangedError(
                f"{self._name} is not the model it was: another one answers to that name at {self._dialect.origin}. "
                "Its vectors must not be mixed with those that are stored, so none was stored. Put the former model "
                f"back, or move to this one: omnimemory reembed --model {self._name}"
            )
        self._face = face
        return face

    # -- embedding

    def _steps_for(self, texts: list[str], role: Role) -> Steps[tuple[Vectors, dict[int, str]]]:
        steps = self._steps(texts, role)
        return impatient(steps) if role == "query" else steps  # keywords answer a search whose server hangs

    def _steps(self, texts: list[str], role: Role) -> Steps[tuple[Vectors, dict[int, str]]]:
        self._tell()
        face = self._face if self._checked is not None and self._face is not None else (yield from self._verify())
        window = self._window(face)
        cut = ((i, piece) for i, text in enumerate(texts) for piece in windows(_well_formed(text), window))
        pieces = [(i, piece) for i, piece in cut if not piece.isspace()]
        self.long_texts.note([text for text, _ in pieces])
        stale = self._checked is None or time.monotonic() - self._checked > _CHECK_SECONDS
        wanted = Wanted(face, self.dim, role, self._prompt(role))
        try:
            rows = yield from self._asking.vectors([piece for _, piece in pieces], wanted, check=stale)
        except StrangeAnswerError:
            yield from self._look((yield from self._dialect.digest()))
            raise
        if stale or len(pieces) > 1:
            self._checked = time.monotonic()
        return joined_pieces(pieces, rows, len(texts))

    def _finish(self, found: tuple[Vectors, dict[int, str]]) -> Vectors:
        vectors, bad = found
        good = [index for index in range(len(vectors)) if index not in bad]
        check_vectors(vectors[good], len(good), self.dim)
        if bad:
            first = min(bad)
            raise UnembeddableTextError(
                f"{self._name} has no vector for {len(bad)} of {len(vectors)} texts; text {first}: {bad[first]}",
                sorted(bad),
                reasons=bad,
                vectors=vectors,
            )
        return vectors

    def _prompt(self, role: Role) -> str:
        return self._options.prompts.get(role, "")

    def _window(self, face: Face) -> int:
        """Return how many estimated tokens go into one window."""
        limit = self._options.max_tokens or face.context or self._usual_tokens
        if self._most_tokens is not None:
            limit = min(limit, self._most_tokens)
        prompt = max(estimate_tokens(self._prompt("document")), estimate_tokens(self._prompt("query")))
        return max(_LEAST_WINDOW, int((limit - 2) / MARGIN) - prompt)

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            _LOG.warning("Texts are sent to %s to be embedded: they leave this machine.", self._dialect.origin)


def _well_formed(text: str) -> str:
    """Join surrogate pairs and put U+FFFD in the place of lone surrogates: half a pair has no UTF-8."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
