"""What the embedders of model folders share, whatever computes their rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from omnimemory.embedders.base import UnembeddableTextError, normalise
from omnimemory.embedders.encoder_folder import read_encoder_folder
from omnimemory.errors import ConfigError, EmbedderError

if TYPE_CHECKING:
    from omnimemory.embedders.windows import Row, WindowTokenizer

__all__ = ["check_weights", "checked_dim", "files_digest", "joined", "rows_of"]


def files_digest(files: Sequence[Path]) -> str:
    """Return what names these files' content: the sha256 of their sha256. Raises :class:`EmbedderError`."""
    whole = hashlib.sha256()
    for file in files:
        try:
            with file.open("rb") as stream:
                whole.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise EmbedderError(f"{file} cannot be read ({error.strerror}). Pull the model again.") from error
    return whole.hexdigest()


def check_weights(provider: str | None, folder: Path) -> int:
    """Return how many numbers a model's vectors have.

    Raises :class:`EmbedderError` for a folder that is not understood or whose weights are not all there. Only their
    headers are read; of a ready ``.onnx`` file nothing is. ``provider`` is "mlx", or else it is "onnx".
    """
    from omnimemory.embedders.tensors import Tensors  # noqa: PLC0415 - not for a model that was pulled

    if provider == "mlx":
        from omnimemory.embedders.mlx.folder import read_mlx_folder  # noqa: PLC0415 - the one that is needed

        model = read_mlx_folder(folder)
        weights, dim = model.weights, model.dim
    else:
        found = read_encoder_folder(folder)
        weights, dim = [] if found.shape is None else [found.weights], found.hidden
    for path in weights:
        Tensors(path)
    return dim


def checked_dim(name: str, full: int, dim: int | None, dims: Sequence[int]) -> int:
    """Return the size of vectors that is asked for. Raises :class:`ConfigError` for one the model does not have."""
    if dim is None or dim == full:
        return full
    if dim in dims and dim < full:
        return dim
    known = ", ".join(map(str, (full, *dims)))
    raise ConfigError(f"{name} has no vectors of {dim} dimensions: leave embedding.dim out, or choose from {known}.")


def rows_of(tokenizer: WindowTokenizer, name: str, texts: Sequence[str], prompt: str) -> list[Row]:
    """Return the rows of all texts. Raises UnembeddableTextError naming those in which the model knows no token."""
    rows, unknown = tokenizer.rows(texts, prompt)
    if unknown:
        raise UnembeddableTextError(
            f"{name} knows no token of the texts at {unknown[:5]}",
            unknown,
            reasons=dict.fromkeys(unknown, f"{name} knows no word of it"),
        )
    return rows


def joined(rows: Sequence[Row], pooled: NDArray[np.float32], texts: int) -> NDArray[np.float64]:
    """Return the (texts, hidden) means of each text's windows, weighted by their tokens."""
    unit = normalise(pooled).astype(np.float64)
    if len(rows) == texts:
        return unit
    together = np.zeros((texts, pooled.shape[1]))
    weights = np.array([row.weight for row in rows], dtype=np.float64)
    np.add.at(together, np.array([row.text for row in rows]), unit * weights[:, None])
    return together
