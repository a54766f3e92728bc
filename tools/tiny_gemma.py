"""A small EmbeddingGemma with random weights, the same for the same seed, in a folder as sentence-transformers has it.

Eight layers, of which the sixth sees everything and the others what is less than nine tokens away; three heads that
share keys and values; two dense layers behind the mean; prompts. Its tokenizer works as Gemma's does: spaces become
signs, letters are merged in pairs, bytes stand for what is unknown.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["GEMMA_TEXTS", "write_safetensors", "write_tiny_gemma"]

GEMMA_TEXTS = (
    "git log",
    "undo the last commit, and keep what was changed in the files",
    "a",
    "Überraschung: 東京 🦄 naïve café",
    "find . -name '*.py' -mtime -7 -print0 | xargs -0 grep -l TODO",
    "the line that nobody wrote " * 6,
)
"""Texts of a few to about 170 tokens, far more than the window."""

_HIDDEN, _LAYERS, _HEADS, _SHARED, _SIZE, _INNER, _WIDE = 96, 8, 3, 1, 32, 128, 192
_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")
_MERGES = ("t h", "th e", "▁ the", "g i", "gi t", "l o", "▁ lo", "n d", "e r", "i n", "c o", "co m", "com m", "i t")


def write_tiny_gemma(folder: Path, *, seed: int = 11, kind: str = "F32", max_tokens: int = 256) -> Path:
    """Write a model folder and return it; ``kind`` is that of its weights, ``F32`` or ``BF16``."""
    for part in ("1_Pooling", "2_Dense", "3_Dense"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    _write(folder / "config.json", _config(max_tokens))
    _write(folder / "tokenizer.json", _tokenizer())
    _write(folder / "tokenizer_config.json", _tokenizer_config(max_tokens))
    _write(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})
    _write(
        folder / "config_sentence_transformers.json",
        {
            "prompts": {"query": "task: search result | query: ", "document": "title: none | text: "},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )
    _write(folder / "modules.json", _modules())
    pooling = {"word_embedding_dimension": _HIDDEN, "pooling_mode_mean_tokens": True, "include_prompt": True}
    _write(folder / "1_Pooling" / "config.json", pooling)
    dice = np.random.default_rng(seed)
    write_safetensors(folder / "model.safetensors", _tensors(dice), kind)
    for number, (out, into) in enumerate(((_WIDE, _HIDDEN), (_HIDDEN, _WIDE)), 2):
        head = {"in_features": into, "out_features": out, "bias": False}
        identity = {"activation_function": "torch.nn.modules.linear.Identity"}
        _write(folder / f"{number}_Dense" / "config.json", head | identity)
        weight = _matrix(dice, out, into, into**-0.5)
        write_safetensors(folder / f"{number}_Dense" / "model.safetensors", {"linear.weight": weight}, kind)
    return folder


def write_safetensors(path: Path, tensors: dict[str, NDArray[Any]], kind: str = "F32") -> None:
    """Write tensors; floats as ``kind``, integers as they are."""
    header, parts, place = {}, [], 0
    for name, tensor in tensors.items():
        held, data = ("U32", tensor.tobytes()) if tensor.dtype == np.uint32 else (kind, _as(tensor, kind))
        header[name] = {"dtype": held, "shape": list(tensor.shape), "data_offsets": [place, place + len(data)]}
        parts.append(data)
        place += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def _as(tensor: NDArray[Any], kind: str) -> bytes:
    if kind == "F16":
        return tensor.astype("<f2").tobytes()
    if kind == "F32":
        return tensor.astype("<f4").tobytes()
    bits = tensor.astype("<f4").view("<u4")
    nearest = bits + 0x7FFF + ((bits >> 16) & 1)  # to even, as everybody rounds
    return (nearest >> 16).astype("<u2").tobytes()


def _config(max_tokens: int) -> dict[str, Any]:
    return {
        "architectures": ["Gemma3TextModel"],
        "model_type": "gemma3_text",
        "vocab_size": len(_vocabulary()),
        "hidden_size": _HIDDEN,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _SHARED,
        "head_dim": _SIZE,
        "intermediate_size": _INNER,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": max_tokens,
        "rms_norm_eps": 1e-6,
        "query_pre_attn_scalar": 48,  # not the size of a head, so that the two cannot be mixed up
        "sliding_window": 16,
        "_sliding_window_pattern": 6,
        "layer_types": ["sliding_attention" if (n + 1) % 6 else "full_attention" for n in range(_LAYERS)],
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": None,
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "use_bidirectional_attention": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
        "dtype": "float32",
    }


def _modules() -> list[dict[str, Any]]:
    kinds = ("Transformer", "Pooling", "Dense", "Dense", "Normalize")
    return [
        {
            "idx": number,
            "name": str(number),
            "path": "" if kind == "Transformer" else f"{number}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for number, kind in enumerate(kinds)
    ]


def _write(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")


def _vocabulary() -> list[str]:
    letters = [chr(code) for code in range(33, 127)] + ["▁", "ä", "é", "ü", "東"]
    merged = [merge.replace(" ", "") for merge in _MERGES]
    return [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *merged]


def _tokenizer() -> dict[str, Any]:
    ids = {token: number for number, token in enumerate(_vocabulary())}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    both = [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": ids[name], "content": name, **flags} for name in _SPECIAL],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*both, {"SpecialToken": {"id": "<eos>", "type_id": 0}}],
            "pair": [*both, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in ("<bos>", "<eos>")},
        },
        "decoder": {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": ids,
            "merges": [merge.split(" ") for merge in _MERGES],
        },
    }


def _tokenizer_config(max_tokens: int) -> dict[str, Any]:
    named = {f"{name.strip('<>')}_token": name for name in _SPECIAL}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_tokens,
        "padding_side": "right",
    } | named


def _tensors(dice: np.random.Generator) -> dict[str, NDArray[Any]]:
    tensors = {"embed_tokens.weight": _matrix(dice, len(_vocabulary()), _HIDDEN, 0.05), "norm.weight": _norm(dice)}
    sizes = {
        "self_attn.q_proj": (_HEADS * _SIZE, _HIDDEN),
        "self_attn.k_proj": (_SHARED * _SIZE, _HIDDEN),
        "self_attn.v_proj": (_SHARED * _SIZE, _HIDDEN),
        "self_attn.o_proj": (_HIDDEN, _HEADS * _SIZE),
        "mlp.gate_proj": (_INNER, _HIDDEN),
        "mlp.up_proj": (_INNER, _HIDDEN),
        "mlp.down_proj": (_HIDDEN, _INNER),
    }
    norms = ("input", "post_attention", "pre_feedforward", "post_feedforward")
    for number in range(_LAYERS):
        layer = f"layers.{number}"
        for part, (rows, columns) in sizes.items():
            tensors[f"{layer}.{part}.weight"] = _matrix(dice, rows, columns, 2 * columns**-0.5)
        for part in norms:
            tensors[f"{layer}.{part}_layernorm.weight"] = _norm(dice)
        for part in ("q", "k"):
            tensors[f"{layer}.self_attn.{part}_norm.weight"] = _norm(dice, _SIZE)
    return tensors


def _matrix(dice: np.random.Generator, rows: int, columns: int, scale: float) -> NDArray[Any]:
    return (scale * dice.standard_normal((rows, columns))).astype(np.float32)


def _norm(dice: np.random.Generator, size: int = _HIDDEN) -> NDArray[Any]:
    return (0.3 * dice.standard_normal(size)).astype(np.float32)
