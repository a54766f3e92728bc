"""What one setting takes, and how a value of it is read and checked."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Spec", "from_text", "parse_size"]

_MOST_BYTES = 2**62
_SIZE = re.compile(r"\s*(\d{1,18}(?:\.\d{1,9})?)\s*(?:([kmgt])(i?)b?|b)?\s*", re.IGNORECASE)
_SWITCHES = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "size": "a number of bytes or a size such as 512MiB",
    "path": "a path",
    "text": "a text that is not empty",
    "words": "a text",
    "list": "a list of texts",
    "rules": "a list of texts (in a variable: one a line)",
}


@dataclass(frozen=True, slots=True)
class Spec:
    """What one setting takes; ``project`` says that a project's own file may set it."""

    kind: str
    meaning: str
    low: int | None = None
    high: int | None = None
    choices: tuple[str, ...] = ()
    optional: bool = False
    project: bool = False

    def expects(self) -> str:
        """Say in words which values are valid."""
        words = "one of " + ", ".join(self.choices) if self.choices else _KINDS[self.kind]
        if self.low is not None:
            words += f" from {self.low:,}" + (f" to {self.high:,}" if self.high is not None else " up")
        return words + (" or none" if self.optional else "")

    def parse(self, value: Any) -> Any:
        """Return ``value`` in its final type; raise :class:`ValueError` when it is not valid."""
        if self.optional and (value is None or (isinstance(value, str) and value.lower() == "none")):
            return None
        try:
            parsed = _READERS[self.kind](value)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            parsed = None
        outside = parsed is None or (self.choices and parsed not in self.choices)
        if outside or (self.low is not None and not self.low <= parsed <= (self.high or _MOST_BYTES)):
            raise ValueError(f"must be {self.expects()}, not {value!r:.80}")
        return parsed


def parse_size(value: int | str) -> int:
    """Turn ``"512MiB"``, ``"2GB"``, ``"64k"`` (1024) or a number into bytes; raise :class:`ValueError` otherwise."""
    if type(value) is int:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a size")
    number, prefix, binary = match.groups()
    decimal = prefix and str(value).strip().lower().endswith("b") and not binary
    return int(float(number) * (1000 if decimal else 1024) ** (" kmgt".index(prefix.lower()) if prefix else 0))


def from_text(text: str, kind: str) -> Any:
    """Turn a variable's text into the type that a file would hold; text that is not of that type stays text."""
    try:
        if kind in ("int", "float"):
            return int(text) if kind == "int" else float(text)
    except ValueError:
        return text
    if kind in ("list", "rules"):  # an expression may have commas in it
        return [item.strip() for item in (text.split(",") if kind == "list" else text.splitlines())]
    return _SWITCHES.get(text.strip().lower(), text) if kind == "bool" else text


def _exactly(kind: type) -> Callable[[Any], Any]:
    return lambda value: value if type(value) is kind else None


def _read_number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) else None


def _read_path(value: Any) -> Path | None:
    path = os.fspath(value)
    return Path(path).expanduser() if path and isinstance(path, str) and "\0" not in path else None


def _read_text(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _read_list(value: Any) -> tuple[str, ...] | None:
    whole = isinstance(value, list | tuple) and all(isinstance(item, str) and item for item in value)
    return tuple(value) if whole else None


_READERS: dict[str, Callable[[Any], Any]] = {
    "int": _exactly(int),
    "float": _read_number,
    "bool": _exactly(bool),
    "size": parse_size,
    "path": _read_path,
    "text": _read_text,
    "words": _exactly(str),
    "list": _read_list,
    "rules": _read_list,
}
