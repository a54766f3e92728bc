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
from dataclasses import replace
from pathlib import Path
from typing import IO

from omnimemory.errors import SourceError
from omnimemory.sources.history.cursor import Cursor, identity, is_settled
from omnimemory.sources.history.database import read_database
from omnimemory.sources.history.entry import MAX_COMMAND_BYTES, Entries
from omnimemory.sources.history.found import HistoryRead, RowCursor
from omnimemory.sources.history.reading import (
    HEAD_BYTES,
    check_text,
    open_regular,
    read_all,
    read_pipe,
    starts_as_database,
)
from omnimemory.sources.history.shells import SHELLS, detect, shell_named

__all__ = ["read_history", "read_stream"]

MAX_BYTES = 256 * 1024 * 1024
_BLANK = b"\0 \t\r\n\v\f"
KEY_BYTES = 64  # the most that BLAKE2b takes


def read_history(
    path: Path,
    *,
    shell: str | None = None,
    cursor: Cursor | RowCursor | None = None,
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
    with open_regular(path) as (descriptor, status):
        is_database = starts_as_database(descriptor)
        if not is_database:
            cursor = _text_cursor(cursor, shell)
            if cursor and cursor.matches(status):
                return _nothing_new(path, cursor)
            data = read_all(descriptor, path, status.st_size, max_bytes)
    if is_database:
        return read_database(path, shell=shell, cursor=cursor, key=key, now=clock() / 1e9)
    if shell is not None and shell not in SHELLS:
        raise SourceError(f"{path} is no SQLite database, so it is no history of {shell}. Give it without --shell.")
    assert not isinstance(cursor, RowCursor)
    return _read_text(path, data, shell, cursor, key, status, clock())


def read_stream(
    name: str, stream: IO[bytes], *, shell: str | None, cursor: Cursor | RowCursor | None, key: bytes
) -> HistoryRead:
    """Read a history that is piped in; it goes on where the cursor stands when it begins as it did then.

    Raises ``SourceError`` when it is too long or no text.
    """
    if shell is not None and shell not in SHELLS:
        shell_named(shell)
        raise SourceError(f"A history of {shell} is a database and cannot be piped in. Give its file.")
    data = read_pipe(stream, MAX_BYTES)
    return _read_text(Path(name), data, shell, _text_cursor(cursor, shell), key, None, 0)


def _text_cursor(cursor: Cursor | RowCursor | None, shell: str | None) -> Cursor | None:
    if isinstance(cursor, RowCursor):
        cursor = Cursor(cursor.shell, 0, 0, cursor.digest, -1, 0, 0, 0, 0, settled=False)
    if cursor and (cursor.shell not in SHELLS or (shell or cursor.shell) != cursor.shell):
        # Offsets and positions of one format mean nothing in another: a size of -1 is never verified.
        cursor = replace(cursor, size=-1)
    return cursor


def _read_text(
    path: Path,
    data: bytes,
    shell: str | None,
    cursor: Cursor | None,
    key: bytes,
    status: os.stat_result | None,
    now_ns: int,
) -> HistoryRead:
    check_text(data[:HEAD_BYTES], path)
    verified, digest = _digests(data, cursor, key)
    seen = _cursor_over(data, digest, status, now_ns)
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


def _cursor_over(data: bytes, digest: str, status: os.stat_result | None, now_ns: int) -> Cursor:
    """Return a cursor over all of ``data``; shell, offset and count are filled in when they are known.

    Without a status, as for a pipe, nothing but the content ever tells that it is the same.
    """
    # What was read, not what the status said: should the file have grown in between, the next read looks again.
    _, modified, changed, inode, device = identity(status) if status else (0, 0, 0, 0, 0)
    settled = status is not None and is_settled(status, now_ns)
    return Cursor("", 0, 0, digest, len(data), modified, changed, inode, device, settled)


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
