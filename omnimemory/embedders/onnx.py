"""Encoders of the BERT class on the processor, through ONNX Runtime: all-MiniLM-L6-v2 and its like.

The model is a folder as Hugging Face lays it out. Its graph is written here from the safetensors (``bert_graph.py``),
so neither torch nor a conversion is needed; a folder with a ready ``.onnx`` file works as well. Vectors are those of
sentence-transformers for texts of up to ``max_tokens``; longer ones, which it cuts off, are read window by window.

``precision="int8"`` computes the linear layers in integers, twice as fast (``linear_layers.py``). It is a vector space
of its own: the same text has the same vector in every batch, but not that of float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from omnimemory.embedders.encoder_folder import EncoderFolder, read_encoder_folder
from omnimemory.embedders.encoder_parts import checked_dim, files_digest, joined, rows_of
from omnimemory.embedders.installed import InstalledModel
from omnimemory.embedders.lengths import LongTexts
from omnimemory.errors import ConfigError
from omnimemory.forks import ForkLock

if TYPE_CHECKING:
    from omnimemory.embedders.batches import Batch
    from omnimemory.embedders.windows import Row, WindowTokenizer

__all__ = ["BUDGET", "PRECISIONS", "OnnxEmbedder"]

PRECISIONS = ("float32", "int8")

BUDGET = 256
"""Padded tokens in a batch. What lies between two layers of MiniLM then fits into 2 MB of a core's own cache.

Of 96 to 768 those from 192 to 384 were the fastest: 512 took 2 to 12 % longer with commands and up to 6 % with chunks
in int8; with chunks in float32 single runs differed by 8 % either way.
"""

_RUNTIME = 60 << 20  # what ONNX Runtime takes beside the weights
_GRAPH_VERSIONS = {"float32": 1, "int8": 2}  # raise one when the same weights give other vectors


@dataclass(frozen=True, slots=True)
class _Model:
    """A loaded model: its tokenizer, and what computes the (n, hidden) pooled vectors of a batch."""

    tokenizer: WindowTokenizer
    compute: Callable[[Batch], NDArray[np.float32]]


class OnnxEmbedder:
    """A model folder behind the Embedder protocol. Safe to use from several threads.

    ``name`` is what stores and messages call it; the folder's name when omitted. ``dim`` cuts the vectors to one of
    ``dims``, the sizes that are known to be good. ``prompts`` replace those of the folder. ``threads`` batches of
    ``budget`` padded tokens are computed side by side (``None``: one for each core); ``budget`` may be set at any time.
    ``max_tokens`` are read at once, special ones included, at most as many as the model can (``None``: what the folder
    says). ``digest`` names the weights and the tokenizer if that is known already; otherwise the files are read for it.

    Raises :class:`EmbedderError` for a folder that is incomplete or not understood, :class:`ConfigError` for options
    that the model does not have.
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
        threads: int | None = None,
        budget: int = BUDGET,
        max_tokens: int | None = None,
        digest: str | None = None,
    ) -> None:
        self._folder = read_encoder_folder(Path(folder), max_tokens)
        self._name = name or self._folder.path.resolve().name
        self._precision = _checked_precision(self._folder, precision)
        self._dim = checked_dim(self._name, self._folder.hidden, dim, dims)
        self._dims = tuple(dims)
        self._prompts: dict[Role, str] = {**self._folder.prompts, **(prompts or {})}
        self._threads = threads
        self.budget = budget
        self._digest = digest
        self._weight_bytes: int | None = None
        self._model: _Model | None = None
        self._lock = ForkLock()
        self.long_texts = LongTexts()

    @classmethod
    def of_installed(
        cls, model: InstalledModel, *, precision: str | None = None, dim: int | None = None, threads: int | None = None
    ) -> OnnxEmbedder:
        """Return the embedder of a model that was pulled; ``precision`` is that of its card when it is not given."""
        folder, card = read_encoder_folder(model.folder), model.card
        usual = card.precision if folder.graph is None and card.precision in PRECISIONS else "float32"
        return cls(
            model.folder,
            name=card.name,
            precision=precision or usual,
            dim=dim,
            dims=card.dims,
            prompts=card.prompts,
            threads=threads,
            max_tokens=card.max_tokens,
            digest=model.digest([file.relative_to(model.folder).as_posix() for file in folder.files]),
        )

    @property
    def name(self) -> str:
        """``onnx:``, the model and its precision, and the size of vectors that are cut."""
        precision = f"@{self._precision}" if self._folder.graph is None else ""
        return f"onnx:{self._name}{precision}" + ("" if self._dim == self._folder.hidden else f":{self._dim}")

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
        return space_fingerprint(
            provider="onnx",
            weights=self._weights_digest(),
            precision="file" if folder.graph is not None else self._precision,
            dim=self._dim,
            pooling=folder.pooling,
            normalisation="l2",
            prompts=dict(self._prompts),
            max_tokens=folder.max_tokens,
            lowercase=folder.lowercase,
            graph=_GRAPH_VERSIONS[self._precision],
        )

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        return self._model is not None

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """Return (n, dim) float32 rows of unit length, in the order of the texts.

        Raises UnembeddableTextError naming the texts that are blank or in which the model knows no token, EmbedderError
        for a model that cannot be loaded, and InvalidVectorError when it computes no numbers.
        """
        return self.prepared(texts, role)()

    def prepared(self, texts: Sequence[str], role: Role) -> Callable[[], Vectors]:
        """Tokenise texts and put them into batches; what is returned computes their vectors. See :meth:`embed`."""
        check_texts(texts, role, lambda: self._load().tokenizer.rows(texts, self._prompts.get(role, ""))[1])
        if not texts:
            return lambda: np.zeros((0, self._dim), dtype=np.float32)
        model = self._load()
        rows = rows_of(model.tokenizer, self.name, texts, self._prompts.get(role, ""))
        self.long_texts.note([row.text for row in rows])
        pooled = self._pooling(model, rows)

        def vectors() -> Vectors:
            together = joined(rows, pooled(), len(texts))
            return check_vectors(normalise(together[:, : self._dim]), len(texts), self._dim)

        return vectors

    def read_ahead(self, texts: Sequence[str], role: Role) -> None:
        """Tokenise texts that will soon be embedded, in a thread beside one that embeds others. Loads nothing."""
        model = self._model
        if model is not None:
            model.tokenizer.read_ahead(texts, self._prompts.get(role, ""))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, without special ones; 0 for an empty one. Loads the tokenizer."""
        check_strings(texts)
        return self._load().tokenizer.count(texts)

    def footprint(self) -> ModelFootprint:
        """Return the bytes for the weights, the runtime, and the values between two layers.

        Batches of ``budget`` padded tokens run side by side, so a call needs memory for that many tokens and no more.
        The formula is the scheduler's for encoders; within a quarter of what was measured for MiniLM.
        """
        folder, shape = self._folder, self._folder.shape
        if self._weight_bytes is None:
            self._weight_bytes = sum(file.stat().st_size for file in folder.files if file != folder.tokenizer)
        inner, heads = (shape.inner, shape.heads) if shape else (4 * folder.hidden, max(1, folder.hidden // 32))
        attention = 7 * folder.hidden * 4 + 2 * heads * 4 * folder.max_tokens
        return ModelFootprint(
            base=self._weight_bytes + _RUNTIME,
            per_token=max(4 * inner * 4, attention),
            per_item=4 * folder.hidden * 8,
            at_once=self._workers() * max(self.budget, folder.max_tokens),
        )

    def close(self) -> None:
        """Free the model; the next call loads it again."""
        with self._lock:
            self._model = None

    # -- the model

    def _workers(self) -> int:
        from omnimemory.embedders.onnx_session import available_cores  # noqa: PLC0415 - a keyword search needs none

        return self._threads or available_cores()

    def _pooling(self, model: _Model, rows: list[Row]) -> Callable[[], NDArray[np.float32]]:
        from omnimemory.embedders.batches import distinct, plan  # noqa: PLC0415 - as above
        from omnimemory.embedders.onnx_session import run_batches  # noqa: PLC0415 - as above

        once, places = distinct([row.ids for row in rows])
        workers = self._workers() if len(once) > 1 else 1
        batches = plan(once, self.budget, workers)
        return lambda: run_batches(model.compute, batches, len(once), self._folder.hidden, workers)[places]

    def _load(self) -> _Model:
        model = self._model
        if model is not None:
            return model
        with self._lock:
            if self._model is None:
                self._model = self._read()
            return self._model

    def _read(self) -> _Model:
        from omnimemory.embedders.windows import WindowTokenizer  # noqa: PLC0415 - heavy

        folder = self._folder
        tokenizer = WindowTokenizer(folder.tokenizer, folder.max_tokens, lowercase=folder.lowercase)
        if folder.graph is not None:
            from omnimemory.embedders.ready_graph import ready_graph  # noqa: PLC0415 - the one that is needed

            return _Model(tokenizer, ready_graph(folder))
        from omnimemory.embedders.written_graph import written_graph  # noqa: PLC0415 - as above

        return _Model(tokenizer, written_graph(folder, self._precision, tokenizer.vocabulary))

    def _weights_digest(self) -> str:
        with self._lock:
            if self._digest is None:
                self._digest = files_digest(self._folder.files)
            return self._digest


def _checked_precision(folder: EncoderFolder, precision: str) -> str:
    if precision not in PRECISIONS:
        raise ConfigError(f"There is no precision {precision!r}. Choose one of {', '.join(PRECISIONS)}.")
    if folder.graph is not None and precision != "float32":
        raise ConfigError(
            f"{folder.graph} has the precision it was made with: leave embedding.precision out, or use a folder with "
            "safetensors."
        )
    return precision
