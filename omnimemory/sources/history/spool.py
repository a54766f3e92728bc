r"""What shells with the hook have written down: a file per shell, a record per command that has ended.

A record is nine fields, each ended by a NUL, and a newline: ``1``, shell, session, exit code, start, end, duration in
milliseconds (of these three what the shell knows; times in seconds, or in microseconds without a point), folder,
command. No shell can have a NUL in any of them. What a kill left half written at the end is not a record. Newlines
before a record say nothing: fish writes one to learn the time from the file.

A file is taken away in two steps, because its shell may be writing at this very moment: it gets another name first, so
that the shell begins a new one, and goes the next time it is found unchanged.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from omnimemory.errors import SourceError
from omnimemory.records import Event
from omnimemory.sources.history.entry import LAST_SECOND, MAX_COMMAND_BYTES
from omnimemory.sources.history.reading import open_regular, read_all
from omnimemory.sources.spool_folder import SPOOLED, TAKEN

__all__ = ["SpoolFile", "read_spool", "retire"]

_MAX_BYTES = 64 * 1024 * 1024
_SECONDS_BEFORE_REMOVAL = 2.0
_RECORD = re.compile(rb"\n*1\0([^\0]*)\0([^\0]*)\0([^\0]*)\0([^\0]*)\0([^\0]*)\0([^\0]*)\0([^\0]*)\0([^\0]*)\0\n")


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """One file as it was read: its events, its size then, and how many records could not be used."""

    path: Path
    events: tuple[Event, ...]
    size: int
    unreadable: int


def read_spool(folder: Path) -> Iterator[SpoolFile]:
    """Yield what lies in a spool, file by file. Raises ``SourceError`` for what cannot be read."""
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names are enough
        if not name.endswith((SPOOLED, TAKEN)):
            continue
        path = folder / name
        with contextlib.suppress(OSError):  # not ours to change: the folder is closed to others anyway
            path.chmod(0o600)
        try:
            with open_regular(path) as (descriptor, status):
                data = read_all(descriptor, path, status.st_size, _MAX_BYTES)
        except SourceError:
            if os.path.lexists(path):
                raise
            continue  # another process has stored it meanwhile
        events, bad = _events(data)
        yield SpoolFile(path, tuple(events), len(data), bad)


def retire(file: SpoolFile, *, now: bool = False, clock: Callable[[], float] = time.time) -> None:
    """Take away a file whose events are stored, if nothing was added since; ``now``: without the step between."""
    with contextlib.suppress(FileNotFoundError):
        status = file.path.stat()
        if status.st_size != file.size:
            return
        if now or (file.path.suffix == TAKEN and clock() - status.st_ctime > _SECONDS_BEFORE_REMOVAL):
            file.path.unlink()
        elif file.path.suffix == SPOOLED:
            file.path.rename(file.path.with_suffix(f".{time.time_ns()}{TAKEN}"))


def _events(data: bytes) -> tuple[list[Event], int]:
    events: list[Event] = []
    bad = end = 0
    for record in _RECORD.finditer(data):
        bad += record.start() > end
        end = record.end()
        event = _event(*record.groups())
        bad += event is None
        if event is not None:
            events.append(_after(events[-1] if events else None, event))
    return events, bad


def _after(before: Event | None, event: Event) -> Event:
    """Return an event of a shell without a fine clock so that it is later than the one before it."""
    if before is None or None in (before.timestamp, event.timestamp) or before.timestamp < event.timestamp:  # type: ignore[operator] # neither is None
        return event
    return replace(event, timestamp=before.timestamp + 1e-5)  # type: ignore[operator] # as above


def _event(*fields: bytes) -> Event | None:
    shell, session, code, start, end, took, cwd, command = fields
    if len(command) > MAX_COMMAND_BYTES or not command.strip():
        return None
    begun, ended = _seconds(start), _seconds(end)
    milliseconds = _number(took)
    duration = None if milliseconds is None else milliseconds / 1e3
    if duration is None and begun is not None and ended is not None:
        duration = max(0.0, ended - begun)
    if begun is None and ended is not None:
        begun = ended - (duration or 0.0)
    exit_code = int(code) if code.isdigit() and len(code) < 6 else None
    return Event(
        _text(command), begun, _text(cwd) or None, exit_code, duration, _text(session) or None, None, _text(shell)
    )


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _number(raw: bytes) -> float | None:
    # Shells write their decimal separator as the locale has it.
    raw = raw.replace(b",", b".")
    return float(raw) if re.fullmatch(rb"[0-9]{1,20}(\.[0-9]{1,20})?", raw) else None


def _seconds(raw: bytes) -> float | None:
    value = _number(raw)
    if value is not None and raw.isdigit() and len(raw) >= 15:
        value /= 1e6
    return value if value is not None and 0 < value <= LAST_SECOND else None
