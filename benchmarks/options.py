"""What the command line asks of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Options"]


@dataclass(frozen=True, slots=True)
class Options:
    """``work`` is the temporary folder of this run; ``None`` means a benchmark's own default."""

    work: Path
    quick: bool = False
    rounds: int | None = None
    docs: Path | None = None
    tldr: Path | None = None
    history: bool = False
    lines: int | None = None
    rows: int | None = None
    queries: int | None = None
    model: str = "static"
    models: Path | None = None
    peers: Path | None = None
    texts: int | None = None

    def turns(self, default: int = 5) -> int:
        """Return how many rounds to run."""
        if self.rounds is not None:
            return self.rounds
        return 1 if self.quick else default

    def size(self, usual: int, quick: int, given: int | None = None) -> int:
        """Return a size: the given one, or the usual one, or the tiny one of a quick run."""
        if given is not None:
            return given
        return quick if self.quick else usual
