"""The ONNX graph of a BERT-class encoder, written from its weights.

The architecture is that of BERT (Devlin et al. 2018), with the variants of RoBERTa (positions begin later) and
DistilBERT (other names, no token types). Attention, Gelu and integer products are the fused operators that ONNX
Runtime documents in its ContribOperators.md. ``LayerNormalization`` after a plain addition is used, not the fused
``SkipLayerNormalization``, which took a seventh of the time with the runtime of this writing. So is ``Gelu`` after a
bias, and not ``BiasGelu``: 2.2 ms for 504 tokens of MiniLM, where an addition and ``Gelu`` take 1.5 and say the same.

What is added to a product is added in as few steps as there can be, because each of them writes all values anew:

- Attention gets no mask. With one the runtime takes another way, which costs a third more. Instead each head's queries
  and keys have one more component: 1 for a query, 0 for the key of a token, and for padding a value so far below zero
  that its share is exactly zero. So a text has the same vector beside longer ones, in int8 as well.
- Keys have no bias: it adds the same to all scores of a query, and a softmax does not change by that (Vaswani et al.
  2017, equation 1).
- The bias of what a residual is added to is in the residual: the normalisation before it has added it to its shift.
  Layers that read these rows take its product off their own bias.

In turn with the code before, MiniLM had 1.02 to 1.08 of its speed in float32 and, with fewer steps to round rows, .99
to 1.21 in int8: more where neighbours used the memory as well.

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
from omnimemory.embedders.linear_layers import Plus
from omnimemory.embedders.onnx_format import Graph
from omnimemory.errors import EmbedderError

__all__ = ["EncoderModel", "Linear", "encoder_model"]

_CONTRIB = "com.microsoft"
_UNSEEN = -1e5
"""What a score of padding is lowered by: its exponential is zero."""
_LOWEST = -0.1701
"""No activation is below this: the least value of Gelu is -.16997, that of its approximation by tanh -.17004."""
_FUSED = {"gelu_new": "FastGelu", "gelu_pytorch_tanh": "FastGelu"}

Weights = Mapping[str, NDArray[np.float32]]


class Linear(Protocol):
    """Adds ``x @ weight.T + plus`` to a graph."""

    def __call__(
        self, graph: Graph, name: str, x: str, weight: NDArray[np.float32], plus: Plus, lowest: float = ...
    ) -> str:
        """Return the name of the result (tokens, n); ``weight`` is (n, k), ``plus`` (n,) or the name of values.

        No value of ``x`` is below ``lowest``.
        """


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
        """Add the sum of word and position vectors (tokens, hidden), normalised, with the first layer's bias."""
        graph, hidden = self.graph, self._shape.hidden
        graph.array("positions", self._positions())
        for name, value in (("zero", [0]), ("one", [1]), ("rows", [-1, hidden]), ("hidden", [hidden])):
            graph.constant(name, np.array(value, dtype=np.int64))
        sizes = graph.node("Shape", ["mask"], "sizes")
        length = graph.node("Gather", [sizes, "one"], "length")
        for name in ("hidden", "wide"):
            graph.node("Concat", [sizes, name], f"{name}_by_text", axis=0)
        self._hide_padding()
        position = graph.node("Slice", ["positions", "zero", length], "position")
        both = graph.node("Add", ["words", position], "embedded")
        rows = graph.node("Reshape", [both, "rows"], "embedded_rows")
        return self._norm("embeddings.LayerNorm", rows, "start", self._bias("attended", 0))

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

    def _hide_padding(self) -> None:
        """Add the values (tokens, wide) that keys get: nothing for a token, and for padding what no query sees."""
        shape, graph = self._shape, self.graph
        size = shape.hidden // shape.heads
        unseen = np.zeros((shape.heads, size + 1), dtype=np.float32)
        unseen[:, size] = _UNSEEN
        graph.constant("wide", np.array([unseen.size], dtype=np.int64))
        graph.constant("unseen", unseen.reshape(1, -1))
        graph.constant("column", np.array([-1, 1], dtype=np.int64))
        graph.constant("whole", np.array(1, dtype=np.float32))
        token = graph.node("Reshape", [graph.node("Cast", ["mask"], "mask_float", to=1), "column"], "mask_column")
        padding = graph.node("Sub", ["whole", token], "padding")
        graph.node("Mul", [padding, "unseen"], "hidden_keys")

    def layer(self, x: str, number: int) -> str:
        """Add one layer: attention and feed-forward, each with a residual and a normalisation.

        ``x`` holds the bias of what is added to it already, and so does what is returned.
        """
        graph, shape, to = self.graph, self._shape, f"layer{number}_"
        held = self._bias("attended", number)
        query, key, value = (self._weight_of(part, number) for part in ("query", "key", "value"))
        bias = self._bias("query", number) - query @ held
        seen = []
        for part, weight, plus, shaped in (
            ("query", self._widened(query), self._widened(bias, 1), "wide_by_text"),
            ("key", self._widened(key), "hidden_keys", "wide_by_text"),
            ("value", value, self._bias("value", number) - value @ held, "hidden_by_text"),
        ):
            product = self._linear(graph, f"{to}{part}", x, weight, plus)
            seen.append(graph.node("Reshape", [product, shaped], f"{to}{part}_3d"))
        attended = graph.node(
            "MultiHeadAttention",
            seen,
            f"{to}attended_3d",
            domain=_CONTRIB,
            num_heads=shape.heads,
            scale=(shape.hidden // shape.heads) ** -0.5,
        )
        rows = graph.node("Reshape", [attended, "rows"], f"{to}attended_rows")
        total = self._linear(graph, f"{to}attended", rows, self._weight_of("attended", number), x)
        x = self._after("attended", number, total, self._bias("outer", number))
        following = self._bias("attended", number + 1) if number + 1 < shape.layers else None
        return self._after("outer", number, self._feed_forward(number, x), following)

    def _feed_forward(self, number: int, x: str) -> str:
        graph, to, fused = self.graph, f"layer{number}_", _FUSED.get(self._shape.activation)
        weight = self._weight_of("inner", number)
        bias = self._bias("inner", number) - weight @ self._bias("outer", number)
        inner = self._linear(graph, f"{to}inner", x, weight, bias if fused is None else None)
        if fused is None:
            plain, domain = ("Gelu", _CONTRIB) if self._shape.activation == "gelu" else ("Relu", "")
            active = graph.node(plain, [inner], f"{to}active", domain=domain)
        else:  # these add the bias themselves
            active = graph.node(fused, [inner, graph.array(f"{to}inner_bias", bias)], f"{to}active", domain=_CONTRIB)
        return self._linear(graph, f"{to}outer", active, self._weight_of("outer", number), x, _LOWEST)

    def _weight_of(self, part: str, number: int) -> NDArray[np.float32]:
        shape = self._shape
        n, k = {"inner": (shape.inner, shape.hidden), "outer": (shape.hidden, shape.inner)}.get(
            part, (shape.hidden, shape.hidden)
        )
        return self._weight(f"{self._names[part].format(number)}.weight", n, k)

    def _bias(self, part: str, number: int) -> NDArray[np.float32]:
        size = self._shape.inner if part == "inner" else self._shape.hidden
        return self._weight(f"{self._names[part].format(number)}.bias", size)

    def _widened(self, rows: NDArray[np.float32], last: float = 0) -> NDArray[np.float32]:
        """Return rows (hidden, ...) with one more for each head, after its own."""
        by_head = rows.reshape(self._shape.heads, -1, *rows.shape[1:])
        more = np.full((len(by_head), 1, *rows.shape[1:]), last, dtype=np.float32)
        return np.concatenate([by_head, more], axis=1).reshape(-1, *rows.shape[1:])

    def _after(self, part: str, number: int, total: str, held: NDArray[np.float32] | None) -> str:
        return self._norm(self._names[f"{part}_norm"].format(number), total, f"layer{number}_{part}_norm", held)

    def _norm(self, weights: str, x: str, name: str, held: NDArray[np.float32] | None) -> str:
        """Add a normalisation, and to its result the bias that is ``held``."""
        shift = self._weight(f"{weights}.bias", self._shape.hidden)
        given = [
            x,
            self.graph.array(f"{name}_scale", self._weight(f"{weights}.weight", self._shape.hidden)),
            self.graph.array(f"{name}_shift", shift if held is None else shift + held),
        ]
        return self.graph.node("LayerNormalization", given, name, axis=-1, epsilon=self._shape.epsilon)

    def pool(self, x: str, pooling: str) -> None:
        """Add the output: the mean over the tokens of a text, or its first token."""
        graph = self.graph
        last = graph.node("Reshape", [x, "hidden_by_text"], "last")
        if pooling == "cls":
            graph.constant("first", np.array(0, dtype=np.int64))
            graph.node("Gather", [last, "first"], "pooled", axis=1)
            return
        # The sum is enough: rows are scaled to unit length afterwards.
        mask = graph.node("Unsqueeze", ["mask_float", "one"], "mask_rows")
        graph.node("Squeeze", [graph.node("MatMul", [mask, last], "sums"), "one"], "pooled")
