"""What an ingest is made of: the changes it commits, and the counts that grow while it runs."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from omnimemory.records import Failure, FoundHistory, IngestReport, Progress
from omnimemory.storage.items import ItemTable

__all__ = ["Change", "Tally", "ignore_progress"]


class Change(Protocol):
    """Something to be committed as a whole: texts to embed, and what to write beside them."""

    @property
    def table(self) -> ItemTable:
        """The table the new items belong to."""

    @property
    def texts(self) -> Sequence[str]:
        """The texts of the new items; empty when only book-keeping changed."""

    def write(self, sql: sqlite3.Connection, *, pending: bool) -> list[int]:
        """Write the new items (and whatever else changed) and return their rows, in order of ``texts``, or none."""


@dataclass
class Tally:
    """Counts that grow while an ingest runs; :meth:`report` freezes them.

    ``forgets`` is how often something had been forgotten when the run began: what it read may be forgotten now, so it
    commits nothing after the next time. ``None`` is for what is stored on request. ``stopped`` says that nothing more
    need be read: nobody will store it.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    skipped: int = 0
    sources: int = 0
    events: int = 0
    embedded: int = 0
    cache_hits: int = 0
    pending: int = 0
    redactions: Counter[str] = field(default_factory=Counter)
    degraded: str | None = None
    model_is_down: bool = False
    stopped: bool = False
    forgets: int | None = None
    failures: list[Failure] = field(default_factory=list)
    histories: list[FoundHistory] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def report(self) -> IngestReport:
        """Return what was done so far."""
        return IngestReport(
            added=self.added,
            updated=self.updated,
            unchanged=self.unchanged,
            deleted=self.deleted,
            failed=sum(1 for failure in self.failures if failure.error),
            skipped=self.skipped + sum(1 for failure in self.failures if not failure.error),
            sources=self.sources,
            events=self.events,
            embedded=self.embedded,
            cache_hits=self.cache_hits,
            pending=self.pending,
            redacted=self.redactions.total(),
            redactions=dict(self.redactions),
            seconds=round(time.monotonic() - self.started, 3),
            degraded=self.degraded,
            failures=tuple(self.failures),
            histories=tuple(self.histories),
        )


def ignore_progress(_: Progress) -> None:
    """Show nothing: the progress callback of a caller who gave none."""
