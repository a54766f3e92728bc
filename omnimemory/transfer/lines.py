"""The lines of an export: JSON objects in ASCII, each sealed by a digest over itself and all lines before it.

So a line that was changed, lost, doubled or moved is noticed where it stands, and a file that ends too early
at its end. The digest (BLAKE2b, 64 bits) is no signature: it tells damage, not who wrote the file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import IO, Any, NoReturn

from omnimemory.errors import SourceError

__all__ = ["Line", "LineWriter", "damaged", "read_lines"]

Line = tuple[int, dict[str, Any]]
"""A line's number, from 1, and its object without the seal."""

_MOST_BYTES = 256 * 2**20  # far above any note, far below what would fill the memory
_SEAL = re.compile(rb',"seal":"([0-9a-f]{16})"\}\r?\n?\Z')


class LineWriter:
    """Gives each object as one sealed line to ``write``; counts lines and bytes."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._seal = ""
        self.lines = 0
        self.bytes = 0

    def put(self, content: dict[str, Any]) -> None:
        """Write one object, which must not be empty and must hold neither NaN nor infinity."""
        body = json.dumps(content, separators=(",", ":"), sort_keys=False, allow_nan=False).encode()
        self._seal = _sealed(self._seal, body)
        line = body[:-1] + f',"seal":"{self._seal}"}}\n'.encode()
        self._write(line)
        self.lines += 1
        self.bytes += len(line)


def read_lines(stream: IO[bytes], name: str) -> Iterator[Line]:
    """Yield the lines of an export. Raises :class:`SourceError` that names the first line that is not sound."""
    seal, number = "", 0
    while line := _next_line(stream, name):
        number += 1
        match = _SEAL.search(line, max(0, len(line) - 40))
        if match is None:
            _refuse(line, number, name)
        body = line[: match.start()] + b"}"
        seal = _sealed(seal, body)
        if match[1].decode() != seal:
            damaged(name, number, "it was changed, or lines before it are missing")
        yield number, _parsed(body, number, name)


def _next_line(stream: IO[bytes], name: str) -> bytes:
    try:
        return stream.readline(_MOST_BYTES)
    except OSError as error:
        raise SourceError(f"{name} cannot be read ({error.strerror or error}). Check the path.") from error


def _sealed(before: str, body: bytes) -> str:
    return hashlib.blake2b(before.encode() + body, digest_size=8).hexdigest()


def _parsed(body: bytes, number: int, name: str) -> dict[str, Any]:
    try:
        found = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        damaged(name, number, f"it is not JSON: {error}")
    if not isinstance(found, dict):
        damaged(name, number, "it is not an object")
    return found


def _no_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _refuse(line: bytes, number: int, name: str) -> NoReturn:
    if number == 1:
        raise SourceError(f"{name}, line 1: this is not an export. One is made with: omnimemory export FILE")
    if len(line) == _MOST_BYTES:
        damaged(name, number, f"it is longer than {_MOST_BYTES:,} bytes")
    if not line.endswith(b"\n"):
        damaged(name, number, "the file was cut off within it")
    damaged(name, number, "it is no line of an export")


def damaged(name: str, number: int, why: str) -> NoReturn:
    """Raise :class:`SourceError` for a line that cannot be used."""
    raise SourceError(
        f"{name}, line {number}: damaged: {why}. Copy or export the file again. What was read before this line may be "
        "stored already, and stays right: importing the sound file completes it."
    )
