"""Steps like one that is asked for: from something like this command, to something like that one, or both.

A transition's vector is those of its two commands side by side, so its cosine with another is the mean of two cosines,
and with half a vector it is one of them. Every distinct command is compared once instead of every distinct pair of them
in twice the components: all transitions are compared, exactly, also the halves, of which a graph index finds too few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from omnimemory.procedure.records import SimilarStep
from omnimemory.procedure.steps import home_relative
from omnimemory.procedure.timeline import events_version, read_session_rows
from omnimemory.procedure.vectors import halves
from omnimemory.storage.store import Store
from omnimemory.storage.vectors import cosines, vectors_of

__all__ = ["RecordedPairs"]

_SAME = 6
"""Decimals of a cosine that count; beyond them it is rounding."""


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The distinct steps of a store: (n,) places in ``rows``, counts, newest events; ``vectors`` (commands, half)."""

    rows: NDArray[np.int64]
    vectors: NDArray[np.float32]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    times: NDArray[np.int64]
    newest: NDArray[np.int64]


class RecordedPairs:
    """The transitions of a store, kept in memory until its events change."""

    def __init__(self, store: Store, session_gap: float) -> None:
        self.store = store
        self._gap = session_gap
        self._known: tuple[tuple[int, ...], _Pairs] | None = None

    def nearest(
        self, before: NDArray[np.float32] | None, after: NDArray[np.float32] | None, k: int
    ) -> list[SimilarStep]:
        """Return the k steps nearest to vectors (dim,) of a command before, one after, or both; the best first.

        Of equally near ones those that were taken most often come first, then the latest. What is like in nothing is
        left out.
        """
        pairs = self._pairs()
        asked = [(before, pairs.before), (after, pairs.after)]
        parts = [cosines(pairs.vectors, halves(vector))[places] for vector, places in asked if vector is not None]
        if not parts or not len(pairs.times) or k <= 0:
            return []
        mean: NDArray[np.float64] = np.array(parts).mean(axis=0)
        scores = np.round(mean, _SAME)
        order = np.lexsort((-pairs.newest, -pairs.times, -scores))[:k]
        return self._told(pairs, scores, order[scores[order] > 0].tolist())

    def _pairs(self) -> _Pairs:
        catalog = self.store.catalog
        version = (*events_version(catalog), int(catalog.value("SELECT max(row) FROM vectors") or 0))
        if self._known is None or self._known[0] != version:
            self._known = version, self._read()
        return self._known[1]

    def _read(self) -> _Pairs:
        found: dict[tuple[int, int], tuple[int, int, int]] = {}
        for session in read_session_rows(self.store.catalog, self._gap):
            for (_, _, a), (number, event, b) in pairwise(session):
                if a != b:
                    times, latest, newest = found.get((a, b), (0, -1, 0))
                    found[a, b] = times + 1, max(latest, number), event if number > latest else newest
        rows = np.array(sorted({row for pair in found for row in pair}), dtype=np.int64)
        both = np.array(list(found), dtype=np.int64).reshape(-1, 2)
        said = np.array([(times, event) for times, _, event in found.values()], dtype=np.int64).reshape(-1, 2)
        before, after = np.searchsorted(rows, both[:, 0]), np.searchsorted(rows, both[:, 1])
        return _Pairs(rows, self._vectors(rows), before, after, said[:, 0], said[:, 1])

    def _vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        collection = self.store.commands.collection
        found = vectors_of(self.store.catalog, collection, rows.tolist())
        nothing = np.zeros(collection.dim, dtype=np.float32)  # unlike everything
        if not len(rows):
            return nothing[np.newaxis][:0]
        return halves(np.stack([found.get(row, nothing) for row in rows.tolist()]))

    def _told(self, pairs: _Pairs, scores: NDArray[np.float64], chosen: Sequence[int]) -> list[SimilarStep]:
        catalog = self.store.catalog
        found = []
        for place in chosen:
            rows = [int(pairs.rows[side[place]]) for side in (pairs.before, pairs.after)]
            texts = dict(catalog.rows("SELECT id, text FROM commands WHERE id IN (?, ?)", rows))
            said = catalog.rows(
                "SELECT exit_code, timestamp, cwd FROM events WHERE id = ?", (int(pairs.newest[place]),)
            )
            if len(texts) == len(rows) and said:  # else another process forgot it just now
                code, at, cwd = said[0]
                a, b = (texts[row] for row in rows)
                worked = None if code is None else code == 0
                times = int(pairs.times[place])
                found.append(SimilarStep(float(scores[place]), a, b, times, worked, at, home_relative(cwd)))
        return found
