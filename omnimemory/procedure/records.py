"""What procedural memory answers with: plain frozen data, as ``omnimemory/records.py`` holds for the rest.

The JSON of the command line uses the same field names.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Prediction", "Repair", "SimilarSession", "SimilarStep", "Workflow"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """A command that may come next, how likely it is (0 to 1), and why in words."""

    command: str
    probability: float
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as JSON-ready data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SimilarSession:
    """A place in a session that is like what was asked for.

    ``commands`` are those that are alike, ``followed`` what was run next, and ``worked`` whether none of that failed
    (``None``: nobody knows); ``score`` is a cosine, ``timestamp`` in seconds since the epoch.
    """

    score: float
    commands: tuple[str, ...]
    followed: tuple[str, ...]
    worked: bool | None
    timestamp: float | None
    cwd: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the session as JSON-ready data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Repair:
    """What helped after a command had failed: what was run, how often that helped, and why it is thought so."""

    commands: tuple[str, ...]
    times: int
    why: str
    timestamp: float | None
    cwd: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the repair as JSON-ready data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SimilarStep:
    """A step that was taken from one command to the next, like the one asked for.

    ``score`` is the cosine of what was asked for, of both commands their mean; ``times`` how often it was taken,
    ``timestamp`` (seconds since the epoch), ``cwd`` and ``worked`` are those of the last time; ``None``: nobody knows.
    """

    score: float
    before: str
    after: str
    times: int
    worked: bool | None
    timestamp: float | None
    cwd: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the step as JSON-ready data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Workflow:
    """A routine: steps that recur in this order, perhaps with others in between.

    ``steps`` are shapes of commands, ``commands`` those of its latest good run, ``support`` says how often it occurred;
    in ``worked`` of these no step failed, in ``failed`` one did, of the rest nobody knows. Time and folder are those of
    its latest run.
    """

    name: str
    steps: tuple[str, ...]
    commands: tuple[str, ...]
    support: int
    worked: int
    failed: int
    timestamp: float | None
    cwd: str | None

    @property
    def success_rate(self) -> float | None:
        """Share of the runs of known outcome that worked, ``None`` if none is known."""
        known = self.worked + self.failed
        return self.worked / known if known else None

    def to_dict(self) -> dict[str, Any]:
        """Return the routine as JSON-ready data."""
        return {**asdict(self), "success_rate": self.success_rate}
