"""A model folder in MLX: loaded, checked, and computing the vectors of batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from omnimemory.embedders.encoder_folder import EncoderFolder
from omnimemory.embedders.mlx.bert import Bert
from omnimemory.embedders.mlx.weights import Weights
from omnimemory.errors import EmbedderError

if TYPE_CHECKING:
    from omnimemory.embedders.batches import Batch

__all__ = ["MlxModel", "load_model"]


@dataclass(frozen=True, slots=True)
class MlxModel:
    """What computes the (n, hidden) vectors of a batch, not of unit length."""

    mx: Any
    encoder: Bert
    pooling: str

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """Compute a batch; only in the thread that loaded the model."""
        mx = self.mx
        mask = mx.array(batch.mask.astype(np.bool_))
        states = self.encoder(mx.array(batch.ids.astype(np.int32)), mask).astype(mx.float32)
        if self.pooling == "cls":
            pooled = states[:, 0]
        else:
            pooled = (states * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        # Computed here, in this thread, and copied into memory that is numpy's own.
        return np.array(pooled, dtype=np.float32)


def load_model(mx: Any, folder: EncoderFolder, precision: str, vocabulary: int) -> MlxModel:
    """Return the model of a folder; ``vocabulary`` is that of its tokenizer. Raises :class:`EmbedderError`."""
    assert folder.shape is not None
    weights = Weights(mx, folder.weights, precision)
    encoder = Bert(folder.shape, weights)
    if vocabulary > encoder.vocabulary:
        raise EmbedderError(
            f"The tokenizer in {folder.path} has {vocabulary:,} tokens, the weights {encoder.vocabulary:,}: they are "
            "not of one model. Pull it again."
        )
    weights.read()
    return MlxModel(mx, encoder, folder.pooling)
