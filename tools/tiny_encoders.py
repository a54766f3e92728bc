"""Small encoders with random weights, the same for the same seed, in folders as Hugging Face lays them out.

They are what the tests run where no trained model is at hand, and what ``golden_vectors`` computes with torch. Their
tokenizer knows letters, digits, some signs and a few words.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["KINDS", "write_tiny_encoder"]

KINDS: dict[str, dict[str, Any]] = {
    "bert": {"model_type": "bert", "hidden_act": "gelu"},
    "bert-cls": {"model_type": "bert", "hidden_act": "gelu"},
    "bert-tanh": {"model_type": "bert", "hidden_act": "gelu_new", "layer_norm_eps": 1e-5},
    "roberta": {"model_type": "roberta", "hidden_act": "relu", "pad_token_id": 1},
    "distilbert": {"model_type": "distilbert", "activation": "gelu"},
}
"""Configurations by name; those ending in ``-cls`` pool by the first token."""

_HIDDEN, _LAYERS, _HEADS, _INNER, _POSITIONS = 64, 3, 4, 160, 66
_WORDS = (
    "git",
    "commit",
    "log",
    "the",
    "file",
    "list",
    "undo",
    "last",
    "delete",
    "folder",
    "who",
    "wrote",
    "line",
    "docker",
    "run",
    "python",
    "test",
    "word",
    "one",
    "two",
    "three",
    "four",
)
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def vocabulary() -> list[str]:
    """Return the tokens of every tiny encoder."""
    signs = [chr(code) for code in range(33, 127)] + list("äöüé東京\ufffd")
    pieces = [f"##{sign}" for sign in "abcdefghijklmnopqrstuvwxyz0123456789"]
    return list(dict.fromkeys((*_SPECIAL, *signs, *pieces, *_WORDS)))


def write_tiny_encoder(folder: Path, kind: str = "bert", *, seed: int = 7, max_tokens: int = 32) -> Path:
    """Write a model folder and return it."""
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    distil = KINDS[kind]["model_type"] == "distilbert"
    sizes = (_HIDDEN, _LAYERS, _HEADS, _INNER)
    names = (
        ("dim", "n_layers", "n_heads", "hidden_dim")
        if distil
        else ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    )
    config = {
        **dict(zip(names, sizes, strict=True)),
        "max_position_embeddings": _POSITIONS,
        "vocab_size": len(vocabulary()),
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        **KINDS[kind],
    }
    _write(folder / "config.json", config)
    _write(folder / "tokenizer.json", _tokenizer())
    _write(
        folder / "modules.json",
        [{"type": f"sentence_transformers.models.{name}"} for name in ("Transformer", "Pooling")],
    )
    cls = kind.endswith("-cls")
    _write(folder / "1_Pooling" / "config.json", {"pooling_mode_cls_token": cls, "pooling_mode_mean_tokens": not cls})
    _write(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})
    tensors = _distilbert(seed) if distil else _bert(seed)
    _write_safetensors(folder / "model.safetensors", tensors)
    return folder


def _write(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")


def _tokenizer() -> dict[str, Any]:
    ids = {token: number for number, token in enumerate(vocabulary())}
    return {
        "version": "1.0",
        # As published models have them: both must be ignored.
        "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {
            "strategy": {"Fixed": 8},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "added_tokens": [
            {
                "id": ids[name],
                "content": name,
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
            for name in _SPECIAL
        ],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", ids["[SEP]"]], "cls": ["[CLS]", ids["[CLS]"]]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
    }


def _bert(seed: int) -> dict[str, NDArray[np.float32]]:
    dice = np.random.default_rng(seed)
    tensors = {
        "embeddings.word_embeddings.weight": _matrix(dice, len(vocabulary()), _HIDDEN),
        "embeddings.position_embeddings.weight": _matrix(dice, _POSITIONS, _HIDDEN),
        "embeddings.token_type_embeddings.weight": _matrix(dice, 2, _HIDDEN),
        **_norm(dice, "embeddings.LayerNorm"),
    }
    for number in range(_LAYERS):
        layer = f"encoder.layer.{number}"
        for part in ("query", "key", "value"):
            tensors |= _linear(dice, f"{layer}.attention.self.{part}", _HIDDEN, _HIDDEN)
        tensors |= _linear(dice, f"{layer}.attention.output.dense", _HIDDEN, _HIDDEN)
        tensors |= _norm(dice, f"{layer}.attention.output.LayerNorm")
        tensors |= _linear(dice, f"{layer}.intermediate.dense", _INNER, _HIDDEN)
        tensors |= _linear(dice, f"{layer}.output.dense", _HIDDEN, _INNER)
        tensors |= _norm(dice, f"{layer}.output.LayerNorm")
    return tensors


def _distilbert(seed: int) -> dict[str, NDArray[np.float32]]:
    dice = np.random.default_rng(seed)
    tensors = {
        "embeddings.word_embeddings.weight": _matrix(dice, len(vocabulary()), _HIDDEN),
        "embeddings.position_embeddings.weight": _matrix(dice, _POSITIONS, _HIDDEN),
        **_norm(dice, "embeddings.LayerNorm"),
    }
    for number in range(_LAYERS):
        layer = f"transformer.layer.{number}"
        for part in ("q_lin", "k_lin", "v_lin", "out_lin"):
            tensors |= _linear(dice, f"{layer}.attention.{part}", _HIDDEN, _HIDDEN)
        tensors |= _norm(dice, f"{layer}.sa_layer_norm")
        tensors |= _linear(dice, f"{layer}.ffn.lin1", _INNER, _HIDDEN)
        tensors |= _linear(dice, f"{layer}.ffn.lin2", _HIDDEN, _INNER)
        tensors |= _norm(dice, f"{layer}.output_layer_norm")
    return tensors


def _matrix(dice: np.random.Generator, rows: int, columns: int, scale: float = 0.3) -> NDArray[np.float32]:
    return (scale * dice.standard_normal((rows, columns))).astype(np.float32)


def _linear(dice: np.random.Generator, name: str, rows: int, columns: int) -> dict[str, NDArray[np.float32]]:
    return {
        f"{name}.weight": _matrix(dice, rows, columns, 1.5 * columns**-0.5),
        f"{name}.bias": _matrix(dice, 1, rows, 0.1)[0],
    }


def _norm(dice: np.random.Generator, name: str) -> dict[str, NDArray[np.float32]]:
    return {
        f"{name}.weight": 1 + _matrix(dice, 1, _HIDDEN, 0.1)[0],
        f"{name}.bias": _matrix(dice, 1, _HIDDEN, 0.1)[0],
    }


def _write_safetensors(path: Path, tensors: dict[str, NDArray[np.float32]]) -> None:
    header, place = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [place, place + tensor.nbytes]}
        place += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(tensor.tobytes() for tensor in tensors.values()))
