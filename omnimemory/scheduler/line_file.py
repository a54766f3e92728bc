"""A file of lines that several processes of one user write to, and that never grows beyond a bound.

A line is one write to the end of the file, which several processes may do at once. When the file holds half of what may
be kept it is set aside, in the place of the one before. A file that cannot be written raises ``OSError``: who writes
decides what that means. Only its user can read it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path

__all__ = ["LineFile"]

_MOST_READ = 64 << 20


class LineFile:
    """The lines in ``<name>.jsonl`` and ``<name>.old.jsonl`` of a folder, about ``limit`` bytes. Callers hold a lock.

    ``problem`` says why the last line could not be written; empty if nothing is wrong.
    """

    def __init__(self, folder: Path, name: str, *, limit: int) -> None:
        self._folder = folder
        self._path, self._old = folder / f"{name}.jsonl", folder / f"{name}.old.jsonl"
        self._limit = limit
        self._fd: int | None = None
        self.problem = ""

    def write(self, line: str) -> None:
        """Write a line, or say in ``problem`` why that is not possible."""
        try:
            fd = self._opened()
            data = f"{line}\n".encode("ascii", "backslashreplace")
            whole = os.write(fd, data) == len(data)
            self.problem = "" if whole else f"a line was cut off in {self._path}: the disk is full"
        except OSError as error:
            self.problem = f"{self._path} cannot be written ({error.strerror or error})"
            self.close()

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with contextlib.suppress(OSError):
                os.close(fd)

    def lines(self, tail: int = _MOST_READ) -> list[bytes]:
        """Return the lines of both files, oldest first, but of each no more than the last ``tail`` bytes."""
        return [*_lines(self._old, tail), *_lines(self._path, tail)]

    def _opened(self) -> int:
        self._fd = self._open() if self._fd is None else self._fd
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
        fd = os.open(self._path, flags, 0o600)
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
            if self._path.lstat().st_ino == os.fstat(fd).st_ino:
                self._path.replace(self._old)


def _lines(path: Path, tail: int) -> list[bytes]:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - tail))
            return file.read(tail).splitlines()
    except OSError:
        return []
