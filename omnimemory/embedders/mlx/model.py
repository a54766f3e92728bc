"""A model folder in MLX: loaded, checked, and computing the vectors of batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from omnimemory.embedders.mlx.bert import Bert
from omnimemory.embedders.mlx.folder import Dense, MlxFolder
from omnimemory.embedders.mlx.gemma3 import Gemma3
from omnimemory.embedders.mlx.weights import Apply, Weights
from omnimemory.errors import EmbedderError

if TYPE_CHECKING:
    from omnimemory.embedders.batches import Batch

__all__ = ["MlxModel", "load_model"]


@dataclass(frozen=True, slots=True)
class MlxModel:
    """What computes the (n, dim) vectors of a batch, not of unit length."""

    mx: Any
    encoder: Bert | Gemma3
    pooling: str
    heads: tuple[Apply, ...]

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """Compute a batch; only in the thread that loaded the model."""
        mx = self.mx
        mask = mx.array(batch.mask.astype(np.bool_))
        states = self.encoder(mx.array(batch.ids.astype(np.int32)), mask).astype(mx.float32)
        if self.pooling == "cls":
            pooled = states[:, 0]
        else:
            pooled = (states * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        for head in self.heads:
            pooled = head(pooled)
        # Computed here, in this thread, and copied into memory that is numpy's own.
        return np.array(pooled, dtype=np.float32)


def load_model(mx: Any, folder: MlxFolder, precision: str, vocabulary: int) -> MlxModel:
    """Return the model of a folder; ``vocabulary`` is that of its tokenizer. Raises :class:`EmbedderError`."""
    weights = Weights(mx, folder.encoder.weights, precision, folder.quantisation)
    shape = folder.encoder.shape
    encoder = _gemma(folder, weights) if shape is None else Bert(shape, weights)
    if vocabulary > encoder.vocabulary:
        raise EmbedderError(
            f"The tokenizer in {folder.encoder.path} has {vocabulary:,} tokens, the weights {encoder.vocabulary:,}: "
            "they are not of one model. Pull it again."
        )
    weights.read()
    return MlxModel(mx, encoder, folder.encoder.pooling, tuple(_head(mx, folder, one) for one in folder.dense))


def _gemma(folder: MlxFolder, weights: Weights) -> Gemma3:
    assert folder.gemma is not None
    return Gemma3(folder.gemma, weights)


def _head(mx: Any, folder: MlxFolder, dense: Dense) -> Apply:
    """Return a dense layer; it is computed in float32 always, for one row of each text."""
    weights = Weights(mx, dense.weights, "float32", folder.quantisation)
    linear = weights.linear(dense.name, dense.out, dense.into, biased=dense.biased)
    weights.read()
    if dense.activation == "Tanh":
        return lambda x: mx.tanh(linear(x))
    return linear
