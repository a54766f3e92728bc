"""Vectors on their way into the cache's file: found by who asks, until they are there or are to go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from omnimemory.forks import ForkLock

__all__ = ["UnwrittenVectors"]


class UnwrittenVectors:
    """A table from (scope, text) to the bytes of a vector, from when it was made until it was written. Thread safe."""

    def __init__(self) -> None:
        self._table: dict[tuple[bytes, str], bytes] = {}
        self._lock = ForkLock()

    def put_many(self, prefix: bytes, pairs: Iterable[tuple[str, bytes]]) -> None:
        """Keep these vectors; what was there is replaced."""
        with self._lock:
            self._table.update(((prefix, text), vector) for text, vector in pairs)

    def get_many(self, prefix: bytes, texts: Iterable[str]) -> list[bytes | None]:
        """Return the bytes of each vector, ``None`` where it is not here."""
        with self._lock:
            return [self._table.get((prefix, text)) for text in texts]

    def written(self, prefix: bytes, pairs: Sequence[tuple[str, bytes]]) -> None:
        """Forget these vectors, unless others have taken their places meanwhile."""
        with self._lock:
            for text, vector in pairs:
                if self._table.get((prefix, text)) is vector:
                    del self._table[prefix, text]

    def discard(self, prefix: bytes, texts: Iterable[str]) -> None:
        """Forget these texts: they are not to be written."""
        with self._lock:
            for text in texts:
                self._table.pop((prefix, text), None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._table.clear()
