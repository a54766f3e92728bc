"""The ONNX graph of a BERT-class encoder, written from its weights.

The architecture is that of BERT (Devlin et al. 2018), with the variants of RoBERTa (positions begin later) and
DistilBERT (other names, no token types). Attention, Gelu and integer products are the fused operators that ONNX
Runtime documents in its ContribOperators.md. ``LayerNormalization`` after a plain ``Add`` is used and not the fused
``SkipLayerNormalization``, which took a seventh of the time with the runtime of this writing. So is ``Gelu`` after a
bias, and not ``BiasGelu``: 2.2 ms for 504 tokens of MiniLM, where an addition and ``Gelu`` take 1.5 and say the same.
Attention always gets the mask. Without it, where all texts of a batch are of one length, the runtime takes a quarter
less time for attention; but it rounds in another way, and in int8 a text then had another vector beside longer texts
(cosine down to .998), for 3 % of the time of long texts in float32 and nothing measurable in commands.

Words are looked up outside of the graph: the runtime would copy their table, half of a small model, into memory of its
own, where a mapped file costs the rows that are asked for.

Tokens of all texts are one matrix (tokens, hidden) in every linear layer; only attention sees texts. How a linear
layer is computed is handed in, see ``linear_layers.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from omnimemory.embedders.bert_names import part_names, prefix_of
from omnimemory.embedders.encoder_folder import Shape
from omnimemory.embedders.onnx_format import Graph
from omnimemory.errors import EmbedderError

__all__ = ["EncoderModel", "Linear", "encoder_model"]

_CONTRIB = "com.microsoft"
_FUSED = {"gelu_new": "FastGelu", "gelu_pytorch_tanh": "FastGelu"}

Weights = Mapping[str, NDArray[np.float32]]


class Linear(Protocol):
    """Adds ``x @ weight.T + bias`` to a graph."""

    def __call__(
        self, graph: Graph, name: str, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None
    ) -> str:
        """Return the name of the result (tokens, n); ``weight`` is (n, k), ``bias`` (n,)."""


class EncoderModel(NamedTuple):
    """An ONNX model, the arrays to hand to the runtime with it, and the (vocabulary, hidden) vectors of the words."""

    model: bytes
    arrays: Mapping[str, NDArray[np.generic]]
    words: NDArray[np.float32]


def encoder_model(shape: Shape, weights: Weights, pooling: str, linear: Linear) -> EncoderModel:
    """Return the model of an encoder.

    Inputs: ``words`` (texts, length, hidden) float32, the tokens' vectors, and ``mask`` (texts, length) int32, 1 for a
    token. Output: ``pooled`` (texts, hidden) float32, not of unit length. Raises :class:`EmbedderError` for a
    tensor that is missing or of another shape.
    """
    written = _Encoder(shape, weights, linear)
    x = written.embeddings()
    for layer in range(shape.layers):
        x = written.layer(x, layer)
    written.pool(x, pooling)
    sizes: tuple[int | str, ...] = ("texts", "length")
    model = written.graph.model(
        {"words": ("float32", (*sizes, shape.hidden)), "mask": ("int32", sizes)}, {"pooled": ("texts", shape.hidden)}
    )
    return EncoderModel(model, written.graph.arrays, written.words())


class _Encoder:
    def __init__(self, shape: Shape, weights: Weights, linear: Linear) -> None:
        self.graph = Graph()
        self._shape = shape
        self._weights = weights
        self._linear = linear
        self._names = part_names(shape.kind)
        self._prefix = prefix_of(weights)

    def _weight(self, name: str, *sizes: int) -> NDArray[np.float32]:
        found = self._weights.get(self._prefix + name)
        if found is None:
            raise EmbedderError(
                f"The weights have no tensor {self._prefix + name}: they are not of this kind of model."
            )
        if found.shape != sizes:
            raise EmbedderError(
                f"The tensor {self._prefix + name} has the shape {found.shape}, the configuration says {sizes}."
            )
        return found

    def embeddings(self) -> str:
        """Add the sum of word and position vectors (tokens, hidden), normalised."""
        graph, hidden = self.graph, self._shape.hidden
        graph.array("positions", self._positions())
        for name, value in (("zero", [0]), ("one", [1]), ("rows", [-1, hidden]), ("hidden", [hidden])):
            graph.constant(name, np.array(value, dtype=np.int64))
        sizes = graph.node("Shape", ["mask"], "sizes")
        length = graph.node("Gather", [sizes, "one"], "length")
        graph.node("Concat", [sizes, "hidden"], "by_text", axis=0)
        position = graph.node("Slice", ["positions", "zero", length], "position")
        both = graph.node("Add", ["words", position], "embedded")
        return self._norm("embeddings.LayerNorm", graph.node("Reshape", [both, "rows"], "embedded_rows"), "start")

    def words(self) -> NDArray[np.float32]:
        """Return the vectors (vocabulary, hidden) of the words."""
        name = "embeddings.word_embeddings.weight"
        return self._weight(name, len(self._weights.get(self._prefix + name, ())), self._shape.hidden)

    def _positions(self) -> NDArray[np.float32]:
        """Return the (positions, hidden) vectors of the places, with that of the first token type, the only one."""
        shape, name = self._shape, "embeddings.token_type_embeddings.weight"
        positions = self._weight("embeddings.position_embeddings.weight", shape.positions + shape.offset, shape.hidden)
        types = self._weights.get(self._prefix + name)
        used = positions[shape.offset :]
        return used if types is None else used + self._weight(name, len(types), shape.hidden)[0]

    def layer(self, x: str, number: int) -> str:
        """Add one layer: attention and feed-forward, each with a residual and a normalisation."""
        graph, shape, to = self.graph, self._shape, f"layer{number}_"
        seen = []
        for part in ("query", "key", "value"):
            product = self._product(part, number, x, shape.hidden, shape.hidden)
            seen.append(graph.node("Reshape", [product, "by_text"], f"{to}{part}_3d"))
        attended = graph.node(
            "MultiHeadAttention", [*seen, "", "mask"], f"{to}attended_3d", domain=_CONTRIB, num_heads=shape.heads
        )
        rows = graph.node("Reshape", [attended, "rows"], f"{to}attended_rows")
        x = self._residual("attended", number, self._product("attended", number, rows, shape.hidden, shape.hidden), x)
        return self._residual("outer", number, self._feed_forward(number, x), x)

    def _feed_forward(self, number: int, x: str) -> str:
        shape, fused = self._shape, _FUSED.get(self._shape.activation)
        inner = self._product("inner", number, x, shape.inner, shape.hidden, biased=fused is None)
        if fused is None:
            plain, domain = ("Gelu", _CONTRIB) if shape.activation == "gelu" else ("Relu", "")
            active = self.graph.node(plain, [inner], f"layer{number}_active", domain=domain)
        else:  # these add the bias themselves
            bias = self.graph.array(f"layer{number}_inner_bias", self._bias("inner", number, shape.inner))
            active = self.graph.node(fused, [inner, bias], f"layer{number}_active", domain=_CONTRIB)
        return self._product("outer", number, active, shape.hidden, shape.inner)

    def _product(self, part: str, number: int, x: str, n: int, k: int, *, biased: bool = True) -> str:
        weight = self._weight(f"{self._names[part].format(number)}.weight", n, k)
        bias = self._bias(part, number, n) if biased else None
        return self._linear(self.graph, f"layer{number}_{part}", x, weight, bias)

    def _bias(self, part: str, number: int, n: int) -> NDArray[np.float32]:
        return self._weight(f"{self._names[part].format(number)}.bias", n)

    def _residual(self, part: str, number: int, y: str, x: str) -> str:
        total = self.graph.node("Add", [y, x], f"layer{number}_{part}_sum")
        return self._norm(self._names[f"{part}_norm"].format(number), total, f"layer{number}_{part}_norm")

    def _norm(self, weights: str, x: str, name: str) -> str:
        scale = self.graph.array(f"{name}_scale", self._weight(f"{weights}.weight", self._shape.hidden))
        shift = self.graph.array(f"{name}_shift", self._weight(f"{weights}.bias", self._shape.hidden))
        return self.graph.node("LayerNormalization", [x, scale, shift], name, axis=-1, epsilon=self._shape.epsilon)

    def pool(self, x: str, pooling: str) -> None:
        """Add the output: the mean over the tokens of a text, or its first token."""
        graph = self.graph
        last = graph.node("Reshape", [x, "by_text"], "last")
        if pooling == "cls":
            graph.constant("first", np.array(0, dtype=np.int64))
            graph.node("Gather", [last, "first"], "pooled", axis=1)
            return
        # The sum is enough: rows are scaled to unit length afterwards.
        mask = graph.node("Unsqueeze", [graph.node("Cast", ["mask"], "mask_float", to=1), "one"], "mask_rows")
        graph.node("Squeeze", [graph.node("MatMul", [mask, last], "sums"), "one"], "pooled")
