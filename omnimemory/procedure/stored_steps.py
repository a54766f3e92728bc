"""Transitions and sequences kept in step with the events: a grown history touches only what changed.

Each distinct step from one command to the next of its session is a transition, and each run of eight commands of a
session a sequence (the last one of a session has fewer and grows). Their vectors are made of those of their commands,
which the catalog has: no model is asked. They are committed to the catalog and drained into Chroma as all others. The
newest are kept: of 100,000 events all 68,000 took five times as long as the rest of their ingest, and 350 MB.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from omnimemory.procedure.newest_steps import SEQUENCE, Contents, NewestSteps
from omnimemory.procedure.timeline import session_events
from omnimemory.procedure.vectors import HALF, sequence_vector, transition_vectors
from omnimemory.storage.steps import SETTLED, STEP_KINDS, StepTable, stored_contents
from omnimemory.storage.store import Store
from omnimemory.storage.vectors import vectors_of

__all__ = ["SEQUENCE", "StepChanges", "sequence_table", "stale_steps", "store_steps", "transition_table"]

_BATCH = 1000
_ATTEMPTS = 5
"""After these the next ingest completes what others kept changing."""
_One = TypeVar("_One")
VectorsOf = dict[int, NDArray[np.float32]]


class _EventsChangedError(Exception):
    """The events are not those any more that the steps at hand were read from."""


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
    counts: Counter[str] = Counter()
    for _ in range(_ATTEMPTS):
        if store.why_outdated() is not None or store.catalog.meta(SETTLED) == _state(store, gap, decay, most):
            break
        with contextlib.suppress(_EventsChangedError):
            _settle(store, gap, decay, most, counts)
    return StepChanges(**counts)


def _settle(store: Store, gap: float, decay: float, most: int, counts: Counter[str]) -> None:
    seen = _state(store, gap, decay, most)

    @contextlib.contextmanager
    def transaction() -> Iterator[sqlite3.Connection]:
        # Whoever writes knows all events: two processes that do this at once want the same steps, and what was
        # forgotten meanwhile is not put back.
        with store.catalog.transaction() as sql:
            if _state(store, gap, decay, most) != seen:
                raise _EventsChangedError
            yield sql

    transitions, sequences = transition_table(store), sequence_table(store, decay)
    pairs, runs = _wanted(store, gap, most)
    _change(store, transitions, pairs, _of_transitions, transaction, counts)
    _change(store, sequences, runs, partial(_of_sequences, decay=decay), transaction, counts)
    with transaction() as sql:
        sql.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (SETTLED, seen))


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
    newest = NewestSteps(most)
    for session, (event, row) in session_events(store.catalog, gap):
        newest.take(session, event, row)
    return newest.transitions(), newest.sequences()


def _state(store: Store, gap: float, decay: float, most: int) -> str:
    """Return what the stored steps depend on, as text."""
    collection = store.commands.collection
    counts = store.catalog.rows(
        "SELECT c.deletes, c.updates, (SELECT max(row) FROM vectors WHERE collection_id = c.id), "
        "(SELECT seq FROM sqlite_sequence WHERE name = 'events'), (SELECT max(id) FROM events), "
        "(SELECT count(*) FROM events) "
        "FROM collections c WHERE c.id = ?",
        (collection.id,),
    )
    return json.dumps([collection.fingerprint, gap, decay, most, *counts])


def _change(
    store: Store,
    table: StepTable,
    wanted: set[Contents],
    made: Callable[[Sequence[Contents], VectorsOf], tuple[list[Contents], NDArray[np.float32]]],
    transaction: Callable[[], AbstractContextManager[sqlite3.Connection]],
    counts: Counter[str],
) -> None:
    """Add what is missing and remove what no event speaks of any more; count what came and went."""
    gone, new = table.orphans(), set(wanted)
    for row, *contents in table.known():
        if tuple(contents) in new:
            new.remove((contents[0], contents[1]))
        else:
            gone.append(row)
    for part in _parts(gone):
        with transaction() as sql:
            counts[f"{table.kind}_removed"] += table.remove(sql, part)
    for some in _parts(sorted(new)):
        members = sorted({row for one in some for row in _members(one)})
        with transaction() as sql:
            kept, vectors = made(some, vectors_of(store.catalog, store.commands.collection, members))
            counts[f"{table.kind}_added"] += table.add(sql, kept, vectors)
        store.committed()


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
