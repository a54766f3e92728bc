"""The file of decisions: what was decided by all processes of a user, and what became of it.

A decision is written when it is made and its end when it ends, so what a killed process was doing is there as well. A
line is one write to the end of the file, which several processes may do at once. When the file holds half of what may
be kept it is set aside, in the place of the one before: what is kept is bounded. A file that cannot be written is said
once and done without. Only its user can read it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path

from omnimemory.scheduler.policy import Decision
from omnimemory.scheduler.traces import End, Trace, line_of_decision, line_of_end, traces_of

__all__ = ["Journal", "read_journal"]

_NAME, _OLD = "decisions.jsonl", "decisions.old.jsonl"
_MOST_READ = 64 << 20


class Journal:
    """Writes to the file in ``folder``, of which at most about ``limit`` bytes are kept. Callers hold a lock."""

    def __init__(self, folder: Path, *, limit: int = 4 << 20) -> None:
        self._folder = folder
        self._limit = limit
        self._fd: int | None = None
        self.problem = ""

    def decided(self, decision: Decision) -> None:
        """Write a decision."""
        self._write(line_of_decision(decision, os.getpid()))

    def ended(self, name: str, end: End) -> None:
        """Write how a request ended."""
        self._write(line_of_end(name, end))

    def traces(self) -> list[Trace]:
        """Return the requests in the file, oldest first."""
        return read_journal(self._folder)

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with contextlib.suppress(OSError):
                os.close(fd)

    def _write(self, line: str) -> None:
        try:
            fd = self._opened()
            data = f"{line}\n".encode("ascii", "backslashreplace")
            whole = os.write(fd, data) == len(data)
            self.problem = "" if whole else f"a decision was cut off in {self._folder}: the disk is full"
        except OSError as error:
            self.problem = f"decisions cannot be written to {self._folder} ({error.strerror or error})"
            self.close()

    def _opened(self) -> int:
        if self._fd is not None:
            found = os.fstat(self._fd)
            if found.st_nlink and found.st_size < self._limit // 2:
                return self._fd
            if found.st_nlink:
                self._set_aside(self._fd)
            self.close()
        self._fd = self._open()
        return self._fd

    def _open(self) -> int:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(self._folder / _NAME, flags, 0o600)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
            os.close(fd)
            raise OSError(None, "it is not a file of this user")
        if found.st_size and os.pread(fd, 1, found.st_size - 1) != b"\n":
            os.write(fd, b"\n")  # the last line was cut off
        return fd

    def _set_aside(self, fd: int) -> None:
        """Put the full file in the place of the older one, unless another process has done so."""
        fcntl.flock(fd, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if (self._folder / _NAME).lstat().st_ino == os.fstat(fd).st_ino:
                (self._folder / _NAME).replace(self._folder / _OLD)


def read_journal(folder: Path, *, tail: int = _MOST_READ) -> list[Trace]:
    """Return the requests that all processes recorded in a folder, oldest first; nothing is made.

    Of each of the two files the last ``tail`` bytes are read.
    """
    return traces_of(line for name in (_OLD, _NAME) for line in _lines(folder / name, tail))


def _lines(path: Path, tail: int) -> list[bytes]:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - tail))
            return file.read(tail).splitlines()
    except OSError:
        return []
