"""The bytes of a history file, read so that nothing can hang, run over or be mistaken for text."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from omnimemory.errors import SourceError
from omnimemory.faults import reach

__all__ = ["HEAD_BYTES", "check_text", "open_regular", "read_all", "read_pipe", "starts_as_database"]

HEAD_BYTES = 8192
READ_BYTES = 65_536
_DATABASE = b"SQLite format 3\0"
MANY_NULS = 0.3  # a power cut leaves some; in UTF-16 every second byte is one
_MANY_CONTROLS = 0.04  # of bytes by chance 0.11
_CONTROLS = bytes(set(range(32)) - set(b"\0\t\n\r\x1b"))
_ENOUGH = 2048  # bytes; in a short history a few that were typed, or damage, would be many


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[int, os.stat_result]]:
    """Open a regular file (a symbolic link to one is followed) and give its descriptor and status.

    Any ``OSError`` while it is open becomes a ``SourceError`` that names the file and what to do.
    """
    try:
        # O_NONBLOCK: a FIFO without a writer would block in open() for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise _source_error(path, error) from error
    try:
        reach("source.read")
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(f"{path} is not a regular file but {_kind(status.st_mode)}. Give a history file.")
        yield descriptor, status
    except OSError as error:
        raise _source_error(path, error) from error
    finally:
        os.close(descriptor)


def read_all(descriptor: int, path: Path, expected: int, max_bytes: int) -> bytes:
    """Return all bytes up to the end, also when the file grew past ``expected``; more than ``max_bytes`` is refused."""
    parts: list[bytes] = []
    size = 0
    if expected <= max_bytes:
        while size <= max_bytes and (part := os.read(descriptor, max(expected - size, 0) + READ_BYTES)):
            parts.append(part)
            size += len(part)
    if max(size, expected) > max_bytes:
        raise SourceError(
            f"{path} has {max(size, expected):,} bytes, more than the limit of {max_bytes:,}."
            f" Split it, for example: split --line-bytes={max(max_bytes // 2, 1)} FILE"
        )
    return b"".join(parts)


def starts_as_database(descriptor: int) -> bool:
    """Return whether a file begins as SQLite databases do."""
    return os.pread(descriptor, len(_DATABASE), 0) == _DATABASE


def read_pipe(stream: IO[bytes], max_bytes: int) -> bytes:
    """Return all bytes of a stream; more than ``max_bytes`` is refused."""
    data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise SourceError(f"Standard input has more than the limit of {max_bytes:,} bytes. Give it in parts.")
    return data


def check_text(head: bytes, path: Path) -> None:
    """Raise ``SourceError`` when a file's first bytes show that it is no text history, and say what it looks like."""
    if head.startswith(_DATABASE):
        raise SourceError(f"{path} is an SQLite database, which cannot be piped in. Give its file.")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SourceError(f"{path} is UTF-16 text. Convert it: iconv -f UTF-16 -t UTF-8 {path} > FILE")
    if head and head.count(b"\0") > MANY_NULS * len(head):
        raise SourceError(f"{path} is binary (its beginning is full of NUL bytes), not a shell history.")
    if len(head) >= _ENOUGH and len(head) - len(head.translate(None, _CONTROLS)) > _MANY_CONTROLS * len(head):
        raise SourceError(f"{path} is binary (its beginning is full of control characters), not a shell history.")


def _source_error(path: Path, error: OSError | ValueError) -> SourceError:
    if isinstance(error, FileNotFoundError):
        return SourceError(f"{path} does not exist (any more). Check the path, or run again if it was being rewritten.")
    if isinstance(error, PermissionError):
        return SourceError(f"{path} may not be read by this user. Check: ls -l {path}")
    return SourceError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}. Check the path.")


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a character device",
        stat.S_IFBLK: "a block device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")
