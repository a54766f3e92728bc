"""How many texts go to the model at once, when the next are read and the last are stored while it works."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

__all__ = ["Pace"]

_SECONDS = 1.0
_LEAST_SHARE = 8


class Pace:
    """Sizes of batches: small at first, then about what the model does in a second, and never more than ``most``.

    While the first batch is read the model idles, and while the last is stored; with 512 chunks of text and MiniLM on
    two cores, which takes five seconds, that was a twelfth of an ingest of 901.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.least = -(-most // _LEAST_SHARE)
        self.size = self.least

    @contextlib.contextmanager
    def timed(self, texts: int) -> Iterator[None]:
        """Measure how long the model takes for this many texts."""
        start = time.perf_counter()
        yield
        seconds = max(time.perf_counter() - start, 1e-9)
        self.size = min(self._most, max(self.least, round(texts * _SECONDS / seconds)))
