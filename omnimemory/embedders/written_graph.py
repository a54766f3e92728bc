"""An encoder whose graph is written from its safetensors, loaded and ready to compute batches.

It is written anew in each process: for MiniLM that takes 6 ms, and 45 to 50 more where its weights become integers. A
copy on the disk would have to be read and compared before it is believed, which takes about as long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from omnimemory.embedders.bert_graph import EncoderModel, encoder_model
from omnimemory.embedders.encoder_folder import EncoderFolder
from omnimemory.embedders.linear_layers import IntegerLinear, float_linear
from omnimemory.embedders.onnx_session import make_session, signed_products_are_exact
from omnimemory.embedders.tensors import Tensors
from omnimemory.errors import EmbedderError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from omnimemory.embedders.batches import Batch

__all__ = ["written_graph"]


def written_graph(folder: EncoderFolder, precision: str, vocabulary: int) -> Callable[[Batch], NDArray[np.float32]]:
    """Return what computes the (n, hidden) vectors of a batch, not of unit length. Raises :class:`EmbedderError`."""
    assert folder.shape is not None
    tensors = Tensors(folder.weights)
    linear = float_linear if precision == "float32" else IntegerLinear(signed=signed_products_are_exact())
    made = encoder_model(folder.shape, tensors, folder.pooling, linear)
    if vocabulary > len(made.words):
        raise EmbedderError(
            f"The tokenizer in {folder.path} has {vocabulary:,} tokens, the weights {len(made.words):,}: they are not "
            "of one model. Pull it again."
        )
    session = make_session(made.model, made.arrays)
    tensors.release()
    return _Computing(session, made)


@dataclass(frozen=True, slots=True)
class _Computing:
    session: InferenceSession
    made: EncoderModel  # holds the arrays, which the session must not outlive

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        given = {"words": self.made.words[batch.ids], "mask": batch.mask}
        pooled: NDArray[np.float32] = self.session.run(["pooled"], given)[0]
        return pooled
