"""What an export, an import and a backup tell when they are done."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from omnimemory.records import IngestReport

__all__ = ["BackupReport", "ExportReport", "ImportReport"]


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What one export wrote: counts of lines by kind, vectors among them, bytes; ``path`` is ``None`` for a stream."""

    path: str | None
    sources: int
    chunks: int
    events: int
    commands: int
    vectors: int
    bytes: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ImportReport(IngestReport):
    """What one import did: as for an ingest, and ``reused``, the vectors taken from the file.

    ``failures`` names what the store knows otherwise and kept its own version of.
    """

    reused: int = 0


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What one backup holds: counts of rows, and its bytes on disk."""

    path: str
    sources: int
    chunks: int
    events: int
    commands: int
    vectors: int
    bytes: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready data."""
        return asdict(self)
