"""What documents and commands have in common for search and for the index: an item with a public id."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from omnimemory.storage.catalog import Collection

__all__ = ["NEWEST", "Found", "Item", "ItemTable", "Payload", "indexable"]

NEWEST = 2**63 - 1
"""A vector row above all others."""


@dataclass(frozen=True, slots=True)
class Item:
    """A chunk or a command as search shows it; ``row`` is its id in the catalog, ``id`` the public one."""

    row: int
    id: str
    text: str
    source: str | None
    start: int | None
    end: int | None
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Payload:
    """What the index gets: ``ids``, ``texts`` and ``metadatas`` of n ``items`` and their vectors (n, dim).

    ``row`` is the newest vector row of those that were asked for.
    """

    items: list[int]
    ids: list[str]
    texts: list[str]
    metadatas: list[dict[str, Any]]
    vectors: NDArray[np.float32]
    row: int

    def without(self, items: set[int]) -> Payload:
        """Return what is left when these ``items`` are left out."""
        if not items:
            return self
        kept = [place for place, item in enumerate(self.items) if item not in items]
        return Payload(
            [self.items[place] for place in kept],
            [self.ids[place] for place in kept],
            [self.texts[place] for place in kept],
            [self.metadatas[place] for place in kept],
            self.vectors[kept],
            self.row,
        )


def indexable(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of some metadata that Chroma can hold; the catalog keeps and filters all of it.

    One key or value that Chroma refuses would keep its batch and everything after it out of the index, and a
    list with NaN or infinity makes a collection of chromadb 1.5.9 useless for ever.
    """
    return {key: value for key, value in metadata.items() if _is_key(key) and _is_value(value)}


def _is_key(key: str) -> bool:
    return bool(key) and not key.startswith(("$", "#", "chroma:"))


def _is_value(value: Any) -> bool:
    if isinstance(value, list):
        return len({type(member) for member in value}) == 1 and all(_is_scalar(member) for member in value)
    return _is_scalar(value)


def _is_scalar(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | bool) or (isinstance(value, int) and -(2**63) <= value < 2**63)


@dataclass(frozen=True, slots=True)
class Found:
    """What the index said: ids, the cosines it claims, and which vector rows it had taken when it was asked."""

    ids: list[str]
    claims: list[float]
    generation: int
    drained: int


class ItemTable(Protocol):
    """One kind of item in the catalog."""

    collection: Collection

    def payload(self, after: int, limit: int, upto: int = NEWEST) -> Payload | None:
        """Return up to ``limit`` items with vector rows above ``after`` and up to ``upto``; ``None`` if none are."""
        ...

    def metadata_of(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the index metadata of these public ids that still exist."""
        ...

    def rows_of(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the catalog rows of these public ids that still exist."""
        ...

    def items(self, rows: Sequence[int]) -> dict[int, Item]:
        """Return the items at these rows."""
        ...

    def keyword(self, query: str, k: int) -> list[tuple[int, float]]:
        """Return (row, BM25) of the k best keyword matches, best first."""
        ...

    def column(self, key: str) -> tuple[str, tuple[Any, ...]]:
        """Return the SQL that selects (vector row, JSON type, value) of a metadata key, by vector row."""
        ...

    def stamp(self) -> tuple[int, ...]:
        """Return numbers that change whenever metadata may have changed."""
        ...

    def pending(self, limit: int, after: int = 0) -> list[tuple[int, str]]:
        """Return (row, text) of items above row ``after`` whose vectors are still to come, by row."""
        ...

    def postpone(self, sql: sqlite3.Connection, rows: Iterable[int]) -> None:
        """Note that the vectors of these rows come later: they are pending."""
        ...

    def settle(self, sql: sqlite3.Connection, rows: Iterable[int]) -> None:
        """Note that these rows are no longer pending."""
        ...

    def mark_unembeddable(self, sql: sqlite3.Connection, reasons: Iterable[tuple[int, str]]) -> None:
        """Remember why the model has no vector for these rows, so that they are not tried each time."""
        ...

    def count(self) -> int:
        """Return how many items there are."""
        ...
