"""What a caller gets back from forgetting and scrubbing; the JSON of the command line has the same names."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["ForgetReport", "ForgottenItem", "ScrubReport", "Unpurged"]


@dataclass(frozen=True, slots=True)
class ForgottenItem:
    """A chunk or a command that is to be forgotten, as it is shown before that is done; never afterwards.

    ``events`` is how many executions of a command go; those that are not chosen stay, and the command with them.
    """

    kind: str
    id: str
    text: str
    source: str | None = None
    events: int = 0


@dataclass(frozen=True, slots=True)
class Unpurged:
    """A place whose files may still hold the bytes of what was forgotten, and why they could not be purged."""

    place: str
    path: str
    reason: str
    busy: bool = False


@dataclass(frozen=True, slots=True)
class ForgetReport:
    """What was forgotten: rows of the catalog by kind, and ``backups`` that were rewritten.

    ``unpurged`` names what may still hold its bytes (empty: every file was purged). ``still_in`` are files of the
    user's own that it came from and that are still there. ``items`` says what would go, the first hundreds of it, in
    a dry run only; ``found`` is how many they are.
    """

    chunks: int = 0
    commands: int = 0
    events: int = 0
    sources: int = 0
    backups: int = 0
    found: int = 0
    dry_run: bool = False
    items: tuple[ForgottenItem, ...] = ()
    still_in: tuple[str, ...] = ()
    unpurged: tuple[Unpurged, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ScrubReport:
    """What a scrub replaced: ``chunks``, ``commands`` and ``events`` that held something the rules now take out.

    ``redactions`` counts replacements by rule; ``deleted`` commands that may not be kept at all. ``kept`` commands
    hold secrets that are stored on request. ``embedded`` texts have new vectors, ``pending`` ones get them later.
    For ``backups`` and ``unpurged`` see :class:`ForgetReport`.
    """

    chunks: int = 0
    commands: int = 0
    events: int = 0
    deleted: int = 0
    kept: int = 0
    redactions: dict[str, int] = field(default_factory=dict)
    embedded: int = 0
    pending: int = 0
    backups: int = 0
    dry_run: bool = False
    unpurged: tuple[Unpurged, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready data."""
        return asdict(self)
