"""How many bytes a model, a batch and the growing index need, before anything was observed.

Weights are counted from the header of the file. What a runtime adds to them is a constant of its own, not a
factor. Activations follow the wider of two moments: the widest layer, ``f * T * I * s``, or attention whose
scores are written out, ``g * B * h * L^2 * s + 7 * T * H * s`` (B texts of L padded tokens, T = B * L, hidden
size H, inner size I, h heads, s bytes a value). The coefficients were fitted to the peak of a 22.7 million
parameter encoder (15 shapes, within -10 and +22 %): a prior to start from, for one model on one machine.

The safetensors layout is https://huggingface.co/docs/safetensors: 8 bytes of length, a JSON header, the data.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnimemory.errors import EmbedderError
from omnimemory.scheduler.gguf import gguf_bytes

__all__ = [
    "NUMPY",
    "ONNX",
    "TORCH",
    "Footprint",
    "Request",
    "Runtime",
    "encoder_footprint",
    "index_bytes",
    "weights_bytes",
]

_MIB = 1 << 20
_MOST_HEADER = 100_000_000  # the limit of the safetensors library itself
_INDEX_ROW = 200  # ids and links that Chroma keeps per row beside the vector


@dataclass(frozen=True, slots=True)
class Request:
    """What a batch asks for; sizes in bytes.

    ``base`` is what the model itself still needs (0 once it is loaded), ``per_item`` what each text needs at
    most (activations and result), ``growth_per_item`` what the index will grow by per text, ``per_batch`` what is
    needed however few texts there are. ``measured`` is how many measurements the sizes rest on (0: an estimate).
    ``pools`` are the kinds of memory that the model can be in, the last of several as a last resort. Batches for one
    ``server`` go in groups of one model (``grouping.py``).
    """

    model: str
    items: int
    base: int
    per_item: int
    growth_per_item: int = 0
    per_batch: int = 0
    measured: int = 0
    pools: tuple[str, ...] = ("ram",)
    server: str = ""

    def __post_init__(self) -> None:
        if self.items < 1:
            raise ValueError(f"a batch needs at least one text, not {self.items}: do not ask for an empty one")
        if min(self.base, self.per_item, self.growth_per_item, self.per_batch) < 0:
            raise ValueError(f"sizes are bytes and cannot be negative: {self}")

    def need(self, items: int) -> int:
        """Return the bytes that ``items`` texts of this batch need."""
        return self.base + self.per_batch + items * (self.per_item + self.growth_per_item)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one model needs, in bytes.

    ``base`` until it is ready; ``per_batch`` for any batch; ``per_item`` for any text; then the larger of
    ``per_token`` (the widest layer) and ``attention_per_token`` plus ``per_token_pair`` (attention scores).
    """

    base: int
    per_token: int
    per_item: int
    per_batch: int = 0
    attention_per_token: int = 0
    per_token_pair: int = 0

    def item_bytes(self, tokens: int) -> int:
        """Return the bytes of one text in a batch padded to ``tokens``."""
        attention = self.attention_per_token * tokens + self.per_token_pair * tokens * tokens
        return self.per_item + max(self.per_token * tokens, attention)

    def request(self, model: str, items: int, tokens: int, *, loaded: bool, growth_per_item: int = 0) -> Request:
        """Return the request for a batch of ``items`` texts padded to ``tokens`` tokens."""
        base = 0 if loaded else self.base
        return Request(model, items, base, self.item_bytes(tokens), growth_per_item, self.per_batch)


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a runtime adds: ``resident`` bytes beside the weights, and the factors of the activations."""

    resident: int
    widest: float
    scores: float
    per_batch: int = 0


NUMPY = Runtime(resident=4 * _MIB, widest=7, scores=2)
ONNX = Runtime(resident=60 * _MIB, widest=4, scores=2)
TORCH = Runtime(resident=278 * _MIB, widest=4.5, scores=0, per_batch=35 * _MIB)


def encoder_footprint(
    weights: int, runtime: Runtime, *, hidden: int, inner: int, heads: int, value_bytes: int = 4
) -> Footprint:
    """Return the prior of a transformer encoder; ``inner`` counts twice for gated layers."""
    materialised = runtime.scores > 0
    return Footprint(
        base=weights + runtime.resident,
        per_token=math.ceil(runtime.widest * inner * value_bytes),
        per_item=2 * 4 * hidden,
        per_batch=runtime.per_batch,
        attention_per_token=7 * hidden * value_bytes if materialised else 0,
        per_token_pair=math.ceil(runtime.scores * heads * value_bytes),
    )


def index_bytes(rows: int, dim: int) -> int:
    """Return how much the index grows in memory by ``rows`` vectors of ``dim`` float32.

    Chroma's HNSW takes 1.75 times the raw vectors (100,000 x 256: 175 MB for 102 MB) and about 200 bytes a row.
    """
    return rows * (7 * dim + _INDEX_ROW)  # 1.75 * 4 bytes = 7


def weights_bytes(path: Path, *, value_bytes: int | None = None) -> int:
    """Return the bytes of the tensors in a safetensors or GGUF file, reading nothing but its header.

    ``value_bytes`` is the size of a value once loaded, for a loader that converts (4 for float32).
    Raises :class:`~omnimemory.errors.EmbedderError` for a file that is missing or damaged.
    """
    if path.suffix.lower() == ".gguf":
        return gguf_bytes(path)
    if not path.is_file():
        raise EmbedderError(f"There is no weights file at {path}. Install the model again.")
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            raw = file.read(length) if length <= _MOST_HEADER else b""
            size = file.seek(0, 2) - 8 - length
        tensors = [tensor for name, tensor in json.loads(raw).items() if name != "__metadata__"]
        return sum(_tensor_bytes(tensor, size, value_bytes) for tensor in tensors)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise EmbedderError(f"{path} is no complete safetensors file ({error}). Install the model again.") from error


def _tensor_bytes(tensor: dict[str, Any], size: int, value_bytes: int | None) -> int:
    """Return the bytes of one tensor of the header; one that lies outside the file is a ``ValueError``."""
    start, end = tensor["data_offsets"]
    if not 0 <= start <= end <= size:
        raise ValueError(f"a tensor ends at byte {end} of {size}")
    if value_bytes is None:
        return int(end - start)
    values = math.prod(tensor["shape"])
    if values < 0:
        raise ValueError(f"a tensor has the shape {tensor['shape']}")
    return int(values) * value_bytes
