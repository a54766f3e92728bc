"""``ingest-history --watch``: take in what is added to histories, until Ctrl-C."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnimemory.cli.ingest import name_failures
from omnimemory.cli.opening import open_memory
from omnimemory.cli.output import format_seconds, note, print_json, wants_json

if TYPE_CHECKING:
    from omnimemory.config import Settings
    from omnimemory.records import IngestReport

__all__ = ["watch_history"]


@dataclass(slots=True)
class _Total:
    began: float
    takes: int = 0
    events: int = 0
    commands: int = 0
    redacted: int = 0

    def add(self, report: IngestReport) -> None:
        self.takes += 1
        self.events += report.events
        self.commands += report.added
        self.redacted += report.redacted

    def line(self) -> str:
        took = format_seconds(time.monotonic() - self.began)
        return f"watched for {took}: {_counts(self.events, self.commands, self.redacted)}"


def watch_history(
    settings: Settings, file: str | None, *, every: bool, shell: str | None, interval: float, as_json: bool
) -> None:
    """Take in a history and go on until Ctrl-C, which is its usual end; any other signal has its exit code."""
    total = _Total(time.monotonic())
    try:
        with open_memory(settings) as memory:
            keep = settings.history.keep_secrets
            for report in memory.watch_history(file, shell=shell, every=every, keep_secrets=keep, seconds=interval):
                total.add(report)
                _tell(report, as_json=as_json)
    except KeyboardInterrupt:
        if not total.takes:
            raise
    finally:
        if total.takes:
            note(total.line())


def _tell(report: IngestReport, *, as_json: bool) -> None:
    if wants_json(as_json):
        print_json(report.to_dict())
    else:
        note(f"{time.strftime('%H:%M:%S')} {_counts(report.events, report.added, report.redacted)}")
    if not as_json:
        name_failures(report)


def _counts(events: int, commands: int, redacted: int) -> str:
    secrets = f", {redacted:,} {'secret' if redacted == 1 else 'secrets'} taken out" if redacted else ""
    return f"{events:,} {'event' if events == 1 else 'events'}, {commands:,} new commands{secrets}"
