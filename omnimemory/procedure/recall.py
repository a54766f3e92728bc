"""When something like this was done before, and what came of it.

The last commands are compared with every run of as many commands in a session, as sequences: each a mean of vectors in
which the newest command is the heaviest, so like is compared with like, and a foreign command in between costs a
little and not everything. All of them are compared, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from omnimemory.procedure.records import SimilarSession
from omnimemory.procedure.timeline import Run
from omnimemory.procedure.vectors import sequence_vector, sequence_weights

__all__ = ["LONGEST", "similar_sessions"]

LONGEST = 8
"""Commands of a context that are compared."""
_FOLLOWING = 5
_BLOCK = 1024
_TINY = 1e-12


def similar_sessions(
    sessions: Sequence[Sequence[Run]],
    vectors: dict[int, NDArray[np.float32]],
    context: NDArray[np.float32],
    k: int,
    decay: float,
    cwd: str | None = None,
) -> list[SimilarSession]:
    """Return the k sessions nearest to a context with the unit vectors ``context`` (n, dim), best first.

    ``vectors`` are those of the commands by row; a command without one counts as unlike everything. Of each session the
    best place is returned, and of places with the very same commands the latest; of equally good ones those in
    ``cwd`` come first.
    """
    query = sequence_vector(context, decay)
    flat = [run for session in sessions for run in session]
    if not flat or k <= 0:
        return []
    owner = np.repeat(np.arange(len(sessions)), [len(session) for session in sessions])
    scores = _scores(flat, owner, vectors, query, len(context), decay)
    scores = np.where(np.isnan(scores), -1.0, scores)
    here = np.array([run.cwd == cwd and cwd is not None for run in flat])
    order = np.lexsort((-np.arange(len(flat)), ~here, -np.round(scores, 6)))
    starts = np.cumsum([0, *(len(session) for session in sessions)])
    found: list[SimilarSession] = []
    taken: set[int] = set()
    said: set[tuple[str, ...]] = set()
    for place in order.tolist():
        session = int(owner[place])
        first = max(int(starts[session]), place - len(context) + 1)
        matched = tuple(run.command for run in flat[first : place + 1])
        if scores[place] <= 0 or len(found) == k:
            break
        if session in taken or matched in said:
            continue
        taken.add(session)
        said.add(matched)
        after = flat[place + 1 : min(place + 1 + _FOLLOWING, int(starts[session + 1]))]
        found.append(_told(float(scores[place]), flat[first : place + 1], after))
    return found


def _scores(
    flat: Sequence[Run],
    owner: NDArray[np.int64],
    vectors: dict[int, NDArray[np.float32]],
    query: NDArray[np.float32],
    width: int,
    decay: float,
) -> NDArray[np.float64]:
    """Return the cosine of the query with the ``width`` runs that end at each place, of its session alone."""
    rows = sorted(vectors)
    place_of = {row: at for at, row in enumerate(rows)}
    matrix = np.stack([*(vectors[row] for row in rows), np.zeros(len(query), dtype=np.float32)])
    at = np.array([place_of.get(run.row, len(rows)) for run in flat])
    weights = sequence_weights(width, decay)[::-1].astype(np.float32)
    scores = np.empty(len(flat))
    for start in range(0, len(flat), _BLOCK):
        stop = min(start + _BLOCK, len(flat))
        sums = np.zeros((stop - start, len(query)), dtype=np.float32)
        for back, weight in enumerate(weights):
            places = np.arange(start, stop) - back
            same = (places >= 0) & (owner[np.maximum(places, 0)] == owner[start:stop])
            sums += weight * matrix[np.where(same, at[np.maximum(places, 0)], len(rows))]
        norms = np.sqrt(np.einsum("ij,ij->i", sums, sums))
        scores[start:stop] = np.einsum("ij,j->i", sums, query) / np.maximum(norms, _TINY)
    return scores


def _told(score: float, matched: Sequence[Run], after: Sequence[Run]) -> SimilarSession:
    outcomes = [run.ok for run in after if run.ok is not None]
    return SimilarSession(
        score=score,
        commands=tuple(run.command for run in matched),
        followed=tuple(run.command for run in after),
        worked=all(outcomes) if outcomes else None,
        timestamp=matched[-1].at,
        cwd=matched[-1].cwd,
    )
