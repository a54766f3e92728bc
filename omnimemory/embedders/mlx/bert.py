"""BERT-class encoders (Devlin et al. 2018) in MLX, with the variants of RoBERTa and DistilBERT."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from omnimemory.embedders.bert_names import part_names, prefix_of
from omnimemory.embedders.encoder_folder import Shape
from omnimemory.embedders.mlx.weights import Apply, Weights
from omnimemory.errors import EmbedderError

__all__ = ["Bert"]


class _Layer(NamedTuple):
    query: Apply
    key: Apply
    value: Apply
    attended: Apply
    attended_norm: Apply
    inner: Apply
    outer: Apply
    outer_norm: Apply


class Bert:
    """An encoder; called with ids (texts, length) and a mask (texts, length) it returns (texts, length, hidden).

    Raises :class:`EmbedderError` for a tensor that is missing or of another shape.
    """

    def __init__(self, shape: Shape, weights: Weights) -> None:
        self._mx = weights.mx
        self._shape = shape
        weights.below(prefix_of(weights.names))
        self._words, self.vocabulary = weights.table("embeddings.word_embeddings", shape.hidden)
        self._positions = _positions(shape, weights)
        self._norm = self._layer_norm(weights, "embeddings.LayerNorm")
        self._layers = [self._layer(weights, number) for number in range(shape.layers)]

    def __call__(self, ids: Any, mask: Any) -> Any:
        """Return the last layer's vectors; ``mask`` is true where there is a token."""
        x = self._norm(self._words(ids) + self._positions[: ids.shape[1]])
        for layer in self._layers:
            x = layer.attended_norm(x + layer.attended(self._attend(layer, x, mask[:, None, None, :])))
            x = layer.outer_norm(x + layer.outer(self._active(layer.inner(x))))
        return x

    def _layer(self, weights: Weights, number: int) -> _Layer:
        hidden, inner = self._shape.hidden, self._shape.inner
        names = {part: name.format(number) for part, name in part_names(self._shape.kind).items()}
        square = {part: weights.linear(names[part], hidden, hidden) for part in ("query", "key", "value", "attended")}
        return _Layer(
            **square,
            attended_norm=self._layer_norm(weights, names["attended_norm"]),
            inner=weights.linear(names["inner"], inner, hidden),
            outer=weights.linear(names["outer"], hidden, inner),
            outer_norm=self._layer_norm(weights, names["outer_norm"]),
        )

    def _layer_norm(self, weights: Weights, name: str) -> Apply:
        mx, hidden, epsilon = self._mx, self._shape.hidden, self._shape.epsilon
        scale, shift = weights.array(f"{name}.weight", hidden), weights.array(f"{name}.bias", hidden)
        return lambda x: mx.fast.layer_norm(x, scale, shift, epsilon)

    def _attend(self, layer: _Layer, x: Any, mask: Any) -> Any:
        texts, length, hidden = x.shape
        heads, size = self._shape.heads, hidden // self._shape.heads
        query, key, value = (
            part(x).reshape(texts, length, heads, size).transpose(0, 2, 1, 3)
            for part in (layer.query, layer.key, layer.value)
        )
        seen = self._mx.fast.scaled_dot_product_attention(query, key, value, scale=1 / math.sqrt(size), mask=mask)
        return seen.transpose(0, 2, 1, 3).reshape(texts, length, hidden)

    def _active(self, x: Any) -> Any:
        mx, kind = self._mx, self._shape.activation
        if kind == "relu":
            return mx.maximum(x, 0)
        if kind == "gelu":
            return x * (1 + mx.erf(x * math.sqrt(0.5))) * 0.5
        return 0.5 * x * (1 + mx.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _positions(shape: Shape, weights: Weights) -> Any:
    """Return the (positions, hidden) vectors of the places, with that of the first token type, the only one."""
    name = "embeddings.token_type_embeddings"
    every, rows = weights.table("embeddings.position_embeddings", shape.hidden)
    if rows != shape.positions + shape.offset:
        raise EmbedderError(f"The weights have {rows} positions, config.json {shape.positions + shape.offset}.")
    used = every(weights.mx.arange(shape.offset, rows))
    return used + weights.table(name, shape.hidden)[0](weights.mx.array([0])) if weights.has(f"{name}.weight") else used
