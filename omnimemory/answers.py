"""How long questions took to be answered, and how many answers were less than they could be.

Each answer is a short line in a file in ``schedule.folder``, so that ``omnimemory status`` tells of all processes: how
long it took, whether keywords answered alone (degraded), whether all vectors were scanned because the index was not to
be had (fallback), and which memory it was of, as a digest of its path. There is no text in it. What is kept is bounded;
a file that cannot be written is done without.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omnimemory.config import Settings
from omnimemory.forks import ForkLock
from omnimemory.scheduler.line_file import LineFile

__all__ = ["Answers"]

_MOST_BYTES = 256 << 10
"""About three thousand answers."""


class Answers:
    """Counts the answers of one memory. Safe for several threads. Without ``schedule.log_bytes`` nothing is kept."""

    def __init__(self, settings: Settings) -> None:
        limit = min(_MOST_BYTES, settings.schedule.log_bytes)
        self._file = LineFile(settings.schedule.folder, "answers", limit=limit) if limit else None
        self._memory = _digest(settings.store.path)
        self._lock = ForkLock()

    def note(self, seconds: float, *, degraded: bool, fallback: bool) -> None:
        """Count an answer that took so long."""
        if self._file is None:
            return
        told = [round(time.time(), 3), self._memory, round(seconds, 6), int(degraded), int(fallback)]
        with self._lock:
            self._file.write(json.dumps(told, separators=(",", ":")))

    def close(self) -> None:
        """Close the file; a later answer opens it again."""
        with self._lock:
            if self._file is not None:
                self._file.close()

    def status(self) -> dict[str, Any]:
        """Return how many answers there were, how many were less than they could be, and their times in seconds."""
        from omnimemory.scheduler.metrics import percentiles  # noqa: PLC0415 - a search needs none of it

        found = list(self._answers())
        return {
            "since": min((when for when, *_ in found), default=None),
            "degraded": sum(degraded for _, _, degraded, _ in found),
            "fallbacks": sum(fallback for *_, fallback in found),
            **percentiles([seconds for _, seconds, _, _ in found]),
        }

    def _answers(self) -> Iterator[tuple[float, float, bool, bool]]:
        for line in [] if self._file is None else self._file.lines():
            try:
                when, memory, seconds, degraded, fallback = json.loads(line)
                if memory == self._memory:
                    yield float(when), float(seconds), bool(degraded), bool(fallback)
            except (ValueError, TypeError, RecursionError):
                continue  # cut off by a full disk or a kill


def _digest(path: Path) -> str:
    return hashlib.blake2b(str(path.resolve()).encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
