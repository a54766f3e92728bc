"""bash histories: one command a line, or blocks under ``#<seconds>`` lines.

The rules are those of readline's own reader (lib/readline/histfile.c, ``read_history_range``): when the
first line of the file is a timestamp, all lines up to the next timestamp are one command and blank
lines in it are kept; otherwise every line is a command, a timestamp belongs to the next one and blank lines
are nothing. One carriage return before a newline is dropped.

Two things are done differently, so that nothing is lost. readline takes any line that starts with ``#`` and
a digit for a timestamp, and so forgets a typed ``#1 fix``; here a timestamp has nothing else on its line.
And a block longer than any command (timestamps were switched off at some time) is read line by line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from omnimemory.sources.history.entry import MAX_COMMAND_BYTES, Entry, Span, plain_event, seconds, to_entries
from omnimemory.sources.history.histfile import histfile

__all__ = ["DEDUPLICATED", "NAME", "default_paths", "event", "looks_like", "parse", "spans"]

NAME = "bash"
DEDUPLICATED = False
"""Commands are kept each time they run (unless the user asked for HISTCONTROL=erasedups)."""

TIMESTAMP = re.compile(rb"^\0*#([0-9]+)[ \t]*\r?$", re.MULTILINE)
PARTIAL_TIMESTAMP = re.compile(rb"\0*#[0-9]*[ \t]*\r?")

event = plain_event


def parse(data: bytes, start: int = 0) -> Iterator[Entry]:
    """Yield the entries of a whole file's bytes from the entry boundary ``start`` on."""
    return to_entries(spans(data, start), NAME)


def spans(data: bytes, start: int = 0) -> Iterator[Span]:
    """Yield the spans of ``data`` from ``start`` on; the file's first line decides how it is read."""
    end = _settled_end(data)
    return _blocks(data, start, end) if TIMESTAMP.match(data) else _lines(data, start, end)


def default_paths(home: Path, environ: Mapping[str, str]) -> list[Path]:
    """Return where this user's bash writes its history, most likely first."""
    return [*histfile(NAME, home, environ), home / ".bash_history"]


def looks_like(head: bytes, name: str) -> int:
    """Return how much the first bytes of a file and its name speak for bash; 0 is not at all."""
    return 2 * len(TIMESTAMP.findall(head)) + ("bash" in name.lower())


def _settled_end(data: bytes) -> int:
    """Return the end of the file without a last line that may be a timestamp only half written."""
    last = data.rfind(b"\n") + 1
    return last if PARTIAL_TIMESTAMP.fullmatch(data, last) else len(data)


def _blocks(data: bytes, start: int, end: int) -> Iterator[Span]:
    opened = body = start
    when: float | None = None
    for stamp in TIMESTAMP.finditer(data, start, end):
        yield from _block(data, (opened, body, stamp.start()), when, complete=True)
        opened, body, when = stamp.start(), stamp.end() + 1, seconds(stamp[1])
    # Whatever comes next belongs to the last block, unless it is a timestamp.
    yield from _block(data, (opened, body, end), when, complete=False)


def _block(data: bytes, where: tuple[int, int, int], when: float | None, *, complete: bool) -> Iterator[Span]:
    opened, body, end = where
    if opened == end:
        return
    if opened == body:  # an entry without a timestamp: it lies inside a block that was too long for one command
        yield from _lines(data, body, end)
        return
    if end - body > MAX_COMMAND_BYTES:
        yield from _lines(data, body, end, opened, when)
        return
    command = data[body:end]
    if b"\r" in command:
        command = command.replace(b"\r\n", b"\n").removesuffix(b"\r")
    yield command.removesuffix(b"\n"), when, None, opened, end, complete


def _lines(data: bytes, start: int, end: int, opened: int | None = None, when: float | None = None) -> Iterator[Span]:
    """Yield one span a line; ``opened`` is where a timestamp stands that still waits for its command."""
    while start < end:
        newline = data.find(b"\n", start, end)
        after = end if newline < 0 else newline + 1
        line = data[start : after if newline < 0 else newline].removesuffix(b"\r")
        stamp = TIMESTAMP.match(line) if line[:1] in (b"#", b"\0") else None
        if stamp:
            opened, when = start, seconds(stamp[1])
        elif line or opened is None:
            yield line, when, None, start if opened is None else opened, after, newline >= 0
            opened = when = None
        start = after
    if opened is not None:
        yield b"", when, None, opened, end, False
