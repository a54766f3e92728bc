"""Transitions and sequences kept in step with the events: a grown history touches only what changed.

Each distinct step from one command to the next of its session is a transition, and each run of eight commands of a
session a sequence (the last one of a session has fewer and grows). Their vectors are made of those of their commands,
which the catalog has: no model is asked. They are committed to the catalog and drained into Chroma as all others. The
newest are kept: of 100,000 events all 68,000 took five times as long as the rest of their ingest, and 350 MB.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import nlargest
from itertools import islice, pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from omnimemory.procedure.timeline import read_session_rows
from omnimemory.procedure.vectors import HALF, sequence_vector, transition_vectors
from omnimemory.storage.steps import SETTLED, STEP_KINDS, StepTable, stored_contents
from omnimemory.storage.store import Store
from omnimemory.storage.vectors import vectors_of

__all__ = ["SEQUENCE", "StepChanges", "sequence_table", "stale_steps", "store_steps", "transition_table"]

SEQUENCE = 8
"""Commands of a stored sequence, at most."""
_BATCH = 1000
_One = TypeVar("_One")
Contents = tuple[int, int | str]
VectorsOf = dict[int, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class StepChanges:
    """How many transitions and sequences came and went."""

    transitions_added: int = 0
    transitions_removed: int = 0
    sequences_added: int = 0
    sequences_removed: int = 0


def transition_table(store: Store) -> StepTable:
    """Return the stored transitions; their space says how many components of each half they keep."""
    half = min(store.commands.collection.dim, HALF)
    return store.step_table("transitions", f"transition half={half}", 2 * half)


def sequence_table(store: Store, decay: float) -> StepTable:
    """Return the stored sequences; their space says how much less an older command weighs."""
    made = f"sequence commands={SEQUENCE} decay={decay:g}"
    return store.step_table("sequences", made, store.commands.collection.dim)


def store_steps(store: Store, gap: float, decay: float, most: int) -> StepChanges:
    """Bring the stored transitions and sequences in line with the events; nothing is read when none changed.

    Of each kind the ``most`` that ran last are kept.
    """
    if store.why_outdated() is not None:
        return StepChanges()
    settled = _state(store, gap, decay, most)
    if store.catalog.meta(SETTLED) == settled:
        return StepChanges()
    transitions, sequences = transition_table(store), sequence_table(store, decay)
    pairs, runs = _wanted(store, gap, most)
    changes = StepChanges(
        *_change(store, transitions, pairs, _of_transitions),
        *_change(store, sequences, runs, partial(_of_sequences, decay=decay)),
    )
    with store.catalog.transaction() as sql:
        sql.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (SETTLED, settled))
    return changes


def stale_steps(store: Store, gap: float, decay: float, most: int) -> StepChanges:
    """Return what :func:`store_steps` would change, as far as all commands have vectors; nothing is written."""
    if store.why_outdated() is not None or store.catalog.meta(SETTLED) == _state(store, gap, decay, most):
        return StepChanges()
    counts: list[int] = []
    for kind, wanted in zip(STEP_KINDS, _wanted(store, gap, most), strict=True):
        known = set(stored_contents(store.catalog, kind))
        counts += len(wanted - known), len(known - wanted)
    return StepChanges(*counts)


def _wanted(store: Store, gap: float, most: int) -> tuple[set[Contents], set[Contents]]:
    sessions = read_session_rows(store.catalog, gap)
    last: dict[Contents, int] = {}
    for session in sessions:
        last.update(((a, b), number) for (_, _, a), (number, _, b) in pairwise(session) if a != b)
    return set(nlargest(most, last, key=last.__getitem__)), set(_sequences(sessions, most))


def _state(store: Store, gap: float, decay: float, most: int) -> str:
    """Return what the stored steps depend on, as text."""
    collection = store.commands.collection
    counts = store.catalog.rows(
        "SELECT c.deletes, c.updates, (SELECT max(row) FROM vectors WHERE collection_id = c.id), "
        "(SELECT seq FROM sqlite_sequence WHERE name = 'events'), (SELECT max(id) FROM events) "
        "FROM collections c WHERE c.id = ?",
        (collection.id,),
    )
    return json.dumps([collection.fingerprint, gap, decay, most, *counts])


def _sequences(sessions: Iterable[Sequence[tuple[int, int, int]]], most: int) -> Iterator[Contents]:
    parts = (session[start : start + SEQUENCE] for session in sessions for start in range(0, len(session), SEQUENCE))
    for part in nlargest(most, (part for part in parts if len(part) > 1), key=lambda part: part[0][0]):
        yield part[0][1], json.dumps([row for _, _, row in part])


def _change(
    store: Store,
    table: StepTable,
    wanted: set[Contents],
    made: Callable[[Sequence[Contents], VectorsOf], tuple[list[Contents], NDArray[np.float32]]],
) -> tuple[int, int]:
    """Add what is missing and remove what no event speaks of any more; return how many came and went."""
    gone, new = table.orphans(), set(wanted)
    removed = 0
    for row, *contents in table.known():
        if tuple(contents) in new:
            new.remove((contents[0], contents[1]))
        else:
            gone.append(row)
            removed += 1
    for part in _parts(gone):
        with store.catalog.transaction() as sql:
            table.remove(sql, part)
    added = 0
    for some in _parts(sorted(new)):
        members = sorted({row for one in some for row in _members(one)})
        with store.catalog.transaction() as sql:  # meanwhile nobody forgets one of the commands
            kept, vectors = made(some, vectors_of(store.catalog, store.commands.collection, members))
            table.fill(sql, table.add(sql, kept), vectors)
        added += len(kept)
        store.committed()
    return added, removed


def _members(contents: Contents) -> tuple[int, ...]:
    first, second = contents
    return (first, second) if isinstance(second, int) else tuple(json.loads(second))


def _of_transitions(pairs: Sequence[Contents], vectors: VectorsOf) -> tuple[list[Contents], NDArray[np.float32]]:
    kept = [pair for pair in pairs if vectors.keys() >= set(_members(pair))]
    steps = [transition_vectors(np.stack([vectors[row] for row in _members(pair)]))[0] for pair in kept]
    return kept, np.array(steps, dtype=np.float32)


def _of_sequences(
    some: Sequence[Contents], vectors: VectorsOf, decay: float
) -> tuple[list[Contents], NDArray[np.float32]]:
    kept = [one for one in some if vectors.keys() >= set(_members(one))]
    made = [sequence_vector(np.stack([vectors[row] for row in _members(one)]), decay) for one in kept]
    return kept, np.array(made, dtype=np.float32)


def _parts(values: Iterable[_One]) -> Iterator[list[_One]]:
    rest = iter(values)
    while part := list(islice(rest, _BATCH)):
        yield part
