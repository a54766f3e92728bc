"""Gemma 3 as an encoder in MLX: every token sees those before and after it.

The architecture is that of the Gemma 3 report (2025) with the attention of EmbeddingGemma (2025); order of the norms,
windows and scales as in transformers' ``modeling_gemma3.py``, which our vectors are compared with. Norms multiply by
one more than their weight, and the words by the root of the number of dimensions, which is not rounded here.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from omnimemory.embedders.mlx.folder import Gemma3Shape
from omnimemory.embedders.mlx.weights import Apply, Weights

__all__ = ["Gemma3"]

_PREFIXES = ("", "model.", "language_model.model.")


class _Layer(NamedTuple):
    sees_all: bool
    before: Apply
    query: Apply
    key: Apply
    value: Apply
    query_norm: Apply
    key_norm: Apply
    attended: Apply
    after: Apply
    before_inner: Apply
    gate: Apply
    up: Apply
    down: Apply
    after_inner: Apply


class Gemma3:
    """An encoder; called with ids (texts, length) and a mask (texts, length) it returns (texts, length, hidden).

    Raises :class:`EmbedderError` for a tensor that is missing or of another shape.
    """

    def __init__(self, shape: Gemma3Shape, weights: Weights) -> None:
        self._mx = weights.mx
        self._shape = shape
        weights.below(next((one for one in _PREFIXES if f"{one}embed_tokens.weight" in weights.names), ""))
        self._words, self.vocabulary = weights.table("embed_tokens", shape.hidden)
        self._layers = [self._layer(weights, number) for number in range(len(shape.sees_all))]
        self._norm = self._rms_norm(weights, "norm.weight", shape.hidden)

    def __call__(self, ids: Any, mask: Any) -> Any:
        """Return the last layer's vectors; ``mask`` is true where there is a token."""
        words = self._words(ids)
        x = (words.astype(self._mx.float32) * math.sqrt(self._shape.hidden)).astype(words.dtype)
        every, near = self._seen(mask)
        for layer in self._layers:
            x = x + layer.after(self._attend(layer, layer.before(x), every if layer.sees_all else near))
            inner = layer.before_inner(x)
            x = x + layer.after_inner(layer.down(self._active(layer.gate(inner)) * layer.up(inner)))
        return self._norm(x)

    def _layer(self, weights: Weights, number: int) -> _Layer:
        shape, layer = self._shape, f"layers.{number}"
        all_heads, shared = shape.heads * shape.size, shape.shared * shape.size

        def attention(name: str, n: int, k: int) -> Apply:
            return weights.linear(f"{layer}.self_attn.{name}", n, k, biased=shape.biased)

        def feed_forward(name: str, n: int, k: int) -> Apply:
            return weights.linear(f"{layer}.mlp.{name}", n, k, biased=False)

        def norm(name: str, size: int = shape.hidden) -> Apply:
            return self._rms_norm(weights, f"{layer}.{name}.weight", size)

        return _Layer(
            sees_all=shape.sees_all[number],
            before=norm("input_layernorm"),
            query=attention("q_proj", all_heads, shape.hidden),
            key=attention("k_proj", shared, shape.hidden),
            value=attention("v_proj", shared, shape.hidden),
            query_norm=norm("self_attn.q_norm", shape.size),
            key_norm=norm("self_attn.k_norm", shape.size),
            attended=attention("o_proj", shape.hidden, all_heads),
            after=norm("post_attention_layernorm"),
            before_inner=norm("pre_feedforward_layernorm"),
            gate=feed_forward("gate_proj", shape.inner, shape.hidden),
            up=feed_forward("up_proj", shape.inner, shape.hidden),
            down=feed_forward("down_proj", shape.hidden, shape.inner),
            after_inner=norm("post_feedforward_layernorm"),
        )

    def _rms_norm(self, weights: Weights, name: str, size: int) -> Apply:
        mx, epsilon, scale = self._mx, self._shape.epsilon, 1 + weights.array(name, size)
        return lambda x: mx.fast.rms_norm(x, scale, epsilon)

    def _seen(self, mask: Any) -> tuple[Any, Any]:
        """Return which keys (texts, 1, 1 or length, length) a query sees, in layers that see all and in the others."""
        mx, length, window = self._mx, mask.shape[1], self._shape.window
        every = mask[:, None, None, :]
        if length <= window:
            return every, every
        places = mx.arange(length)
        near = mx.abs(places[:, None] - places[None, :]) < window
        # Padding far from every token would see nothing, and the mean over nothing is no number, which spreads.
        return every, every & (near | ~mask[:, None, :, None])

    def _attend(self, layer: _Layer, x: Any, mask: Any) -> Any:
        mx, shape = self._mx, self._shape
        texts, length, _ = x.shape
        base = shape.bases[0 if layer.sees_all else 1]

        def heads(rows: Any, count: int) -> Any:
            return rows.reshape(texts, length, count, shape.size)

        def placed(rows: Any) -> Any:
            return mx.fast.rope(
                rows.transpose(0, 2, 1, 3), shape.size, traditional=False, base=base, scale=1.0, offset=0
            )

        query = placed(layer.query_norm(heads(layer.query(x), shape.heads)))
        key = placed(layer.key_norm(heads(layer.key(x), shape.shared)))
        value = heads(layer.value(x), shape.shared).transpose(0, 2, 1, 3)
        seen = mx.fast.scaled_dot_product_attention(query, key, value, scale=shape.scale, mask=mask)
        return layer.attended(seen.transpose(0, 2, 1, 3).reshape(texts, length, shape.heads * shape.size))

    def _active(self, x: Any) -> Any:
        return 0.5 * x * (1 + self._mx.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
