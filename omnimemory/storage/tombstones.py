"""What was forgotten and must not come back by itself, as keyed hashes; and what is still to be purged from files.

The source of what was forgotten often still holds it: a history file, a document. Its next ingest asks here and
leaves it out. A tombstone holds no text, but whoever has the catalog has the key as well and can test a guess.

``forgets`` counts how often something was forgotten: a batch that was prepared before must not be committed after.
A purge is a note, committed with the deletion itself, that the bytes of what was deleted may still lie in a file.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from omnimemory.storage.catalog import Catalog

__all__ = [
    "Purge",
    "Tombstones",
    "add_purges",
    "add_stones",
    "end_purges",
    "forgets",
    "lift_stones",
    "purges",
    "read_tombstones",
]

_COUNTER = "forgotten"


@dataclass(frozen=True, slots=True)
class Tombstones:
    """The tombstones of a store at one moment. Each method returns the hashes that stand for something."""

    key: bytes
    hashes: frozenset[bytes] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.hashes)

    def source(self, kind: str, uri: str) -> bytes:
        """Return the hash of a whole source."""
        return self._hash("source", kind, uri)

    def chunk(self, uri: str, text: str) -> bytes:
        """Return the hash of a chunk of a source."""
        return self._hash("chunk", uri, text)

    def line(self, uri: str, line: str) -> bytes:
        """Return the hash of a line of a source, however it is indented."""
        return self._hash("line", uri, " ".join(line.split()))

    def command(self, text: str) -> bytes:
        """Return the hash of a command, whenever and wherever it is run."""
        return self._hash("command", text)

    def event(self, uri: str, timestamp: float | None, text: str) -> bytes:
        """Return the hash of one execution; without a time stamp, of all those of this command in this history."""
        return self._hash("event", uri if timestamp is None else repr(float(timestamp)), text)

    def of_chunk(self, uri: str, text: str) -> set[bytes]:
        """Return the tombstones that keep a chunk out: its own, and those of its lines."""
        if not self.hashes:
            return set()
        lines = {self.line(uri, line) for line in text.splitlines()}
        return (lines | {self.chunk(uri, text)}) & self.hashes

    def of_event(self, uri: str, timestamp: float | None, text: str) -> set[bytes]:
        """Return the tombstones that keep an event out: its own, and that of its command."""
        if not self.hashes:
            return set()
        return {self.command(text), self.event(uri, timestamp, text)} & self.hashes

    def _hash(self, kind: str, *parts: str) -> bytes:
        content = "\0".join((kind, *parts)).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content, digest_size=16, key=self.key).digest()


def read_tombstones(catalog: Catalog) -> Tombstones:
    """Return all tombstones of a store."""
    return Tombstones(catalog.key, frozenset(stone for (stone,) in catalog.rows("SELECT hash FROM tombstones")))


def add_stones(sql: sqlite3.Connection, stones: Iterable[bytes]) -> None:
    """Keep what these hashes stand for from coming back, and count one forgetting more."""
    sql.executemany("INSERT INTO tombstones (hash) VALUES (?) ON CONFLICT DO NOTHING", ((stone,) for stone in stones))
    sql.execute(
        "INSERT INTO meta (key, value) VALUES (?, '1') ON CONFLICT (key) DO UPDATE SET value = value + 1", (_COUNTER,)
    )


def lift_stones(sql: sqlite3.Connection, stones: Iterable[bytes]) -> None:
    """Let what these hashes stand for come back."""
    sql.executemany("DELETE FROM tombstones WHERE hash = ?", ((stone,) for stone in stones))


def forgets(sql: sqlite3.Connection | Catalog) -> int:
    """Return how often something was forgotten so far; ``sql`` may be a transaction."""
    query = "SELECT value FROM meta WHERE key = ?"
    found = sql.value(query, (_COUNTER,)) if isinstance(sql, Catalog) else None
    if isinstance(sql, sqlite3.Connection):
        row = sql.execute(query, (_COUNTER,)).fetchone()
        found = row[0] if row else None
    return int(found or 0)


@dataclass(frozen=True, slots=True)
class Purge:
    """A file, or a kind of files, that may still hold what was forgotten.

    ``place`` is "cache" (``data`` is 16 bytes for each key), "index", "backup" (``detail`` is its path), or
    "catalog" for the catalog's own file.
    """

    id: int
    place: str
    detail: str
    data: bytes


def add_purges(sql: sqlite3.Connection, places: Iterable[tuple[str, str, bytes]]) -> None:
    """Note (place, detail, data) of what is to be purged once this transaction is committed."""
    sql.executemany("INSERT INTO purges (place, detail, data) VALUES (?, ?, ?)", places)


def purges(catalog: Catalog) -> list[Purge]:
    """Return what is still to be purged, oldest first."""
    rows = catalog.rows("SELECT id, place, detail, coalesce(data, x'') FROM purges ORDER BY id")
    return [Purge(*row) for row in rows]


def end_purges(catalog: Catalog, done: Iterable[Purge]) -> None:
    """Note that these are done."""
    with catalog.transaction() as sql:
        sql.execute("PRAGMA secure_delete = ON")
        sql.executemany("DELETE FROM purges WHERE id = ?", _ids(done))


def _ids(done: Iterable[Purge]) -> Iterator[tuple[int]]:
    return ((purge.id,) for purge in done)
