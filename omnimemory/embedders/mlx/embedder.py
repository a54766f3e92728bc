"""The mlx embedder: BERT-class encoders and EmbeddingGemma on Apple silicon, and on Linux.

Folders, tokens, windows and batches are those of the ``onnx`` embedder; the layers are computed by MLX (``bert.py``,
``gemma3.py``). Vectors are those of sentence-transformers. The same text, alone and in any batch, has the same vector
within :data:`TOLERANCE`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from omnimemory.embedders.base import (
    ModelFootprint,
    Role,
    Vectors,
    check_strings,
    check_texts,
    check_vectors,
    normalise,
    space_fingerprint,
)
from omnimemory.embedders.encoder_parts import checked_dim, files_digest, joined, rows_of
from omnimemory.embedders.installed import InstalledModel
from omnimemory.embedders.lengths import LongTexts
from omnimemory.embedders.mlx.folder import read_mlx_folder
from omnimemory.embedders.mlx.runtime import Worker, bounded, load_mlx
from omnimemory.errors import ConfigError, EmbedderError
from omnimemory.forks import ForkLock

if TYPE_CHECKING:
    from omnimemory.embedders.batches import Batch
    from omnimemory.embedders.mlx.model import MlxModel
    from omnimemory.embedders.windows import Row, WindowTokenizer

__all__ = ["PRECISIONS", "TOLERANCE", "MlxEmbedder"]

PRECISIONS = ("float32", "bfloat16")

TOLERANCE = {"float32": 0.999999, "bfloat16": 0.999}
"""The least cosine of a text's vector in one batch to that in another, by precision."""

_BUDGET = 4096 if sys.platform == "darwin" else 512  # a processor's cache is small; on Metal not measured
_RUNTIME = 40 << 20  # what MLX takes beside the weights
_CODE_VERSION = 1  # raise it when the same weights give other vectors


@dataclass(frozen=True, slots=True)
class _Loaded:
    tokenizer: WindowTokenizer
    model: MlxModel


class MlxEmbedder:
    """A model folder behind the Embedder protocol, computed by MLX. Safe to use from several threads.

    ``name`` is what stores and messages call it; the folder's name when omitted. ``precision`` is what is computed in.
    ``dim`` cuts the vectors to one of ``dims``, the sizes that are known to be good. ``prompts`` replace those of the
    folder. Batches have ``budget`` padded tokens, which may be set at any time. ``max_tokens`` are read at once, with
    the special ones, at most as many as the model can (``None``: the folder says it). ``digest`` names the weights and
    the tokenizer if that is known already; otherwise the files are read for it.

    Raises :class:`EmbedderError` for a folder that is incomplete or not understood, :class:`ConfigError` for options
    that the model does not have. MLX itself is looked for when the model is loaded.
    """

    works_aside = True
    """It computes outside of Python's lock: an ingest reads and stores meanwhile."""

    def __init__(
        self,
        folder: str | Path,
        *,
        name: str | None = None,
        precision: str = "float32",
        dim: int | None = None,
        dims: Sequence[int] = (),
        prompts: Mapping[Role, str] | None = None,
        budget: int = _BUDGET,
        max_tokens: int | None = None,
        digest: str | None = None,
    ) -> None:
        self._model_folder = read_mlx_folder(Path(folder), max_tokens)
        self._folder = self._model_folder.encoder
        self._name = name or self._folder.path.resolve().name
        if precision not in PRECISIONS:
            raise ConfigError(
                f"mlx:{self._name} computes in {' or '.join(PRECISIONS)}, not {precision!r}: leave "
                "embedding.precision out, or choose one of these."
            )
        self._precision = precision
        self._dim = checked_dim(self._name, self._model_folder.dim, dim, dims)
        self._dims = tuple(dims)
        self._prompts: dict[Role, str] = {**self._folder.prompts, **(prompts or {})}
        self.budget = budget
        self._digest = digest
        self._loaded: _Loaded | None = None
        self._lock = ForkLock()
        self.long_texts = LongTexts()
        self._worker = Worker()
        self._granted = threading.local()

    @classmethod
    def of_installed(
        cls, model: InstalledModel, *, precision: str | None = None, dim: int | None = None
    ) -> MlxEmbedder:
        """Return the embedder of a model that was pulled; ``precision`` is that of its card if MLX has it."""
        folder, card = read_mlx_folder(model.folder), model.card
        usual = card.precision if card.provider == "mlx" else "float32"
        return cls(
            model.folder,
            name=card.name,
            precision=precision or usual,
            dim=dim,
            dims=card.dims,
            prompts=card.prompts,
            max_tokens=card.max_tokens,
            digest=model.digest([file.relative_to(model.folder).as_posix() for file in folder.files]),
        )

    @property
    def name(self) -> str:
        """``mlx:``, the model and its precision, and the size of vectors that are cut."""
        return f"mlx:{self._name}@{self._precision}" + ("" if self._dim == self._model_folder.dim else f":{self._dim}")

    @property
    def dim(self) -> int:
        """Components of a vector."""
        return self._dim

    @property
    def dims(self) -> tuple[int, ...]:
        """The smaller sizes that vectors may be cut to."""
        return tuple(dim for dim in self._dims if dim < self._dim)

    @property
    def max_tokens(self) -> int | None:
        """``None``: every token of a text counts, window by window."""
        return None

    @property
    def window(self) -> int:
        """Tokens of a text that the model reads at once; a chunk should not have more."""
        return self._folder.max_tokens - 2

    @property
    def fingerprint(self) -> str:
        """The vector space. Reads the files if their digest was not given."""
        folder = self._folder
        with self._lock:
            if self._digest is None:
                self._digest = files_digest(self._model_folder.files)
        return space_fingerprint(
            provider="mlx",
            weights=self._digest,
            precision=self._precision,
            dim=self._dim,
            pooling=[folder.pooling, *(f"dense {head.out} {head.activation}" for head in self._model_folder.dense)],
            normalisation="l2",
            prompts=dict(self._prompts),
            max_tokens=folder.max_tokens,
            lowercase=folder.lowercase,
            code=_CODE_VERSION,
        )

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        return self._loaded is not None

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """Return (n, dim) float32 rows of unit length, in the order of the texts.

        Raises UnembeddableTextError naming the texts that are blank or in which the model knows no token, EmbedderError
        for a model that cannot be loaded, and InvalidVectorError when it computes no numbers.
        """
        check_texts(texts, role)
        if not texts:
            return np.zeros((0, self._dim), dtype=np.float32)
        loaded = self._load()
        rows = rows_of(loaded.tokenizer, self.name, texts, self._prompts.get(role, ""))
        self.long_texts.note([row.text for row in rows])
        vectors = joined(rows, self._pooled(loaded.model, rows), len(texts))
        return check_vectors(normalise(vectors[:, : self._dim]), len(texts), self._dim)

    def read_ahead(self, texts: Sequence[str], role: Role) -> None:
        """Tokenise texts that will soon be embedded, in a thread beside one that embeds others. Loads nothing."""
        loaded = self._loaded
        if loaded is not None:
            loaded.tokenizer.read_ahead(texts, self._prompts.get(role, ""))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, without special ones; 0 for an empty one. Loads the model."""
        check_strings(texts)
        return self._load().tokenizer.count(texts)

    def footprint(self) -> ModelFootprint:
        """Return the bytes for the weights, the runtime, and the values between two layers.

        For MiniLM on a processor that is 1.2 times what loading took, and 1 to 1.4 times what batches of 512 and of
        4,096 padded tokens took, the most for short texts. EmbeddingGemma was not measured.
        """
        folder, shape, gemma = self._folder, self._folder.shape, self._model_folder.gemma
        # A feed-forward layer with a gate has two of its inner values for each.
        inner, heads = (shape.inner, shape.heads) if shape else (2 * gemma.inner, gemma.heads) if gemma else (0, 0)
        attention = 7 * folder.hidden * 4 + 3 * heads * 4 * folder.max_tokens
        return ModelFootprint(
            base=self._weights_bytes + _RUNTIME,
            per_token=max(6 * inner * 4, attention),
            per_item=4 * folder.hidden * 8,
            at_once=max(self.budget, folder.max_tokens),
        )

    @contextmanager
    def limited(self, granted: int) -> Iterator[None]:
        """Let what this thread embeds inside take ``granted`` bytes beside what MLX holds; else it is the footprint."""
        before = getattr(self._granted, "bytes", None)
        self._granted.bytes = granted
        try:
            yield
        finally:
            self._granted.bytes = before

    def close(self) -> None:
        """Free the model; the next call loads it again."""
        with self._lock:
            loaded, self._loaded = self._loaded, None
            if loaded is not None:
                mx = loaded.model.mx
                del loaded
                with suppress(EmbedderError):  # a forked child has nothing to give back
                    self._worker.run(mx.clear_cache)

    # -- the model

    @cached_property
    def _weights_bytes(self) -> int:
        return self._model_folder.held(self._precision)

    def _pooled(self, model: MlxModel, rows: list[Row]) -> NDArray[np.float32]:
        from omnimemory.embedders.batches import distinct, plan  # noqa: PLC0415 - a keyword search needs none

        once, places = distinct([row.ids for row in rows])
        found = np.empty((len(once), self._model_folder.dim), dtype=np.float32)
        granted = getattr(self._granted, "bytes", None)
        if granted is None:
            need = self.footprint()
            granted = need.at_once * need.per_token
        for batch in plan(once, self.budget):
            found[batch.rows] = self._worker.run(partial(_compute, model, batch, granted))
        self._worker.run(model.mx.clear_cache)
        return found[places]

    def _load(self) -> _Loaded:
        loaded = self._loaded
        if loaded is not None:
            return loaded
        with self._lock:
            if self._loaded is None:
                self._loaded = self._read()
            return self._loaded

    def _read(self) -> _Loaded:
        mx = self._worker.run(load_mlx)
        from omnimemory.embedders.mlx.model import load_model  # noqa: PLC0415 - only with a model
        from omnimemory.embedders.windows import WindowTokenizer  # noqa: PLC0415 - heavy

        folder = self._folder
        tokenizer = WindowTokenizer(folder.tokenizer, folder.max_tokens, lowercase=folder.lowercase)
        model = self._worker.run(lambda: load_model(mx, self._model_folder, self._precision, tokenizer.vocabulary))
        return _Loaded(tokenizer, model)


def _compute(model: MlxModel, batch: Batch, granted: int) -> NDArray[np.float32]:
    try:
        with bounded(model.mx, granted):
            return model(batch)
    except BaseException:
        model.mx.clear_cache()  # who asked may be gone, after an interrupt
        raise
