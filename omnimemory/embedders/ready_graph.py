"""An encoder that comes as a ready ``.onnx`` file, such as sentence-transformers and optimum export them.

Inputs are ``input_ids`` and ``attention_mask``, and ``token_type_ids`` where the model has it. The output is the text's
vector if the file makes it (``sentence_embedding``), else the vectors of the tokens, which are pooled here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from omnimemory.embedders.encoder_folder import EncoderFolder
from omnimemory.embedders.onnx_session import make_session
from omnimemory.errors import EmbedderError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from omnimemory.embedders.batches import Batch

__all__ = ["ready_graph"]

_KNOWN = {"input_ids", "attention_mask", "token_type_ids"}


def ready_graph(folder: EncoderFolder) -> Callable[[Batch], NDArray[np.float32]]:
    """Return what computes the (n, hidden) vectors of a batch. Raises :class:`EmbedderError`."""
    assert folder.graph is not None
    session = make_session(folder.graph, optimise=True)
    inputs = {value.name for value in session.get_inputs()}
    foreign = inputs - _KNOWN
    if foreign or not {"input_ids", "attention_mask"} <= inputs:
        raise EmbedderError(
            f"{folder.graph} asks for {', '.join(sorted(inputs))}, which is not known here. It cannot be used."
        )
    outputs = {value.name: value.shape for value in session.get_outputs()}
    made = "sentence_embedding" if "sentence_embedding" in outputs else next(iter(outputs))
    if len(outputs[made]) not in (2, 3):
        raise EmbedderError(f"The output {made} of {folder.graph} has the shape {outputs[made]}. It cannot be used.")
    return partial(_run, session, inputs, made, folder.pooling)


def _run(session: InferenceSession, inputs: set[str], made: str, pooling: str, batch: Batch) -> NDArray[np.float32]:
    given = {"input_ids": batch.ids, "attention_mask": batch.mask.astype(np.int64)}
    if "token_type_ids" in inputs:
        given["token_type_ids"] = np.zeros_like(batch.ids)
    found: NDArray[np.float32] = session.run([made], given)[0]
    if found.ndim == 2:
        return found
    if pooling == "cls":
        return found[:, 0]
    # One product for each text: the same sum whatever stands beside it.
    sums: NDArray[np.float32] = (batch.mask[:, None, :].astype(np.float32) @ found)[:, 0]
    return sums
