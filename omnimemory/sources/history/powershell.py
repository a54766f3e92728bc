"""PowerShell histories, as its line editor writes them.

The rules are those of PSReadLine (History.cs, ``WriteHistoryRange`` and ``ReadHistoryLinesImpl``): one command a
line; a newline in a command is written as backtick and newline, so a line that ends in a backtick goes on. There are
no times. On Windows lines end in CR LF. A command whose last line ends in a backtick runs into the next one, as it
does in PowerShell itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from omnimemory.sources.history.entry import Entry, Span, plain_event, to_entries
from omnimemory.sources.history.histfile import data_folders, expand

__all__ = ["DEDUPLICATED", "NAME", "default_paths", "event", "looks_like", "parse", "spans"]

NAME = "powershell"
DEDUPLICATED = False
"""Each run is kept: HistoryNoDuplicates only changes what is recalled."""

_MARK = b"\xef\xbb\xbf"
_CMDLET = re.compile(rb"^[A-Z][a-z]+-[A-Z][A-Za-z]+\b", re.MULTILINE)
_FILE = "ConsoleHost_history.txt"

event = plain_event


def parse(data: bytes, start: int = 0) -> Iterator[Entry]:
    """Yield the entries of a whole file's bytes from the entry boundary ``start`` on."""
    return to_entries(spans(data, start), NAME)


def spans(data: bytes, start: int = 0) -> Iterator[Span]:
    """Yield one span for each logical line of ``data`` from ``start`` on."""
    while start < len(data):
        parts: list[bytes] = []
        end = start
        while True:
            newline = data.find(b"\n", end)
            line = data[end : len(data) if newline < 0 else newline].removesuffix(b"\r")
            goes_on = line.endswith(b"`")
            parts.append(line[:-1] if goes_on else line)
            end = len(data) if newline < 0 else newline + 1
            if newline < 0 or not goes_on or end == len(data):
                break
        command = b"\n".join(parts)
        complete = newline >= 0 and not goes_on
        yield command.removeprefix(_MARK) if start == 0 else command, None, None, start, end, complete
        start = end


def default_paths(home: Path, environ: Mapping[str, str]) -> list[Path]:
    """Return where this user's PowerShell writes its history, most likely first."""
    roaming = environ.get("APPDATA", "")
    windows = [expand(roaming, home) / "Microsoft" / "Windows" / "PowerShell" / "PSReadLine" / _FILE] if roaming else []
    return [*windows, *(folder / "powershell" / "PSReadLine" / _FILE for folder in data_folders(home, environ))]


def looks_like(head: bytes, name: str) -> int:
    """Return how much the first bytes of a file and its name speak for PowerShell; 0 is not at all."""
    named = any(word in name.lower() for word in ("consolehost", "powershell", "psreadline"))
    return 2 * len(_CMDLET.findall(head)) + named
