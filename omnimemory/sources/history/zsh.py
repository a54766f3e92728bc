r"""zsh histories, plain and extended.

The rules are those of zsh's own reader and writer (Src/hist.c, ``readhistline``, ``readhistfile`` and
``savehistfile``):

* ``: <start>:<elapsed>;<command>`` is an extended entry; before zsh 4 the second number was the end time.
* A line that ends in a backslash goes on: that one backslash goes, the newline stays.
* A command that ends in backslashes and spaces is written with one more space, which is dropped again.
* A plain command that starts with ``:`` is written as ``\:``.
* The bytes are metafied: 0x83 says that the next byte was XORed with 32. This is undone before UTF-8 is decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from omnimemory.sources.history.entry import Entry, Span, plain_event, seconds, to_entries
from omnimemory.sources.history.histfile import expand, histfile

__all__ = ["DEDUPLICATED", "NAME", "default_paths", "event", "looks_like", "parse", "spans", "unmetafy"]

NAME = "zsh"
DEDUPLICATED = False
"""Commands are kept each time they run (unless the user asked for HIST_IGNORE_ALL_DUPS)."""

META = b"\x83"
METAFIED = re.compile(rb"\x83(.)", re.DOTALL)
BACKSLASH = 0x5C
HEADER = re.compile(rb":[ \t]*([^\s:;]*):[ \t]*(-?[0-9]+);")
BARE_HEADER = re.compile(rb":[ \t]*[0-9]*(?::[0-9]*)?")
EXTENDED_LINE = re.compile(rb"^: [0-9]+:[0-9]+;", re.MULTILINE)

event = plain_event


def parse(data: bytes, start: int = 0) -> Iterator[Entry]:
    """Yield the entries of a whole file's bytes from the entry boundary ``start`` on."""
    return to_entries(spans(data, start), NAME)


def spans(data: bytes, start: int = 0) -> Iterator[Span]:
    """Yield one span for each logical line of ``data`` from ``start`` on."""
    while start < len(data):
        newline = data.find(b"\n", start)
        while newline > 0 and data[newline - 1] == BACKSLASH:
            newline = data.find(b"\n", newline + 1)
        if newline < 0:
            rest = data[start:].removesuffix(b"\n").removesuffix(b"\\")  # of a continuation not written yet
            yield *_read(rest), start, len(data), False
            return
        yield *_read(data[start:newline]), start, newline + 1, True
        start = newline + 1


def default_paths(home: Path, environ: Mapping[str, str]) -> list[Path]:
    """Return where this user's zsh writes its history, most likely first."""
    folders = [expand(environ["ZDOTDIR"], home)] if environ.get("ZDOTDIR") else []
    names = (".zsh_history", ".zhistory", ".histfile")  # the last is what zsh-newuser-install proposes
    candidates = [folder / name for folder in (*folders, home) for name in names]
    return list(dict.fromkeys([*histfile(NAME, home, environ), *candidates]))


def looks_like(head: bytes, name: str) -> int:
    """Return how much the first bytes of a file and its name speak for zsh; 0 is not at all."""
    named = any(word in name.lower() for word in ("zsh", "zhistory", ".histfile"))
    return 2 * len(EXTENDED_LINE.findall(head)) + named


def unmetafy(raw: bytes) -> bytes:
    """Undo zsh's metafication; text that only makes sense as plain UTF-8 (made by another tool) is left alone."""
    if META not in raw:
        return raw
    plain = METAFIED.sub(lambda match: bytes((match[1][0] ^ 32,)), raw)
    return raw if _is_utf8(raw) and not _is_utf8(plain) else plain


def _read(raw: bytes) -> tuple[bytes, float | None, float | None]:
    """Return command, timestamp and duration of one logical line without its final newline."""
    if b"\0" in raw:
        raw = raw.replace(b"\0", b"")
    if raw.endswith(b" ") and raw.rstrip(b" ").endswith(b"\\"):
        raw = raw[:-1]
    header = HEADER.match(raw) if raw.startswith(b":") else None
    when = duration = None
    if header:
        when, duration = _times(header[1], header[2])
        raw = raw[header.end() :]
    elif raw.startswith(b"\\:"):
        raw = raw[1:]
    elif raw.startswith(b":") and BARE_HEADER.fullmatch(raw):
        raw = b""
    if b"\n" in raw:
        raw = raw.replace(b"\\\n", b"\n")
    return unmetafy(raw), when, duration


def _times(start: bytes, elapsed: bytes) -> tuple[float | None, float | None]:
    when = seconds(start)
    if not elapsed.strip(b"0"):
        return when, 0.0
    duration = seconds(elapsed)
    if when is not None and duration is not None and duration >= when:
        duration -= when
    return when, duration


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
