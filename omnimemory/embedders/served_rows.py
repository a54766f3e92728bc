"""The numbers a server sends, believed only when they are numbers.

What is wrong with all of an answer (strings, booleans, lists of different lengths) is an error of the server, and it is
asked again. What is wrong with one row (NaN, infinity, zero) may be its text's fault, so the row is named.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnimemory.embedders.base import Vectors, normalise
from omnimemory.embedders.lengths import estimate_tokens
from omnimemory.model_servers.patience import BadAnswerError

__all__ = ["Rows", "joined_pieces", "read_rows", "unit"]

_MOST = 1e30
"""Components beyond this have squares that float32 cannot hold: no model means them."""

Matrix = NDArray[np.float64]


class Rows(NamedTuple):
    """Unit rows (n, d) of n texts; those in ``bad`` (index -> what is wrong with it) are zero."""

    vectors: Matrix
    bad: dict[int, str]


def read_rows(raw: Sequence[Any]) -> Rows:
    """Turn lists of numbers, or base64 of little-endian float32, into unit rows.

    Raises :class:`BadAnswerError` when they are neither, or not of one length.
    """
    rows = [_row(vector) for vector in raw]
    sizes = {row.size for row in rows}
    if len(sizes) != 1 or 0 in sizes:
        raise BadAnswerError(
            f"The server sent vectors of {' and '.join(map(str, sorted(sizes)))} numbers in one answer."
        )
    vectors = np.stack(rows)
    bad: dict[int, str] = {}
    for index, row in enumerate(vectors):
        if not np.isfinite(row).all() or np.abs(row).max() > _MOST:
            bad[index] = "the model answers with numbers that are not finite"
        elif not row.any():
            bad[index] = "the model answers with a vector that is zero"
    vectors[list(bad)] = 0.0
    return Rows(unit(vectors), bad)


def unit(vectors: Matrix) -> Matrix:
    """Scale rows (n, d), or one row (d,), to unit length; zero ones stay zero."""
    norms = np.sqrt(np.add.reduce(vectors * vectors, axis=-1, keepdims=True))
    scaled: Matrix = vectors / np.where(norms == 0, 1.0, norms)
    return scaled


def joined_pieces(pieces: list[tuple[int, str]], rows: Rows, texts: int) -> tuple[Vectors, dict[int, str]]:
    """Return the vector of each text, the mean of those of its pieces weighted by length, and which have none."""
    sums = np.zeros((texts, rows.vectors.shape[1]))
    bad: dict[int, str] = {}
    for place, (index, piece) in enumerate(pieces):
        sums[index] += max(1, estimate_tokens(piece)) * rows.vectors[place]
        if place in rows.bad:
            bad[index] = rows.bad[place]
    sums[list(bad)] = 0.0
    return normalise(sums), bad


def _row(vector: Any) -> Matrix:
    if isinstance(vector, str):
        return _decoded(vector)
    if not isinstance(vector, list) or not set(map(type, vector)) <= {float, int}:
        raise BadAnswerError("The server sent something that is not a vector of numbers.")
    try:
        return np.array(vector, dtype=np.float64)
    except OverflowError:
        return np.full(len(vector), np.inf)


def _decoded(text: str) -> Matrix:
    try:
        data = base64.b64decode(text, validate=True)
        return np.frombuffer(data, dtype="<f4").astype(np.float64)
    except (binascii.Error, ValueError) as error:
        raise BadAnswerError("The server sent text where the numbers of a vector should be.") from error
