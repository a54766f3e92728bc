"""A ready ``.onnx`` file as an exporter would make it: ids in, vectors of the tokens or of the text out.

Tests run it as somebody else's model, and the benchmark gives it to Chroma's embedding function.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omnimemory.embedders import bert_graph
from omnimemory.embedders.encoder_folder import read_encoder_folder
from omnimemory.embedders.linear_layers import float_linear
from omnimemory.embedders.onnx_format import Graph
from omnimemory.embedders.tensors import Tensors

__all__ = ["write_ready_graph"]


class _WholeGraph(Graph):
    """A graph that keeps its weights inside of the file."""

    def array(self, name: str, array: NDArray[np.generic]) -> str:
        return self.constant(name, np.ascontiguousarray(array))


def write_ready_graph(source: Path, target: Path, *, pooled: bool) -> None:
    """Write the model in ``source`` as one file; ``pooled`` says whether it makes vectors of texts or of tokens."""
    folder = read_encoder_folder(source)
    assert folder.shape is not None
    written = bert_graph._Encoder(folder.shape, Tensors(folder.weights), float_linear)  # noqa: SLF001 - part by part
    graph = written.graph = _WholeGraph()
    graph.array("table", written.words())
    graph.node("Gather", ["table", "input_ids"], "words")
    graph.node("Cast", ["attention_mask"], "mask", to=6)
    # Asked for and without effect, as in models that were made for pairs of texts.
    graph.node("Identity", ["token_type_ids"], "types")
    x = written.embeddings()
    for number in range(folder.shape.layers):
        x = written.layer(x, number)
    inputs: dict[str, tuple[str, Sequence[int | str]]] = dict.fromkeys(
        ("input_ids", "attention_mask", "token_type_ids"), ("int64", ("n", "length"))
    )
    if pooled:
        written.pool(x, folder.pooling)
        graph.node("Identity", ["pooled"], "sentence_embedding")
        outputs: dict[str, Sequence[int | str]] = {"sentence_embedding": ("n", folder.shape.hidden)}
    else:
        graph.node("Reshape", [x, "hidden_by_text"], "last_hidden_state")
        outputs = {"last_hidden_state": ("n", "length", folder.shape.hidden)}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(graph.model(inputs, outputs))
