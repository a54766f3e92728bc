"""The fields of a line of an export, each checked for its type before anything is done with it.

An export is input like any other: it may come from anywhere.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import Any, NoReturn

import numpy as np

from omnimemory.embedders.base import Vectors
from omnimemory.transfer.lines import Line, damaged

__all__ = ["Fields"]

_NORM_ERROR = 1e-3
_HALF = re.compile("[\ud800-\udfff]")  # of a character: UTF-8 cannot say it


class Fields:
    """The fields of one line of ``origin``, each checked for its type; whatever is wrong names the line."""

    def __init__(self, line: Line, name: str) -> None:
        self.number_of_line, self.found = line
        self.origin = name

    def _wrong(self, field: str) -> NoReturn:
        damaged(self.origin, self.number_of_line, f"its {field!r} is missing or not what it should be")

    def get(self, field: str, kind: type) -> Any:
        """Return a field of exactly this type, with no text in it that cannot be stored."""
        value = self.found.get(field)
        return value if type(value) is kind and _storable(value) else self._wrong(field)

    def text(self, field: str) -> str:
        """Return a text."""
        return str(self.get(field, str))

    def name(self, field: str) -> str:
        """Return a text that is not blank."""
        found = self.text(field)
        return found if found.strip() else self._wrong(field)

    def whole(self, field: str) -> int:
        """Return a number that is not negative."""
        found = int(self.get(field, int))
        return found if found >= 0 else self._wrong(field)

    def optional(self, field: str, kind: type) -> Any:
        """Return a field of this type, or ``None`` where it is missing."""
        return None if self.found.get(field) is None else self.get(field, kind)

    def number(self, field: str) -> float | None:
        """Return a number, or ``None`` where it is missing."""
        value = self.found.get(field)
        if value is None:
            return None
        return float(value) if type(value) in (int, float) and _storable(value) else self._wrong(field)

    def key(self, field: str) -> bytes:
        """Return the 16 bytes that a text of hexadecimal digits stands for."""
        text = self.text(field)
        return bytes.fromhex(text) if len(text) == 32 and _is_hex(text) else self._wrong(field)

    def vector(self, dim: int) -> Vectors | None:
        """Return the unit vector (dim,), or ``None`` where there is none."""
        if self.found.get("vector") is None:
            return None
        try:
            made = np.frombuffer(base64.b64decode(self.text("vector"), validate=True), dtype="<f4")
        except (binascii.Error, ValueError):
            self._wrong("vector")
        vector = made.astype(np.float32)
        if vector.shape != (dim,) or not abs(float(np.linalg.norm(vector)) - 1.0) < _NORM_ERROR:
            self._wrong("vector")
        return vector


def _is_hex(text: str) -> bool:
    return set(text) <= set("0123456789abcdef")


def _storable(value: Any) -> bool:
    """Return whether SQLite can hold a value: well-formed text, numbers that are finite and have 64 bits."""
    if isinstance(value, str):
        return _HALF.search(value) is None
    if isinstance(value, bool) or value is None:
        return True
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(_storable(member) for member in value)
    return isinstance(value, dict) and all(_storable(key) and _storable(member) for key, member in value.items())
