"""What the history parsers have in common: entries with byte offsets, safe text, sane times.

A parser works on the bytes of a whole file and yields *spans*: the command's bytes, when it ran and
where it stands. :class:`Entries` keeps what they hold. A span whose command is blank carries no
entry, but it still says where the file was understood to, which is what makes reading incremental.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import overload

from omnimemory.records import Event

__all__ = [
    "LAST_SECOND",
    "MAX_COMMAND_BYTES",
    "Entries",
    "Entry",
    "MakeEvent",
    "Span",
    "plain_event",
    "seconds",
    "to_entries",
]

MAX_COMMAND_BYTES = 64 * 1024
"""Longer commands are skipped and counted: cutting one could leave half a secret, and half a command is a lie."""

LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z, the last one that datetime can show

Span = tuple[bytes, float | None, float | None, int, int, bool]
"""Command, timestamp (s), duration (s), start and end (byte offsets), complete. A plain tuple: one per line read."""


MakeEvent = Callable[[bytes, str], Event | None]
"""What makes an event of a span's bytes and the name of its format."""


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


class Entries(Sequence[Entry]):
    """Entries in columns: a long history is millions of them, and as objects each would cost half a kilobyte.

    Equal commands share one string. Reading an item makes it.
    """

    def __init__(self, shell: str, spans: Iterable[Span] = (), event: MakeEvent | None = None) -> None:
        self._shell = shell
        self._make = event or plain_event
        self._kinds: dict[bytes, int | None] = {}
        self._events: list[Event] = []
        self._event = array("I")
        self._timestamp, self._duration = array("d"), array("d")
        self._start, self._end = array("Q"), array("Q")
        self._complete = bytearray()
        for span in spans:
            self.add(span)

    def add(self, span: Span) -> bool:
        """Add the entry of a span; false when its command is blank or longer than ``MAX_COMMAND_BYTES``."""
        raw, timestamp, duration, start, end, complete = span
        if raw in self._kinds:
            kind = self._kinds[raw]
        else:
            kind = self._kinds[raw] = self._new_kind(raw)
        if kind is None:
            return False
        self._event.append(kind)
        self._timestamp.append(nan if timestamp is None else timestamp)
        self._duration.append(nan if duration is None else duration)
        self._start.append(start)
        self._end.append(end)
        self._complete.append(complete)
        return True

    def _new_kind(self, raw: bytes) -> int | None:
        event = None if len(raw) > MAX_COMMAND_BYTES else self._make(raw, self._shell)
        if event is not None:
            self._events.append(event)
        return None if event is None else len(self._events) - 1

    def commands(self) -> list[str]:
        """Return the distinct commands, in the order of their first entries."""
        return list(dict.fromkeys(event.command for event in self._events))

    def kinds(self) -> list[Event]:
        """Return the distinct events; what the history says of the time of one is not in them."""
        return list(self._events)

    def columns(self) -> tuple[array[int], array[float], array[float]]:
        """Return for each entry which of :meth:`kinds` it is, its time and its duration in seconds; NaN: not told.

        An event whose time and duration are not told keeps those that are its own.
        """
        return self._event, self._timestamp, self._duration

    def starting_before(self, offset: int) -> int:
        """Return how many entries start before a byte offset."""
        return bisect_left(self._start, offset)

    def __len__(self) -> int:
        return len(self._event)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        return Entry(self.event(index), self._start[index], self._end[index], bool(self._complete[index]))

    def event(self, index: int) -> Event:
        """Return the event of an entry."""
        kind = self._events[self._event[index]]
        timestamp, duration = self._timestamp[index], self._duration[index]
        if isnan(timestamp) and isnan(duration):
            return kind
        # Not ``dataclasses.replace``, which takes six times as long: a history is read once for each of its entries.
        return Event(
            kind.command,
            _known(timestamp),
            kind.cwd,
            kind.exit_code,
            _known(duration),
            kind.session,
            kind.host,
            kind.shell,
        )


def _known(value: float) -> float | None:
    return None if isnan(value) else value


def plain_event(raw: bytes, shell: str) -> Event | None:
    """Return the event of a command's bytes; ``None`` when it is blank."""
    # NULs are what a power cut leaves behind; no shell can run one.
    command = raw.replace(b"\0", b"").decode("utf-8", "replace")
    return Event(command, shell=shell) if command.strip() else None


def to_entries(spans: Iterable[Span], shell: str, event: MakeEvent | None = None) -> Iterator[Entry]:
    """Yield the entries of those spans that hold a command, in order."""
    return iter(Entries(shell, spans, event))


def seconds(digits: bytes) -> float | None:
    """Return a time in seconds since the epoch; None for what no shell means: not a number, 0, past the year 9999."""
    if not digits.isdigit() or len(digits) > 20:
        return None
    value = float(digits)
    return value if 0 < value <= LAST_SECOND else None
