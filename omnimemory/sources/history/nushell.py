r"""nushell histories, as text.

The rule is that of reedline (src/history/file_backed.rs): one command a line, a newline in a command is written as the
four characters ``<\n>``. There are no times; nushell's other form, a database, has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from omnimemory.sources.history.entry import Entry, Span, plain_event, to_entries
from omnimemory.sources.history.histfile import expand

__all__ = ["DEDUPLICATED", "NAME", "default_paths", "event", "looks_like", "parse", "spans"]

NAME = "nushell"
DEDUPLICATED = False

_NEWLINE = b"<\\n>"

event = plain_event


def parse(data: bytes, start: int = 0) -> Iterator[Entry]:
    """Yield the entries of a whole file's bytes from the entry boundary ``start`` on."""
    return to_entries(spans(data, start), NAME)


def spans(data: bytes, start: int = 0) -> Iterator[Span]:
    """Yield one span for each line of ``data`` from ``start`` on."""
    while start < len(data):
        newline = data.find(b"\n", start)
        end = len(data) if newline < 0 else newline + 1
        line = data[start : end if newline < 0 else newline].removesuffix(b"\r")
        yield line.replace(_NEWLINE, b"\n"), None, None, start, end, newline >= 0
        start = end


def default_paths(home: Path, environ: Mapping[str, str]) -> list[Path]:
    """Return where this user's nushell writes its history, most likely first; the database tells more."""
    configured = environ.get("XDG_CONFIG_HOME", "")
    folders = [expand(configured, home)] if configured else []
    folders += [home / ".config", home / "Library" / "Application Support"]
    names = ("history.sqlite3", "history.txt")
    return list(dict.fromkeys(folder / "nushell" / name for folder in folders for name in names))


def looks_like(head: bytes, name: str) -> int:
    """Return how much the first bytes of a file and its name speak for nushell; 0 is not at all."""
    return 2 * head.count(_NEWLINE) + ("nushell" in name.lower())
