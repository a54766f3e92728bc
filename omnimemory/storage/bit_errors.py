"""A single flipped bit put right without a copy: what was stored is the one neighbour that fits the checksum.

A row of n bits has n neighbours that differ from it in one bit. Each is tried against the checksum; of the 8,000
neighbours of a chunk of 1 kB one fits by accident in two of a million rows that are damaged in another way, so
copies of a row are asked first. A vector is not tried but solved for: its checksum is a sum (``checksums.py``), and
each word tells what it would have to be.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnimemory.storage.checksums import vector_checksums, vector_factors

__all__ = ["mended_row", "mended_vector", "neighbours"]

_ALL, _WORD = 2**64 - 1, np.uint64(2**32 - 1)
_LONGEST = 16_384
"""Bytes of a text up to which its neighbours are tried: 130,000 take a second or two."""


def mended_row(stored: Sequence[Any], check: Any, checksum: Callable[..., int]) -> tuple[Any, ...] | None:
    """Return the content of a row with one bit changed that has this checksum; ``None`` if there is none.

    The content itself is returned when it is the checksum that has one bit too many or too few.
    """
    if not isinstance(check, int):
        return None
    if (checksum(*stored) ^ check).bit_count() == 1:
        return tuple(stored)
    for place, value in enumerate(stored):
        for neighbour in neighbours(value):
            content = (*stored[:place], neighbour, *stored[place + 1 :])
            if checksum(*content) == check:
                return content
    return None


def neighbours(value: Any) -> Iterator[Any]:
    """Yield every value that differs from this one in one bit, as SQLite stores it.

    The type of a value is a number as well: one bit lies between NULL, 0 and 1, and between a text and bytes.
    """
    if value is None or value in (0, 1):
        yield from (other for other in (None, 0, 1) if other != value)
    if isinstance(value, bytes):
        with suppress(UnicodeDecodeError):
            yield value.decode("utf-8")
        yield from (bytes(changed) for changed in _flipped(value))
    elif isinstance(value, str):
        yield value.encode("utf-8", "surrogateescape")
        yield from _neighbouring_texts(value.encode("utf-8", "surrogateescape"))
    elif isinstance(value, float):
        (bits,) = struct.unpack(">Q", struct.pack(">d", value))
        yield from (struct.unpack(">d", struct.pack(">Q", bits ^ 1 << bit))[0] for bit in range(64))
    elif isinstance(value, int):
        yield from (value ^ 1 << bit for bit in range(63))


def _neighbouring_texts(data: bytes) -> Iterator[str]:
    for changed in _flipped(data):
        with suppress(UnicodeDecodeError):  # such a text was never stored
            yield changed.decode("utf-8")


def _flipped(data: bytes) -> Iterator[bytearray]:
    changed = bytearray(data)
    for place in range(len(data) if len(data) <= _LONGEST else 0):
        for bit in range(8):
            changed[place] ^= 1 << bit
            yield changed
            changed[place] ^= 1 << bit


def mended_vector(item: int, vector: NDArray[np.float32], check: int) -> NDArray[np.float32] | None:
    """Return the vector (dim,) with one bit changed that has this checksum; ``None`` if there is none."""
    words = np.ascontiguousarray(vector, dtype="<f4").view("<u4").astype(np.uint64)
    found = int(vector_checksums([item], vector[np.newaxis])[0])
    if ((found ^ check) & _ALL).bit_count() == 1:
        return vector
    # What each word would have to be for the sum to fit: its factor is odd, so it can be divided by.
    wanted = words + np.uint64((check - found) & _ALL) * _inverses(vector_factors(len(words)))
    changed = words ^ wanted
    (places,) = np.nonzero((wanted <= _WORD) & (changed != 0) & ((changed & (changed - np.uint64(1))) == 0))
    if len(places) != 1:
        return None
    words[places] = wanted[places]
    return words.astype("<u4").view("<f4")


def _inverses(factors: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the inverses of odd numbers modulo 2**64 (Newton's iteration doubles the bits that are right)."""
    inverse = factors.copy()
    for _ in range(6):
        inverse *= np.uint64(2) - factors * inverse
    return inverse
