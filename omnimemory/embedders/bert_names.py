"""How the tensors of BERT-class encoders are called in their files: BERT and RoBERTa one way, DistilBERT another."""

from __future__ import annotations

from collections.abc import Collection, Mapping

__all__ = ["part_names", "prefix_of"]

_BERT = {
    "query": "encoder.layer.{}.attention.self.query",
    "key": "encoder.layer.{}.attention.self.key",
    "value": "encoder.layer.{}.attention.self.value",
    "attended": "encoder.layer.{}.attention.output.dense",
    "attended_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "inner": "encoder.layer.{}.intermediate.dense",
    "outer": "encoder.layer.{}.output.dense",
    "outer_norm": "encoder.layer.{}.output.LayerNorm",
}
_DISTILBERT = {
    "query": "transformer.layer.{}.attention.q_lin",
    "key": "transformer.layer.{}.attention.k_lin",
    "value": "transformer.layer.{}.attention.v_lin",
    "attended": "transformer.layer.{}.attention.out_lin",
    "attended_norm": "transformer.layer.{}.sa_layer_norm",
    "inner": "transformer.layer.{}.ffn.lin1",
    "outer": "transformer.layer.{}.ffn.lin2",
    "outer_norm": "transformer.layer.{}.output_layer_norm",
}
_PREFIXES = ("", "bert.", "roberta.", "distilbert.", "model.")


def part_names(kind: str) -> Mapping[str, str]:
    """Return the name of each part of a layer, with ``{}`` for the number of the layer."""
    return _DISTILBERT if kind == "distilbert" else _BERT


def prefix_of(names: Collection[str]) -> str:
    """Return what stands before every tensor's name in this file."""
    return next((prefix for prefix in _PREFIXES if f"{prefix}embeddings.word_embeddings.weight" in names), "")
