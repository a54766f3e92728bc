r"""fish histories.

A file looks like YAML and is not: fish reads it with its own code (src/history/yaml_backend.rs), and so is
it read here. An item starts with ``- cmd: ``; its indented lines hold ``when: <seconds>`` and paths, which
are not commands. Only ``\\`` and ``\n`` are escapes, and they are undone in one pass: undoing
one after the other turns a typed ``\n`` into a newline.

fish keeps only the latest run of each command, so what follows what in this file did not follow in life.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from omnimemory.sources.history.entry import Entry, Span, plain_event, seconds, to_entries
from omnimemory.sources.history.histfile import expand

__all__ = ["DEDUPLICATED", "NAME", "default_paths", "event", "looks_like", "parse", "spans"]

NAME = "fish"
DEDUPLICATED = True
"""Each command is there once, at its latest time: transitions between entries are not real."""

# Old versions that rewrote the file of a newer one left "- cmd: - cmd: ..." and "- cmd:    when: ..." behind.
ITEM = re.compile(rb"^\0*- cmd:(?: - cmd:)*([^\n]*)(?:\n +when:([^\n]*)\n)?", re.MULTILINE)
STRAY_WHEN = b"    when:"
WHEN = re.compile(rb"^ +when:([^\n]*)\n", re.MULTILINE)
ESCAPE = re.compile(rb"\\([\\n])")

event = plain_event


def parse(data: bytes, start: int = 0) -> Iterator[Entry]:
    """Yield the entries of a whole file's bytes from the entry boundary ``start`` on."""
    return to_entries(spans(data, start), NAME)


def spans(data: bytes, start: int = 0) -> Iterator[Span]:
    """Yield one span for each item of ``data`` from ``start`` on; lines outside of items are passed over."""
    items = ITEM.finditer(data, start)
    item = next(items, None)
    while item:
        following = next(items, None)
        end = following.start() if following else len(data)
        when = item[2]
        if when is None and (later := WHEN.search(data, item.end(), end)):
            when = later[1]
        if following is None and when is not None:
            end = data.rfind(b"\n") + 1  # what stands after it may become the next item
        complete = following is not None or when is not None
        yield _command(item[1]), None if when is None else seconds(when.strip()), None, item.start(), end, complete
        item = following


def default_paths(home: Path, environ: Mapping[str, str]) -> list[Path]:
    """Return where this user's fish writes its history, most likely first."""
    data = environ.get("XDG_DATA_HOME", "")
    folders = [expand(data, home)] if data else []
    paths = [folder / "fish" / "fish_history" for folder in (*folders, home / ".local" / "share")]
    return list(dict.fromkeys(paths))


def looks_like(head: bytes, name: str) -> int:
    """Return how much the first bytes of a file and its name speak for fish; 0 is not at all."""
    return 2 * len(ITEM.findall(head)) + ("fish" in name.lower())


def _command(value: bytes) -> bytes:
    if value.startswith(STRAY_WHEN):
        return b""
    value = value.lstrip(b" \t\r\f")
    if b"\\" in value:
        value = ESCAPE.sub(lambda match: b"\n" if match[1] == b"n" else b"\\", value)
    return value
