"""The store: catalog, exact search and index as one thing with one rule each for reading and writing.

Writing: the catalog first, then the index is drained from it (``drainer.py``). Reading: small
collections, filtered searches and everything the index does not hold yet are answered exactly from the
catalog's vectors; large unfiltered searches by Chroma, whose hits are scored again with the true vectors.
Who has the index open, and when, is the matter of ``index_session.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnimemory.errors import IndexDamagedError, SpaceMismatchError, StoreFullError
from omnimemory.storage.catalog import Collection
from omnimemory.storage.commands import CommandTable
from omnimemory.storage.documents import DocumentTable
from omnimemory.storage.drain import StoreOptions
from omnimemory.storage.exact import ExactIndex
from omnimemory.storage.generations import Generations
from omnimemory.storage.index_session import IndexSession
from omnimemory.storage.items import Found, ItemTable
from omnimemory.storage.steps import SequenceTable, StepTable, TransitionTable, drop_steps
from omnimemory.storage.store_folder import bytes_under, open_catalog
from omnimemory.storage.twins import twins_left_out
from omnimemory.storage.vectors import cosines, moved_message, read_vectors, rows_above, vectors_of
from omnimemory.storage.where import check_where, match_records

__all__ = ["Nearest", "Store", "StoreOptions", "check_space"]

_TAIL_ROWS = 4096
_EXTRA = 16
_LEFT_BEHIND = (-2, 0)
_WRONG = 1e-3
_TIED = 1e-5


@dataclass(frozen=True, slots=True)
class Nearest:
    """The rows nearest to a query, best first, their cosines, who answered and why; whether the index should have."""

    rows: list[int]
    scores: list[float]
    answered_by: str
    reason: str
    is_fallback: bool = False


class Store:
    """An open store directory. Use ``open_store`` of ``opened_store.py``: one object a directory and process.

    Safe for several threads; not across ``fork``.
    """

    def __init__(self, path: Path, options: StoreOptions, *, fingerprint: str, model: str, dim: int) -> None:
        self.path = path
        self.options = options
        self.catalog = open_catalog(path)
        try:
            # One after the other, checked at once: of two processes that make a store with two models, one loses.
            self.documents = DocumentTable(self.catalog, self._collection("documents", fingerprint, model, dim))
            self.commands = CommandTable(self.catalog, self._collection("commands", fingerprint, model, dim))
        except BaseException:
            self.catalog.close()
            raise
        self.tables: dict[str, ItemTable] = {"documents": self.documents, "commands": self.commands}
        self._all = dict(self.tables)
        self.generations = Generations(self.catalog)
        self._exact = {kind: ExactIndex(self.catalog, table.collection) for kind, table in self.tables.items()}
        self._sizes: dict[str, tuple[tuple[int, int], int]] = {}
        self._session = IndexSession(path, self.catalog, options)

    def _collection(self, name: str, fingerprint: str, model: str, dim: int) -> Collection:
        found = self.catalog.ensure_collection(name, fingerprint=fingerprint, model=model, dim=dim)
        check_space(self.path, found, model, fingerprint)
        return replace(found, model=model, dim=dim)  # which is what an equal fingerprint says

    def step_table(self, kind: str, made: str, dim: int) -> StepTable:
        """Return a table of ``steps.py``, whose vectors (dim,) are made as ``made`` says; others are dropped."""
        space = self.commands.collection
        fingerprint = f"{space.fingerprint} {made}"
        found = self.catalog.ensure_collection(kind, fingerprint=fingerprint, model=space.model, dim=dim)
        if found.fingerprint != fingerprint:
            with self.catalog.transaction() as sql:
                drop_steps(sql, [kind])
                sql.execute("DELETE FROM generations")
            found = self.catalog.ensure_collection(kind, fingerprint=fingerprint, model=space.model, dim=dim)
        table = self._all.get(kind)
        if not isinstance(table, StepTable) or table.collection != found:
            table = (TransitionTable if kind == "transitions" else SequenceTable)(self.catalog, found)
            self._all[kind] = table
            self._exact[kind] = ExactIndex(self.catalog, found)
        return table

    def why_outdated(self) -> str | None:
        """Return why new items cannot be found by their meaning, if the store was moved since it was opened here."""
        ours = self.documents.collection
        name = self.catalog.value("SELECT name FROM collections WHERE id = ?", (ours.id,))
        return None if name == ours.name else moved_message(ours)

    # -- reading

    def nearest(self, kind: str, query: NDArray[np.float32], k: int, where: Mapping[str, Any] | None = None) -> Nearest:
        """Return the k rows of a kind nearest to the unit vector ``query`` (dim,)."""
        table = self._all[kind]
        if where is not None:
            check_where(where)
            snapshot, mask = self._exact[kind].mask(where, table.stamp(), table.column)
            rows, scores = self._exact[kind].search(query, k, mask, snapshot)
            return Nearest(rows, scores, "exact", f"filtered: {int(mask.sum())} of {len(snapshot)} match")
        size = self._size(kind)
        if self._sizes[kind][0] == _LEFT_BEHIND:
            return self._scan(kind, query, k, "the store was moved to another model")
        if size <= self.options.exact_rows:
            reason = f"{size} vectors, exact up to {self.options.exact_rows}"
            return self._scan(kind, query, k, reason) if size else Nearest([], [], "exact", reason)
        why_not = self._session.why_closed(query)
        if why_not:
            return self._scan(kind, query, k, why_not, fallback=True)
        try:
            return self._ask_index(kind, query, k, size)
        except (IndexDamagedError, StoreFullError) as error:
            self._session.drop()
            return self._scan(kind, query, k, str(error), fallback=True)

    def matching(self, kind: str, where: Mapping[str, Any]) -> set[int]:
        """Return the rows of a kind that match a filter and have a vector."""
        check_where(where)
        table = self._all[kind]
        snapshot, mask = self._exact[kind].mask(where, table.stamp(), table.column)
        return set(snapshot.items[mask].tolist())

    def passing(self, kind: str, where: Mapping[str, Any], rows: Sequence[int]) -> set[int]:
        """Return which of these rows match a filter, be their vectors here or still to come."""
        check_where(where)
        table = self._all[kind]
        snapshot, mask = self._exact[kind].mask(where, table.stamp(), table.column)
        asked = np.asarray(rows, dtype=np.int64)
        allowed = set(asked[np.isin(asked, snapshot.items[mask])].tolist())
        items = list(table.items(asked[~np.isin(asked, snapshot.items)].tolist()).values())
        fits = match_records(where, [{"source": item.source, **item.metadata} for item in items])
        return allowed | {item.row for item, fit in zip(items, fits.tolist(), strict=True) if fit}

    def scores(self, kind: str, query: NDArray[np.float32], rows: list[int]) -> dict[int, float]:
        """Return the cosine of ``query`` with each of these rows that has a vector."""
        found = self._exact[kind].scores(query, rows)
        vectors = vectors_of(
            self.catalog, self._all[kind].collection, [row for row in rows if row not in found] if found else rows
        )
        if vectors:
            found |= zip(vectors, cosines(np.stack(list(vectors.values())), query).tolist(), strict=True)
        return found

    def _scan(self, kind: str, query: NDArray[np.float32], k: int, reason: str, *, fallback: bool = False) -> Nearest:
        rows, scores = self._exact[kind].search(query, k)
        return Nearest(rows, scores, "exact", reason, is_fallback=fallback and self.options.index)

    def _size(self, kind: str) -> int:
        collection = self._all[kind].collection
        rows = self.catalog.rows(
            "SELECT name, deletes, (SELECT max(row) FROM vectors WHERE collection_id = c.id) FROM collections c "
            "WHERE id = ?",
            (collection.id,),
        )
        if not rows:
            raise SpaceMismatchError(moved_message(collection))
        name, deletes, newest = rows[0]
        version = (deletes, newest or 0) if name == kind else _LEFT_BEHIND
        if self._sizes.get(kind, ((-1, -1), 0))[0] != version:
            self._sizes[kind] = (version, rows_above(self.catalog, collection, 0))
        return self._sizes[kind][1]

    def _ask_index(self, kind: str, query: NDArray[np.float32], k: int, size: int) -> Nearest:
        table = self._all[kind]
        found = self._session.query(table, query, min(k, size) + _EXTRA)
        if isinstance(found, str):
            return self._scan(kind, query, k, found, fallback=True)
        tail = rows_above(self.catalog, table.collection, found.drained)
        if tail > _TAIL_ROWS:
            return self._scan(kind, query, k, f"{tail} vectors are not in the index yet", fallback=True)
        scored = self._verified(kind, query, found, min(k, size))
        newer = self._tail(kind, query, found.drained) if tail else {}
        twins = twins_left_out(self.catalog, found.generation, table.collection, _best(scored | newer, k), k)
        scored |= self.scores(kind, query, twins)
        if len(scored) < min(k, size - tail):
            # Deleted items that the index still holds took the places, or HNSW did not reach enough.
            return self._scan(kind, query, k, f"the index gave only {len(scored)} living hits", fallback=True)
        scored |= newer
        order = _best(scored, k)
        reason = f"index generation {found.generation}" + (f", {tail} newer vectors exactly" if tail else "")
        return Nearest(order, [scored[row] for row in order], "chroma", reason)

    def _verified(self, kind: str, query: NDArray[np.float32], found: Found, k: int) -> dict[int, float]:
        """Return the true cosines of the nearest that the index found and the catalog still has, at least k if it can.

        Those beyond the k-th are read only when they may be as near, or when some before them are gone.
        """
        claims = found.claims
        near = next((n for n in range(k, len(claims)) if claims[n] < claims[k - 1] - _TIED), len(claims))
        scored = self._scored(kind, query, found, slice(near))
        if len(scored) < k:
            scored |= self._scored(kind, query, found, slice(near, None))
        return scored

    def _scored(self, kind: str, query: NDArray[np.float32], found: Found, part: slice) -> dict[int, float]:
        table, ids = self._all[kind], found.ids[part]
        rows_by_id = table.rows_of(ids)
        scored = self.scores(kind, query, list(rows_by_id.values()))
        for public, claim in zip(ids, found.claims[part], strict=True):
            row = rows_by_id.get(public)
            if row in scored and abs(scored[row] - claim) > _WRONG and self._is_drained(table, row, found.drained):
                raise IndexDamagedError("the index gave a wrong distance: it is damaged and will be rebuilt")
        return scored

    def _tail(self, kind: str, query: NDArray[np.float32], drained: int) -> dict[int, float]:
        """Return the cosines of everything the index has not taken yet."""
        scored: dict[int, float] = {}
        for _, items, vectors in read_vectors(self.catalog, self._all[kind].collection, drained):
            scored.update(zip(items.tolist(), cosines(vectors, query).tolist(), strict=True))
        return scored

    def _is_drained(self, table: ItemTable, item: int, drained: int) -> bool:
        row = self.catalog.value(
            "SELECT row FROM vectors WHERE collection_id = ? AND item = ?", (table.collection.id, item)
        )
        return row is not None and row <= drained

    # -- the index

    def warm(self) -> str | None:
        """Open the index now, so that no later search is without it; return why it is not open, or ``None``."""
        return self._session.warm()

    def committed(self, *, last: bool = False) -> None:
        """Say that a batch was committed: once enough is pending, a child process starts to drain it.

        With ``last`` it need not wait for more.
        """
        self._session.committed(last=last)

    def expect(self) -> None:
        """Say that many rows are about to be committed: what will drain them gets ready meanwhile."""
        self._session.expect()

    def drain(self, tick: Callable[[], None] | None = None) -> str | None:
        """Bring everything pending into the index, unless its holder does; return why that failed, or ``None``."""
        return self._session.drain(tick)

    def drain_beside(self) -> None:
        """Have everything pending brought into the index by a child process that goes on alone."""
        self._session.drain_beside()

    def rebuild(self) -> int:
        """Make the index anew from the catalog, without embedding anything; return its generation.

        Raises :class:`StoreBusyError` while another process has the index open.
        """
        return self._session.rebuild()

    # -- the whole

    def status(self) -> dict[str, Any]:
        """Return what the store holds: counts, the state of the index, bytes on disk."""
        table = self.documents.collection
        sources = dict(self.catalog.rows("SELECT kind, count(*) FROM sources GROUP BY kind"))
        return {
            "path": str(self.path),
            "model": table.model,
            "dim": table.dim,
            "documents": {
                "sources": sources.get("file", 0) + sources.get("notes", 0),
                "chunks": self.documents.count(),
                "pending": self.catalog.value("SELECT count(*) FROM chunks WHERE pending"),
            },
            "commands": {
                "sources": sources.get("history", 0),
                "commands": self.commands.count(),
                "events": self.catalog.value("SELECT count(*) FROM events"),
                "pending": self.catalog.value("SELECT count(*) FROM commands WHERE pending"),
            },
            "index": {
                "enabled": self.options.index,
                "generation": self.generations.active(),
                "waiting": self.generations.waiting() if self.options.index else 0,
                "open": self._session.is_open,
                "holder": self._session.holder(),
            },
            "bytes": bytes_under(self.path),
        }

    def let_go_of_index(self) -> None:
        """Close the index for good, and leave it to others; searches are exact from now on."""
        self._session.close(wait=False)

    def close(self, *, wait: bool = True) -> None:
        """Finish draining, close the index and the catalog; without ``wait`` draining is left to a child process."""
        try:
            self._session.close(wait=wait)
        finally:
            self.catalog.close()


def _best(scored: Mapping[int, float], k: int) -> list[int]:
    return sorted(scored, key=lambda row: (-scored[row], row))[:k]


def check_space(path: Path, stored: Collection, model: str, fingerprint: str) -> None:
    """Raise :class:`SpaceMismatchError` if the vectors of a store are not of this model."""
    if stored.fingerprint != fingerprint:
        here = f"this {model} (other files, prompts or options)" if stored.model == model else model
        raise SpaceMismatchError(
            f"{path} holds vectors of {stored.model}, not of {here}: distances between the two mean nothing. "
            "Open it with the model it was made with (embedding.model = auto does), choose another store with --store, "
            f"or move it: omnimemory reembed --model {model}"
        )
