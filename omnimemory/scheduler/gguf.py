"""How many bytes of weights a GGUF file holds, from its header alone.

A header is ``GGUF``, a version, how many tensors and metadata entries there are, the entries, and for each tensor its
name, shape, type and offset; the tensors follow, aligned. Facts: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
(versions 2 and 3, little endian). The weights are all that follows the header, so a new type of tensor does no harm;
that the file goes on to the end of each tensor is checked for the types known here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from omnimemory.errors import EmbedderError

__all__ = ["gguf_bytes"]

_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_PLAIN = {0: (1, 4), 1: (1, 2), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 30: (1, 2)}
_Q4_0_TO_Q8_1 = {2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36)}
_Q2_K_TO_Q8_K = {10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292)}
_BLOCKS = {**_PLAIN, **_Q4_0_TO_Q8_1, **_Q2_K_TO_Q8_K}
"""Values in a block, and its bytes, for each type of tensor (``ggml.h``)."""
_MOST_HEADER = 64 << 20  # vocabularies of a quarter of a million words take a few MiB
_MOST_TENSORS = 1 << 20
_MOST_DIMENSIONS = 8
_DEEPEST = 4
_ALIGNMENT = 32


def gguf_bytes(path: Path) -> int:
    """Return the bytes of the tensors in a GGUF file. Raises :class:`EmbedderError` if it is missing or damaged."""
    if not path.is_file():
        raise EmbedderError(f"There is no weights file at {path}. Install the model again.")
    try:
        with path.open("rb") as file:
            return _tensor_bytes(_Header(file), path.stat().st_size)
    except (OSError, ValueError) as error:
        raise EmbedderError(f"{path} is no complete GGUF file ({error}). Install the model again.") from error


@dataclass(slots=True)
class _Header:
    """A cursor in the header that never reads more than a header can have."""

    file: BinaryIO

    def take(self, size: int) -> bytes:
        if size > _MOST_HEADER or self.file.tell() + size > _MOST_HEADER:
            raise ValueError("its header is too long")
        raw = self.file.read(size)
        if len(raw) != size:
            raise ValueError("it ends inside its header")
        return raw

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self) -> bytes:
        return self.take(self.number(8))

    def skip(self, kind: int, depth: int = 0) -> int | None:
        """Pass over a value; return it if it is a plain number."""
        if kind == _STRING:
            self.text()
        elif kind == _ARRAY and depth < _DEEPEST:
            inner, count = self.number(4), self.number(8)
            if inner in _SIZES:
                self.take(_SIZES[inner] * count)
            else:
                self._each(inner, count, depth)
        elif kind in _SIZES:
            return self.number(_SIZES[kind])
        else:
            raise ValueError(f"it has a value of the unknown type {kind}")
        return None

    def _each(self, inner: int, count: int, depth: int) -> None:
        for _ in range(count):  # ends at the end of the file at the latest: a text takes eight bytes
            self.skip(inner, depth + 1)


def _tensor_bytes(header: _Header, size: int) -> int:
    if header.take(4) != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    version = header.number(4)
    if version not in (2, 3):
        raise ValueError(f"its version is {version}, known are 2 and 3")
    tensors, entries = header.number(8), header.number(8)
    if tensors > _MOST_TENSORS:
        raise ValueError(f"it claims {tensors} tensors")
    alignment = _alignment(header, entries)
    last = max((_end(header) for _ in range(tensors)), default=0)
    held = size - -(-header.file.tell() // alignment) * alignment
    if tensors and last > held:
        raise ValueError(f"a tensor ends at byte {last} of {max(0, held)}")
    return held if tensors else 0


def _alignment(header: _Header, entries: int) -> int:
    alignment = _ALIGNMENT
    for _ in range(entries):  # as above: an entry takes more than eight bytes
        name = header.text()
        value = header.skip(header.number(4))
        if name == b"general.alignment" and value:
            alignment = value
    if alignment & (alignment - 1) or alignment > 1 << 20:
        raise ValueError(f"its alignment is {alignment}")
    return alignment


def _end(header: _Header) -> int:
    """Return where a tensor ends, or the least that can be where its type is unknown."""
    header.text()
    dimensions = header.number(4)
    if dimensions > _MOST_DIMENSIONS:
        raise ValueError(f"a tensor has {dimensions} dimensions")
    values = math.prod(header.number(8) for _ in range(dimensions))
    values_of_block, block = _BLOCKS.get(header.number(4), (1 << 62, 1))
    return header.number(8) + -(-values // values_of_block) * block
