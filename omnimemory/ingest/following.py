"""Shell histories followed: a look every so often, and what was added is taken in.

A look is a stat of each file (and of what its database writes beside it) and a list of the spool, so it costs next to
nothing, needs nothing of the system, and also sees what another machine wrote to a shared folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from omnimemory.errors import (
    ConfigError,
    EmbedderError,
    MemoryBudgetError,
    SourceError,
    StoreBusyError,
    StoreFullError,
)
from omnimemory.records import Failure, IngestReport
from omnimemory.sources.history import locate, locate_all
from omnimemory.sources.spool_folder import spool_waits

__all__ = ["Watched", "follow", "watched"]

State = dict[str, tuple[int, int, int]]
_WRITTEN_BESIDE = ("", "-wal")
_SECONDS_AFTER_FAILURE = 30.0


@dataclass(frozen=True, slots=True)
class Watched:
    """What is followed: one history and its format, if that is known, or (``None``) all; and the spool of the hooks."""

    spool: Path
    path: Path | None = None
    shell: str | None = None

    def state(self) -> State:
        """Return which files there are, and what changes whenever one is written to or replaced."""
        found: State = {}
        for path in _all() if self.path is None else (self.path,):
            target = os.path.realpath(path)  # SQLite writes beside what a link points to
            for name in (f"{target}{ending}" for ending in _WRITTEN_BESIDE):
                try:
                    status = os.stat(name)  # noqa: PTH116 - names are enough
                except OSError:  # it may be replaced at this very moment
                    continue
                found[name] = (status.st_ino, status.st_size, status.st_mtime_ns)
        return found


def watched(target: str | Path | None, shell: str | None, spool: Path, *, every: bool) -> Watched:
    """Return what is meant by the arguments of an ingest. Raises :class:`SourceError` when there is none."""
    if every and (target is not None or shell is not None):
        raise ConfigError("every=True finds the histories and their shells by itself: give no target and no shell.")
    if every:
        return Watched(spool)
    return Watched(spool, *locate(target, shell, Path.home(), os.environ))


def _all() -> list[Path]:
    try:
        return [path for path, _ in locate_all(Path.home(), os.environ)]
    except SourceError:
        return []  # the last one was deleted: another may come


@dataclass(slots=True)
class _Part:
    """One of the two things that are followed. ``told`` are its failures, which are told once."""

    changed: Callable[[], bool]
    take: Callable[[], IngestReport]
    again: float | None = None
    told: tuple[Failure, ...] = ()

    def is_due(self) -> bool:
        """Return whether there is something to take in; what failed is tried again after a while."""
        return self.changed() or (self.again is not None and time.monotonic() >= self.again)

    def first(self) -> IngestReport:
        """Take in what is there, and raise what stands against it."""
        return self._told(self.take())

    def news(self) -> IngestReport | None:
        """Take in what is there; return the report if it tells of anything that was not told before.

        What another attempt may mend is in the report.
        """
        try:
            report = self.take()
        except (EmbedderError, MemoryBudgetError, SourceError, StoreBusyError, StoreFullError) as error:
            report = IngestReport(failed=1, failures=(Failure("history", str(error)),))
        report = self._told(report)
        return report if report.events or report.added or report.redacted or report.failures else None

    def _told(self, report: IngestReport) -> IngestReport:
        """Return the report without the failures that the last one told."""
        self.again = time.monotonic() + _SECONDS_AFTER_FAILURE if report.failed or report.pending else None
        before, self.told = self.told, report.failures
        new = tuple(failure for failure in report.failures if failure not in before)
        return replace(report, failures=new, failed=sum(failure.error for failure in new))


def follow(
    what: Watched, history: Callable[[], IngestReport], spool: Callable[[], IngestReport], seconds: float
) -> Iterator[IngestReport]:
    """Yield the report of a first take-in, then one each time something came or went wrong; it never ends by itself.

    A history that cannot be read, or a store that is busy, is told once and tried again: when the history changes, and
    after half a minute. The first take-in of the history raises.
    """
    spooled = _Part(lambda: spool_waits(what.spool), spool)
    grown = _Part(_Changes(what, what.state()).happened, history)
    if spooled.is_due() and (report := spooled.news()) is not None:
        yield report
    yield grown.first()
    while True:
        time.sleep(seconds)
        yield from (report for part in (spooled, grown) if part.is_due() and (report := part.news()) is not None)


@dataclass(slots=True)
class _Changes:
    """Notices when the files are no longer as they were at the last look."""

    what: Watched
    seen: State

    def happened(self) -> bool:
        before, self.seen = self.seen, self.what.state()
        return self.seen != before
