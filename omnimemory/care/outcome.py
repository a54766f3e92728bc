"""What repair and maintain did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from omnimemory.care.findings import Finding

__all__ = ["Deed", "MaintainReport", "RepairReport", "Task"]


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that was done: to which part, to how many things, what."""

    part: str
    count: int
    message: str


@dataclass(frozen=True, slots=True)
class Task:
    """Something to be done by maintenance: what to say of it, the bytes that it is sure to free, and how."""

    deed: Deed
    freed: int
    run: Callable[[], object]


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What was mended (``done``) and what could not be (``left``). Nothing is ever embedded: that is left to ingest."""

    path: str
    done: tuple[Deed, ...] = ()
    left: tuple[Finding, ...] = ()
    skipped: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing is left to be mended."""
        return not self.left

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready data."""
        return {"ok": self.ok, **asdict(self)}


@dataclass(frozen=True, slots=True)
class MaintainReport:
    """What was tidied up, or would be (``dry_run``). ``freed`` are the bytes that the store and the cache lost by it.

    In a rehearsal ``freed`` is what is certain: unused pages, left-over folders and files, logs.
    """

    path: str
    dry_run: bool = False
    done: tuple[Deed, ...] = ()
    skipped: tuple[str, ...] = ()
    freed: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready data."""
        return asdict(self)
