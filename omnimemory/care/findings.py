"""What the doctor says: findings, and the whole of an examination."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["ERROR", "NOTICE", "WARNING", "Examination", "Finding"]

ERROR, WARNING, NOTICE = "error", "warning", "notice"
"""Something is lost, wrong or refused; something should be mended; something is good to know."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be: where, how bad (see :data:`ERROR`), what, and what to do about it."""

    check: str
    severity: str
    message: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """What the doctor looked at (``checks``, in order) and what it found; ``skipped`` could not be looked at."""

    path: str
    checks: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    skipped: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing has to be mended: notices do not count."""
        return not any(finding.severity in (ERROR, WARNING) for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return the examination as JSON-ready data."""
        return {"ok": self.ok, **asdict(self)}
