"""The vectors asked for last, in memory: a second lookup of the same text touches no disk."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from omnimemory.forks import ForkLock

__all__ = ["HotVectors"]

_LONGEST_TEXT = 2_048  # characters; longer texts would fill memory and are rarely asked for twice


class HotVectors:
    """A least-recently-used table from (scope, text) to the bytes of a vector; bytes cannot be altered.

    The text itself is the key, so nothing can collide. At most ``items`` are held. Thread safe.
    """

    def __init__(self, items: int) -> None:
        self._items = items
        self._table: OrderedDict[tuple[bytes, str], bytes] = OrderedDict()
        self._lock = ForkLock()

    def get_many(self, prefix: bytes, texts: Sequence[str]) -> list[bytes | None]:
        """Return the bytes of each vector, ``None`` where it is not here."""
        if not self._table:
            return [None] * len(texts)
        table, found = self._table, []
        with self._lock:
            for text in texts:
                key = (prefix, text)
                vector = table.get(key)
                if vector is not None:
                    table.move_to_end(key)
                found.append(vector)
        return found

    def put_many(self, prefix: bytes, pairs: Iterable[tuple[str, bytes]]) -> None:
        """Remember these vectors and forget the ones asked for longest ago."""
        if not self._items:
            return
        table = self._table
        with self._lock:
            for text, vector in pairs:
                if len(text) <= _LONGEST_TEXT:
                    key = (prefix, text)
                    table[key] = vector
                    table.move_to_end(key)
            while len(table) > self._items:
                table.popitem(last=False)

    def discard(self, prefix: bytes, texts: Iterable[str]) -> None:
        """Forget these texts."""
        with self._lock:
            for text in texts:
                self._table.pop((prefix, text), None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._table.clear()
