"""What a model folder says, for MLX: BERT-class encoders and Gemma 3 that reads in both directions, with dense layers.

EmbeddingGemma is a ``gemma3_text`` with ``use_bidirectional_attention``: every layer sees what comes before and after a
token, most of them within a window, of which the configuration's number is the double (transformers'
``configuration_gemma3.py``: half of it and one more, exclusive). Two dense layers follow the mean of the tokens. They
stand in folders of their own, as sentence-transformers saves them, or as ``dense.0``, ``dense.1`` beside the rest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnimemory.embedders.encoder_folder import (
    ARCHITECTURES,
    PARTS,
    EncoderFolder,
    read_encoder_folder,
    read_json,
    whole_number,
)
from omnimemory.embedders.tensors import Tensors
from omnimemory.errors import EmbedderError

__all__ = ["GEMMA", "Dense", "Gemma3Shape", "MlxFolder", "read_mlx_folder"]

GEMMA = "gemma3_text"

_FLOATS = ("F32", "F16", "BF16")
_STORED = {"F16": 2, "BF16": 2}
_COMPUTED = {"float32": 4, "bfloat16": 2}
_TABLES = ("embed_tokens.weight", "word_embeddings.weight")
_ACTIVATIONS = ("Identity", "Tanh")


@dataclass(frozen=True, slots=True)
class Gemma3Shape:
    """The sizes of a Gemma 3. A layer of which ``sees_all`` is false sees what is less than ``window`` tokens away.

    ``bases`` are those of the rotary positions, of layers that see all and of the others.
    """

    hidden: int
    heads: int
    shared: int
    size: int
    inner: int
    epsilon: float
    scale: float
    window: int
    sees_all: tuple[bool, ...]
    bases: tuple[float, float]
    biased: bool


@dataclass(frozen=True, slots=True)
class Dense:
    """A dense layer behind the pooling: the file and name of its tensors, its sizes, what it does at the end."""

    weights: Path
    name: str
    out: int
    into: int
    biased: bool
    activation: str


@dataclass(frozen=True, slots=True)
class MlxFolder:
    """A folder that MLX can run; ``gemma`` is ``None`` for the encoders whose shape the encoder's own folder has.

    ``quantisation`` says how matrices are packed, if they are.
    """

    encoder: EncoderFolder
    gemma: Gemma3Shape | None
    dense: tuple[Dense, ...]
    quantisation: Mapping[str, Any]

    @property
    def dim(self) -> int:
        """Components of a vector."""
        return self.dense[-1].out if self.dense else self.encoder.hidden

    @property
    def weights(self) -> list[Path]:
        """The files with tensors."""
        return list(dict.fromkeys([self.encoder.weights, *(head.weights for head in self.dense)]))

    @property
    def files(self) -> list[Path]:
        """Every file that decides what vectors come out, but for the small configuration files."""
        return [*self.weights, self.encoder.tokenizer]

    def held(self, precision: str) -> int:
        """Return the bytes of the weights in memory: floats as they are computed with, tables of words as in the file.

        Raises :class:`EmbedderError` for a file that is missing or cut off.
        """
        total = 0
        for path in self.weights:
            tensors = Tensors(path)
            for name in tensors:
                kind, count = tensors.kind(name), math.prod(tensors.shape(name))
                as_stored = kind not in _FLOATS or name.endswith(_TABLES)
                total += count * (_STORED.get(kind, 4) if as_stored else _COMPUTED[precision])
        return total


def read_mlx_folder(path: Path, max_tokens: int | None = None) -> MlxFolder:
    """Return what the folder holds. Raises :class:`EmbedderError` naming the file that is missing or not understood."""
    kinds, parts = (*ARCHITECTURES, GEMMA), (*PARTS, "Dense")
    encoder = read_encoder_folder(path, max_tokens, ready=False, kinds=kinds, parts=parts)
    dense = _dense(path, encoder)
    config = read_json(path / "config.json")
    quantisation = _quantisation(path, config)
    if encoder.shape is not None:
        return MlxFolder(encoder, None, dense, quantisation)
    if not dense and not (path / "modules.json").exists():
        raise EmbedderError(
            f"{path} has no modules.json, which says what follows the layers of a Gemma. Take the folder with all that "
            "is in it, 1_Pooling, 2_Dense and 3_Dense included."
        )
    return MlxFolder(encoder, _gemma(path, config), dense, quantisation)


def _quantisation(path: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
    found, foreign = config.get("quantization") or {}, config.get("quantization_config") or {}
    if not isinstance(found, dict) or (not found and foreign):
        raise EmbedderError(
            f"The model in {path} is quantised in a way that MLX does not know (quantization_config in config.json). "
            "Take one that was converted for MLX, or one in float32 or bfloat16."
        )
    return found


def _gemma(path: Path, config: Mapping[str, Any]) -> Gemma3Shape:
    _check_gemma(path, config)
    layers = whole_number(path, config, "num_hidden_layers")
    window = whole_number(path, config, "sliding_window")
    return Gemma3Shape(
        hidden=whole_number(path, config, "hidden_size"),
        heads=whole_number(path, config, "num_attention_heads"),
        shared=whole_number(path, config, "num_key_value_heads"),
        size=whole_number(path, config, "head_dim"),
        inner=whole_number(path, config, "intermediate_size"),
        epsilon=float(config.get("rms_norm_eps", 1e-6)),
        scale=whole_number(path, config, "query_pre_attn_scalar") ** -0.5,
        window=window // 2 + 1,
        sees_all=_sees_all(path, config, layers),
        bases=_bases(path, config),
        biased=bool(config.get("attention_bias", False)),
    )


def _check_gemma(path: Path, config: Mapping[str, Any]) -> None:
    found = config.get("hidden_activation", config.get("hidden_act", "gelu_pytorch_tanh"))
    if config.get("use_bidirectional_attention") is not True:
        raise EmbedderError(
            f"The model in {path} reads from left to right only (use_bidirectional_attention is not true): it is one "
            "that writes, not one for embedding."
        )
    if found != "gelu_pytorch_tanh" or config.get("attn_logit_softcapping") is not None:
        raise EmbedderError(
            f"The model in {path} cannot be used: its activation is {found!r} and its attn_logit_softcapping is "
            f"{config.get('attn_logit_softcapping')!r}; known are 'gelu_pytorch_tanh' and null."
        )


def _sees_all(path: Path, config: Mapping[str, Any], layers: int) -> tuple[bool, ...]:
    kinds = config.get("layer_types")
    if kinds is None:
        pattern = whole_number(
            path, {"_sliding_window_pattern": 6, **config}, "sliding_window_pattern", "_sliding_window_pattern"
        )
        return tuple((number + 1) % pattern == 0 for number in range(layers))
    known = {"full_attention": True, "sliding_attention": False}
    if not isinstance(kinds, list) or len(kinds) != layers or not {str(kind) for kind in kinds} <= known.keys():
        raise EmbedderError(f"{path / 'config.json'}: layer_types must name {layers} layers: {', '.join(known)}.")
    return tuple(known[kind] for kind in kinds)


def _bases(path: Path, config: Mapping[str, Any]) -> tuple[float, float]:
    """Return the bases of the rotary positions, as older and as newer configurations write them."""
    given = config.get("rope_parameters") or {}
    every, near = given.get("full_attention") or {}, given.get("sliding_attention") or {}
    kinds = {str(one.get("rope_type", "default")) for one in (every, near)}
    if config.get("rope_scaling") is not None or kinds != {"default"}:
        raise EmbedderError(f"The model in {path} stretches its positions (rope_scaling), which is not known here.")
    return (
        float(every.get("rope_theta", config.get("rope_theta", 1e6))),
        float(near.get("rope_theta", config.get("rope_local_base_freq", 1e4))),
    )


def _dense(path: Path, encoder: EncoderFolder) -> tuple[Dense, ...]:
    inside = Tensors(encoder.weights)
    if not (path / "modules.json").exists():
        count = sum(1 for number in range(8) if f"dense.{number}.weight" in inside)
        return _inside(encoder, inside, [{"bias": f"dense.{n}.bias" in inside} for n in range(count)])
    modules = json.loads((path / "modules.json").read_bytes())  # read before, and found to be in order
    named = [str(one.get("path", "")) for one in modules if str(one["type"]).endswith("Dense")]
    if any(Path(name).name != name for name in named):
        raise EmbedderError(f"{path / 'modules.json'} names a folder that is not in this one. Pull the model again.")
    folders = [path / name for name in named]
    settings = [read_json(folder / "config.json") if folder != path else {} for folder in folders]
    if folders and "dense.0.weight" in inside:
        return _inside(encoder, inside, settings)
    return tuple(
        Dense(
            weights=folder / "model.safetensors",
            name="linear",
            out=whole_number(folder, given, "out_features"),
            into=whole_number(folder, given, "in_features"),
            biased=given.get("bias", True) is True,
            activation=_activation(folder, given),
        )
        for folder, given in zip(folders, settings, strict=True)
    )


def _inside(encoder: EncoderFolder, inside: Tensors, settings: Sequence[Mapping[str, Any]]) -> tuple[Dense, ...]:
    """Return the dense layers that stand beside the rest, ``dense.0`` first."""
    found, into = [], encoder.hidden
    for number, given in enumerate(settings):
        name = f"dense.{number}"
        if f"{name}.weight" not in inside:
            raise EmbedderError(f"{encoder.weights} has no tensor {name}.weight. Pull the model again.")
        out = inside.shape(f"{name}.weight")[0]
        biased = given.get("bias", False) is True
        found.append(Dense(encoder.weights, name, out, into, biased, _activation(encoder.path, given)))
        into = out
    return tuple(found)


def _activation(folder: Path, given: Mapping[str, Any]) -> str:
    name = str(given.get("activation_function", "Identity")).rpartition(".")[2]
    if name not in _ACTIVATIONS:
        raise EmbedderError(f"{folder}: the activation {name!r} is not known here; {', '.join(_ACTIVATIONS)} are.")
    return name
