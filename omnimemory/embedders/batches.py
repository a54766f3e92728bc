"""Which rows of tokens go through a model together.

Rows of a batch are padded to the longest of them, and padding costs what tokens cost. So rows are sorted by length,
and a batch holds as many as its budget of padded tokens allows. A small budget is the fast one on a processor: the
values between two layers stay in its cache. Equal rows are computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Batch", "distinct", "plan"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that go through the model together: their positions, ids (n, length) and mask (n, length), 1 for a token."""

    rows: NDArray[np.int64]
    ids: NDArray[np.int64]
    mask: NDArray[np.int32]


def distinct(rows: Sequence[tuple[int, ...]]) -> tuple[list[tuple[int, ...]], NDArray[np.int64]]:
    """Return each row once, and for every row which of those it is."""
    places: dict[tuple[int, ...], int] = {}
    where = [places.setdefault(row, len(places)) for row in rows]
    return list(places), np.array(where, dtype=np.int64)


def plan(rows: Sequence[tuple[int, ...]], budget: int) -> list[Batch]:
    """Sort rows into batches of at most ``budget`` padded tokens, or of one row; the longest rows come first.

    Who works on them in parallel is done at about the same time, because the last batches are the short ones.
    """
    order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
    batches, start = [], 0
    while start < len(order):
        stop = start + max(1, budget // max(1, len(rows[order[start]])))
        batches.append(_batch(rows, order[start:stop]))
        start = stop
    return batches


def _batch(rows: Sequence[tuple[int, ...]], positions: Sequence[int]) -> Batch:
    lengths = np.array([len(rows[row]) for row in positions])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(mask.shape, dtype=np.int64)
    ids[mask] = [token for row in positions for token in rows[row]]
    return Batch(np.array(positions, dtype=np.int64), ids, mask.astype(np.int32))
