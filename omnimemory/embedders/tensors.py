"""The tensors of a safetensors file, mapped into memory instead of read.

The format is eight bytes of header length, a JSON header, then the tensors (huggingface.co/docs/safetensors). Mapped
pages are shared with every process that uses the same model, and a table of which a few rows are asked for costs only
those. What is not float32 in the file (half precision and bfloat16) is widened, which takes memory of its own.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnimemory.errors import EmbedderError

__all__ = ["Tensors"]

_MOST_HEADER = 100_000_000  # the limit of the safetensors library itself
_SIZES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U32": 4, "U8": 1, "BOOL": 1}


class Tensors(Mapping[str, NDArray[np.float32]]):
    """The float tensors of one file by name, as read-only float32 arrays.

    Raises :class:`EmbedderError` for a file that is missing, cut off or something else, and when a tensor is asked for
    that holds no floats.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._map()
        self._start, self._header = self._read_header()

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        kind, shape, begin = self._header[name]
        count = math.prod(shape)
        offset = self._start + begin
        if kind == "F32":
            if offset % 4:  # such a view would be legal, and slow; no writer makes one
                raw = np.frombuffer(self._file[offset : offset + 4 * count], dtype="<f4")
            else:
                raw = np.frombuffer(self._file, dtype="<f4", count=count, offset=offset)
            return raw.reshape(shape)
        if kind == "F16":
            half = np.frombuffer(self._file, dtype="<f2", count=count, offset=offset)
            return half.astype(np.float32).reshape(shape)
        if kind == "BF16":  # the upper half of a float32
            bits = np.frombuffer(self._file, dtype="<u2", count=count, offset=offset).astype(np.uint32) << 16
            return bits.view(np.float32).reshape(shape)
        raise EmbedderError(
            f"{self._path}: the tensor {name} holds {kind}, not floats. Choose another file of this model."
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._header)

    def __len__(self) -> int:
        return len(self._header)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, of whatever it holds."""
        return self._header[name][1]

    def kind(self, name: str) -> str:
        """Return what a tensor holds: ``F32``, ``F16``, ``BF16``, ``U32`` and so on."""
        return self._header[name][0]

    def release(self) -> None:
        """Let the system take back the pages that were read; they are read again if they are needed."""
        if hasattr(self._file, "madvise"):
            with suppress(OSError, ValueError):
                self._file.madvise(mmap.MADV_DONTNEED)

    def _map(self) -> mmap.mmap:
        try:
            with self._path.open("rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise EmbedderError(f"There is no weights file {self._path}. Pull the model again.") from None
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            reason = error.strerror if isinstance(error, OSError) else "it is empty"
            raise EmbedderError(
                f"The weights file {self._path} cannot be read: {reason}. Pull the model again."
            ) from error

    def _read_header(self) -> tuple[int, dict[str, tuple[str, tuple[int, ...], int]]]:
        length = int.from_bytes(self._file[:8], "little")
        try:
            _check_length(length, len(self._file))
            header: dict[str, Any] = json.loads(self._file[8 : 8 + length])
            size = len(self._file) - 8 - length
            entries = ((name, entry) for name, entry in header.items() if name != "__metadata__")
            return 8 + length, {name: _checked(name, entry, size) for name, entry in entries}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise EmbedderError(
                f"{self._path} is no complete safetensors file ({error}). Pull the model again."
            ) from error


def _check_length(length: int, size: int) -> None:
    if not 2 <= length <= min(_MOST_HEADER, size - 8):
        raise ValueError(f"its header has {length} bytes, the file {size}")


def _checked(name: str, entry: dict[str, Any], size: int) -> tuple[str, tuple[int, ...], int]:
    kind, shape, (begin, end) = str(entry["dtype"]), tuple(entry["shape"]), entry["data_offsets"]
    whole = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
    if not whole or not begin <= end <= size:
        raise ValueError(f"the tensor {name} ends at byte {end} of {size}")
    if kind in _SIZES and end - begin != math.prod(shape) * _SIZES[kind]:
        raise ValueError(f"the tensor {name} has {end - begin} bytes, which its shape {list(shape)} does not fill")
    return kind, shape, begin
