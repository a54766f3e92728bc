"""What the history parsers have in common: entries with byte offsets, safe text, sane times.

A parser works on the bytes of a whole file and yields *spans*: the command's bytes, when it ran and
where it stands. :func:`to_entries` turns them into entries. A span whose command is blank carries no
entry, but it still says where the file was understood to, which is what makes reading incremental.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from omnimemory.records import Event

__all__ = ["MAX_COMMAND_BYTES", "Entry", "Span", "entry_maker", "seconds", "to_entries"]

MAX_COMMAND_BYTES = 64 * 1024
"""Longer commands are skipped and counted: cutting one could leave half a secret, and half a command is a lie."""

LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z, the last one that datetime can show

Span = tuple[bytes, float | None, float | None, int, int, bool]
"""Command, timestamp (s), duration (s), start and end (byte offsets), complete. A plain tuple: one per line read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One command of a history file and where it stands in it.

    ``start`` and ``end`` are byte offsets; ``data[start:end]`` is the entry with its final newline.
    ``complete`` is false while bytes appended to the file could still belong to this entry: there is no
    final newline, a continuation is open, or (bash with timestamps) no later timestamp closes it.
    """

    event: Event
    start: int
    end: int
    complete: bool


def entry_maker(shell: str) -> Callable[[Span], Entry | None]:
    """Return what turns spans into entries, or into None when blank or longer than ``MAX_COMMAND_BYTES``.

    Histories repeat themselves: equal commands share one string, and one event when the history has no times.
    """
    known: dict[bytes, Event | None] = {}

    def make(span: Span) -> Entry | None:
        raw, timestamp, duration, start, end, complete = span
        if raw in known:
            event = known[raw]
        else:
            event = known[raw] = _event(raw, shell)
        if event is None:
            return None
        if timestamp is not None or duration is not None:
            event = Event(event.command, timestamp, None, None, duration, None, None, shell)
        return Entry(event, start, end, complete)

    return make


def _event(raw: bytes, shell: str) -> Event | None:
    if len(raw) > MAX_COMMAND_BYTES:
        return None
    # NULs are what a power cut leaves behind; no shell can run one.
    command = raw.replace(b"\0", b"").decode("utf-8", "replace")
    return Event(command, shell=shell) if command.strip() else None


def to_entries(spans: Iterable[Span], shell: str) -> Iterator[Entry]:
    """Yield the entries of those spans that hold a command, in order."""
    make = entry_maker(shell)
    return (entry for span in spans if (entry := make(span)) is not None)


def seconds(digits: bytes) -> float | None:
    """Return a time in seconds since the epoch; None for what no shell means: not a number, 0, past the year 9999."""
    if not digits.isdigit() or len(digits) > 20:
        return None
    value = float(digits)
    return value if 0 < value <= LAST_SECOND else None
