"""What moving a store to another model tells when it is done, or when it was only asked about."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["ReembedReport"]


@dataclass(frozen=True, slots=True)
class ReembedReport:
    """What one ``reembed`` did.

    ``state`` is "moved" (the new model is searched, the old vectors are kept), "unchanged" (it was that model before),
    "estimated" (dry run), "confirmed" (the old vectors are gone), "undone" (the old model is searched again) or "given
    up" (a move that was begun; what it had made is gone).
    ``before`` and ``after`` are models. Counts are of texts: ``texts`` in the store, ``resumed`` that an earlier run
    had moved, ``embedded`` by the model now, ``cache_hits`` that it was spared, ``refused`` for which it has no vector,
    ``pending`` that wait for the next ingest; ``dropped`` is of vectors. An estimate is of seconds and of bytes, in the
    catalog until the move is confirmed and in the index.
    """

    state: str
    before: str
    after: str
    dim: int
    texts: int = 0
    resumed: int = 0
    embedded: int = 0
    cache_hits: int = 0
    refused: int = 0
    pending: int = 0
    dropped: int = 0
    estimated_seconds: float | None = None
    estimated_bytes: int | None = None
    seconds: float = 0.0
    degraded: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready data."""
        return asdict(self)
