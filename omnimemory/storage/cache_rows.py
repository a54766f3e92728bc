"""The format of a cached vector: an MD5 key to find it, a BLAKE2b check to believe it.

Both are taken over the same bytes: the lengths and the characters of space and role, the dimensions,
then the text. Lengths come first, so no two different questions give the same bytes. MD5 finds the row
quickly but collides for whoever wants it to; the check, over the same bytes and the vector, is what
decides. A row that was altered, cut, swapped or planted is a miss, never a wrong vector.

A value is ``OMV1``, the dimensions (uint32), the check (16 bytes), then the float32 components; all
little-endian.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

from omnimemory.errors import ConfigError

__all__ = ["CHECK_BYTES", "HEADER_BYTES", "MAGIC", "Scope", "row_keys"]

MAGIC = b"OMV1"
HEADER_BYTES = 8
CHECK_BYTES = 16
_FIRST_FLOAT = HEADER_BYTES + CHECK_BYTES
_MAX_DIM = 65_536


class Scope:
    """One space, role and number of dimensions: what all texts of a call have in common."""

    def __init__(self, space: str, role: str, dim: int) -> None:
        if not 1 <= dim <= _MAX_DIM:
            raise ConfigError(f"vectors of {dim} dimensions cannot be cached: 1 to {_MAX_DIM} can")
        names = [name.encode("utf-8", "surrogatepass") for name in (space, role)]
        counted = [struct.pack("<I", len(name)) + name for name in names]
        self.prefix = b"omnimemory\0" + b"".join(counted) + struct.pack("<I", dim)
        self.dim = dim
        self._vector_bytes = 4 * dim
        self.value_bytes = _FIRST_FLOAT + self._vector_bytes
        self._header = MAGIC + struct.pack("<I", dim)

    def materials(self, texts: Iterable[str]) -> list[bytes]:
        """Return the bytes that stand for each text: what is hashed for its key and its check."""
        prefix = self.prefix
        return [prefix + text.encode("utf-8", "surrogatepass") for text in texts]

    def seal(self, material: bytes, vector: bytes) -> bytes:
        """Return the value to store for the bytes of one float32 vector."""
        digest = hashlib.blake2b(material, digest_size=CHECK_BYTES)
        digest.update(vector)
        return b"".join((self._header, digest.digest(), vector))

    def open(self, material: bytes, value: bytes) -> bytes | None:
        """Return the bytes of the vector if this value really is the answer, else ``None``."""
        vector = value[_FIRST_FLOAT:]
        digest = hashlib.blake2b(material, digest_size=CHECK_BYTES)
        digest.update(vector)
        good = value[:_FIRST_FLOAT] == self._header + digest.digest() and len(vector) == self._vector_bytes
        return vector if good else None


def row_keys(materials: Iterable[bytes]) -> list[bytes]:
    """Return the MD5 of each: an address, not a proof."""
    md5 = hashlib.md5
    return [md5(material, usedforsecurity=False).digest() for material in materials]
