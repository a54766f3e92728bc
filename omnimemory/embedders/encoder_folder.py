"""What a model folder says about its encoder, as Hugging Face and sentence-transformers lay it out.

``config.json`` has the architecture, ``modules.json`` and ``1_Pooling/config.json`` how token vectors become one,
``sentence_bert_config.json`` how many tokens are read, ``config_sentence_transformers.json`` the prompts. What is not
understood is an error that says so: a guessed pooling makes vectors that look right and find nothing.

``tokenizer.json`` brings a truncation and a padding of its own (MiniLM's cuts at 128 tokens, the model reads 256);
they are not used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnimemory.embedders.base import Role
from omnimemory.errors import EmbedderError

__all__ = [
    "ACTIVATIONS",
    "ARCHITECTURES",
    "PARTS",
    "EncoderFolder",
    "Shape",
    "read_encoder_folder",
    "read_json",
    "whole_number",
]

ARCHITECTURES = ("bert", "roberta", "xlm-roberta", "distilbert")
"""Kinds of config.json whose graph is written from the weights; others need a ready ``.onnx`` file."""

PARTS = ("Transformer", "Pooling", "Normalize")
"""Parts of a model that modules.json may name."""

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")

_GRAPHS = ("model.onnx", "onnx/model.onnx")
_MOST_JSON = 64 << 20
_MOST_TOKENS = 1_000_000  # tokenizers of models without a limit say 1e30


@dataclass(frozen=True, slots=True)
class Shape:
    """An encoder's sizes; ``offset`` is how many rows of the position table are not used."""

    kind: str
    hidden: int
    layers: int
    heads: int
    inner: int
    activation: str
    epsilon: float
    positions: int
    offset: int


@dataclass(frozen=True, slots=True)
class EncoderFolder:
    """A model folder: its files and how they are to be used.

    ``graph`` is a ready ``.onnx`` file, used where ``shape`` is ``None``: an architecture that is not written here, or
    no safetensors. ``max_tokens`` counts the special tokens.
    """

    path: Path
    shape: Shape | None
    hidden: int
    pooling: str
    max_tokens: int
    prompts: Mapping[Role, str]
    lowercase: bool
    weights: Path
    graph: Path | None

    @property
    def tokenizer(self) -> Path:
        """The file that makes tokens of texts."""
        return self.path / "tokenizer.json"

    @property
    def files(self) -> list[Path]:
        """Every file that decides what vectors come out, but for the small configuration files."""
        if self.graph is None:
            return [self.weights, self.tokenizer]
        data = sorted(self.graph.parent.glob(f"{self.graph.name}_data*")) + sorted(
            self.graph.parent.glob(f"{self.graph.name}.data*")
        )
        return [self.graph, *data, self.tokenizer]


def read_encoder_folder(
    path: Path,
    max_tokens: int | None = None,
    *,
    ready: bool = True,
    kinds: Sequence[str] = ARCHITECTURES,
    parts: Sequence[str] = PARTS,
) -> EncoderFolder:
    """Return what the folder holds. Raises :class:`EmbedderError` naming the file that is missing or not understood.

    ``max_tokens`` replaces the number of tokens that the folder says, as far as the model has positions for them.
    Without ``ready`` a ready ``.onnx`` file does not count. ``kinds`` and ``parts`` are those that the caller knows; of
    kinds that are not among :data:`ARCHITECTURES` the caller reads the shape.
    """
    if not path.is_dir():
        raise EmbedderError(f"There is no model folder {path}. Give the folder that holds config.json.")
    config = read_json(path / "config.json")
    weights, graph = (
        path / "model.safetensors",
        next((path / name for name in _GRAPHS if ready and (path / name).is_file()), None),
    )
    kind = str(config.get("model_type", "unknown"))
    written = kind in kinds and weights.is_file()
    if not written and graph is None:
        missing = "its model.safetensors is missing" if kind in kinds else f"it is of the kind {kind!r}"
        hint = " MLX runs it: mlx:FOLDER." if kind == "gemma3_text" and kind not in kinds else ""
        raise EmbedderError(
            f"The model in {path} cannot be used: {missing}. Needed is a model.safetensors of the kind "
            f"{', '.join(kinds)}{', or a model.onnx' * ready}.{hint}"
        )
    if not (path / "tokenizer.json").is_file():
        raise EmbedderError(f"{path} has no tokenizer.json. Pull the model again, or save its fast tokenizer there.")
    shape = _shape(path, config) if written and kind in ARCHITECTURES else None
    sentence = _optional_json(path / "sentence_bert_config.json")
    return EncoderFolder(
        path=path,
        shape=shape,
        hidden=whole_number(path, config, "hidden_size", "dim", "n_embd"),
        pooling=_pooling(path, parts),
        max_tokens=_max_tokens(path, config, sentence, shape, max_tokens),
        prompts=_prompts(path),
        lowercase=bool(sentence.get("do_lower_case", False)),
        weights=weights,
        graph=None if written else graph,
    )


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a model. Raises :class:`EmbedderError`."""
    try:
        if path.stat().st_size > _MOST_JSON:
            raise EmbedderError(f"{path} is too large for what it should be. Pull the model again.")
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise EmbedderError(f"There is no {path}. Pull the model again, or give the folder that holds it.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise EmbedderError(f"{path} cannot be read ({error}). Pull the model again.") from error
    if not isinstance(found, dict):
        raise EmbedderError(f"{path} holds no JSON object. Pull the model again.")
    return found


def whole_number(path: Path, config: Mapping[str, Any], *names: str) -> int:
    """Return the first of these that ``config`` has, a number above 0. Raises :class:`EmbedderError`."""
    value = next((config[name] for name in names if name in config), None)
    if type(value) is not int or not 0 < value <= _MOST_TOKENS:
        raise EmbedderError(f"{path / 'config.json'} has no sensible {names[0]} ({value!r}). Pull the model again.")
    return value


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _shape(path: Path, config: Mapping[str, Any]) -> Shape:
    kind = str(config["model_type"])
    activation = str(config.get("hidden_act", config.get("activation", "gelu")))
    if activation not in ACTIVATIONS or config.get("position_embedding_type", "absolute") != "absolute":
        raise EmbedderError(
            f"The model in {path} cannot be used: its activation is {activation!r} and its positions are "
            f"{config.get('position_embedding_type', 'absolute')!r}; known are {', '.join(ACTIVATIONS)} and 'absolute'."
        )
    offset = int(config.get("pad_token_id", 1)) + 1 if "roberta" in kind else 0
    hidden, heads = (
        whole_number(path, config, "hidden_size", "dim"),
        whole_number(path, config, "num_attention_heads", "n_heads"),
    )
    if hidden % heads:
        raise EmbedderError(f"{path / 'config.json'}: {hidden} dimensions cannot be shared by {heads} heads.")
    return Shape(
        kind=kind,
        hidden=hidden,
        layers=whole_number(path, config, "num_hidden_layers", "n_layers"),
        heads=heads,
        inner=whole_number(path, config, "intermediate_size", "hidden_dim"),
        activation=activation,
        epsilon=float(config.get("layer_norm_eps", 1e-12)),
        positions=whole_number(path, config, "max_position_embeddings") - offset,
        offset=offset,
    )


def _pooling(path: Path, parts: Sequence[str]) -> str:
    modules, settings = path / "modules.json", path / "1_Pooling" / "config.json"
    kinds: list[str] = []
    if modules.exists():
        try:
            kinds = [str(module["type"]).rpartition(".")[2] for module in json.loads(modules.read_bytes())]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise EmbedderError(f"{modules} cannot be read ({error}). Pull the model again.") from error
        foreign = [kind for kind in kinds if kind not in parts]
        if foreign:
            raise EmbedderError(f"The model in {path} has a part that is not known here: {', '.join(foreign)}.")
    if not settings.exists():
        if "Pooling" in kinds:
            raise EmbedderError(f"{modules} names a pooling, and {settings} is missing. Copy the whole folder.")
        return "mean"
    given = read_json(settings)
    if "pooling_mode" in given:
        chosen = {str(given["pooling_mode"])}
    else:
        chosen = {
            name.removeprefix("pooling_mode_") for name, on in given.items() if name.startswith("pooling_mode_") and on
        }
    names = {"cls_token": "cls", "cls": "cls", "mean_tokens": "mean", "mean": "mean"}
    if len(chosen) != 1 or not chosen <= names.keys():
        raise EmbedderError(
            f"The model in {path} pools by {', '.join(sorted(chosen)) or 'nothing'}; known are mean and cls."
        )
    if given.get("include_prompt", True) is not True:
        raise EmbedderError(f"The model in {path} leaves its prompt out of the mean, which is not known here.")
    return names[chosen.pop()]


def _max_tokens(
    path: Path, config: Mapping[str, Any], sentence: Mapping[str, Any], shape: Shape | None, given: int | None
) -> int:
    most = int(config.get("max_position_embeddings") or config.get("n_positions") or 512)
    if shape is not None:
        most = shape.positions
    limit = given or sentence.get("max_seq_length")
    if limit is None:
        limit = _optional_json(path / "tokenizer_config.json").get("model_max_length")
    return min(most, int(limit)) if isinstance(limit, int | float) and 4 <= limit <= _MOST_TOKENS else most


def _prompts(path: Path) -> dict[Role, str]:
    given = _optional_json(path / "config_sentence_transformers.json").get("prompts") or {}
    document = next((given[name] for name in ("document", "passage", "retrieval.passage") if name in given), "")
    query = next((given[name] for name in ("query", "retrieval.query") if name in given), "")
    return {"document": str(document), "query": str(query)}
