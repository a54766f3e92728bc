"""Reading a history file from where the last read ended.

An unchanged file costs one ``fstat``. Otherwise the bytes that were read before are only hashed: when their
digest is still the same, parsing starts behind them. When it is not (the shell trimmed the file, somebody edited
it, it was rotated) everything is returned and ``rewritten`` says so.

The last entry may still grow: a shell was half-way through writing it, or its next line comes later. It
is returned all the same, and the next read returns it again at the same position. So, whatever happens in between::

    known[: read.first_position] + read.entries == everything in the file
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from omnimemory.sources.history.cursor import Cursor, is_settled
from omnimemory.sources.history.entry import MAX_COMMAND_BYTES, Entries
from omnimemory.sources.history.reading import HEAD_BYTES, check_text, open_regular, read_all
from omnimemory.sources.history.shells import SHELLS, detect, shell_named

__all__ = ["HistoryRead", "read_history"]

MAX_BYTES = 256 * 1024 * 1024
_BLANK = b"\0 \t\r\n\v\f"
KEY_BYTES = 64  # the most that BLAKE2b takes


@dataclass(frozen=True, slots=True)
class HistoryRead:
    """What one read of a history file found.

    ``entries`` are those after the verified prefix, or all of them when the file was ``rewritten`` or is read for
    the first time; the first one has the ordinal ``first_position``. ``unchanged``: the file is byte for
    byte what ``cursor`` saw, and there are no entries. ``oversize`` counts the commands among the bytes parsed that
    were skipped for their length, ``unreadable`` the lines that are none. ``cursor`` is to be stored after the entries
    are committed.
    """

    path: Path
    shell: str
    entries: Entries
    first_position: int
    rewritten: bool
    unchanged: bool
    cursor: Cursor
    oversize: int = 0
    unreadable: int = 0


def read_history(
    path: Path,
    *,
    shell: str | None = None,
    cursor: Cursor | None = None,
    key: bytes,
    max_bytes: int = MAX_BYTES,
    clock: Callable[[], int] = time.time_ns,
) -> HistoryRead:
    """Read a history file, or what is new in it since ``cursor``.

    ``key`` keys the digests that are stored, so that a stored one cannot confirm a guess at what a history held.
    ``shell`` None is: that of the cursor, else detected. ``clock`` tells the time in nanoseconds. Raises
    ``SourceError`` when the file cannot be read or is no text, ``ConfigError`` for an unknown shell.
    """
    if shell is not None:
        shell_named(shell)
    if cursor and (cursor.shell not in SHELLS or (shell or cursor.shell) != cursor.shell):
        # Offsets and positions of one format mean nothing in another: a size of -1 is never verified.
        cursor = replace(cursor, size=-1)
    with open_regular(path) as (descriptor, status):
        if cursor and cursor.matches(status):
            return _nothing_new(path, cursor)
        data = read_all(descriptor, path, status.st_size, max_bytes)
    check_text(data[:HEAD_BYTES], path)
    verified, digest = _digests(data, cursor, key)
    seen = _cursor_over(data, digest, status, clock())
    if cursor and verified and cursor.size == len(data):
        return _nothing_new(path, replace(seen, shell=cursor.shell, offset=cursor.offset, count=cursor.count))
    old = cursor if verified else None
    # Where nothing is final yet, more content may tell the shell better.
    name = shell or (old.shell if old and old.offset else detect(data[:HEAD_BYTES], path))
    return _parsed(path, data, name, seen, old=old, rewritten=cursor is not None and not verified)


def _nothing_new(path: Path, cursor: Cursor) -> HistoryRead:
    return HistoryRead(
        path, cursor.shell, Entries(cursor.shell), cursor.count, rewritten=False, unchanged=True, cursor=cursor
    )


def _digests(data: bytes, cursor: Cursor | None, key: bytes) -> tuple[bool, str]:
    """Return whether ``data`` starts with what the cursor saw, and the digest of all of it, in one pass."""
    short_key = key if len(key) <= KEY_BYTES else hashlib.blake2b(key).digest()
    state = hashlib.blake2b(key=short_key, digest_size=32)
    view = memoryview(data)
    verified = False
    hashed = 0
    if cursor and 0 <= cursor.size <= len(data):
        hashed = cursor.size
        state.update(view[:hashed])
        verified = state.hexdigest() == cursor.digest
    state.update(view[hashed:])
    return verified, state.hexdigest()


def _cursor_over(data: bytes, digest: str, status: os.stat_result, now_ns: int) -> Cursor:
    """Return a cursor over all of ``data``; shell, offset and count are filled in when they are known."""
    return Cursor(
        shell="",
        offset=0,
        count=0,
        digest=digest,
        # What was read, not what the status said: should the file have grown in between, the next read looks again.
        size=len(data),
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        inode=status.st_ino,
        device=status.st_dev,
        settled=is_settled(status, now_ns),
    )


def _parsed(path: Path, data: bytes, name: str, seen: Cursor, *, old: Cursor | None, rewritten: bool) -> HistoryRead:
    offset = old.offset if old else 0
    first = old.count if old else 0
    entries = Entries(name, event=SHELLS[name].event)
    oversize = unreadable = 0
    for span in SHELLS[name].spans(data, offset):
        start, end, complete = span[3:]
        if not entries.add(span):
            oversize += len(span[0]) > MAX_COMMAND_BYTES
            unreadable += complete and 0 < len(span[0].strip(_BLANK)) <= MAX_COMMAND_BYTES
        offset = end if complete else start
    count = first + entries.starting_before(offset)
    cursor = replace(seen, shell=name, offset=offset, count=count)
    return HistoryRead(
        path, name, entries, first, rewritten, unchanged=False, cursor=cursor, oversize=oversize, unreadable=unreadable
    )
