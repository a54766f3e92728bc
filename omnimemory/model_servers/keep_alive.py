"""How long a server is to keep a model in memory, in the forms people write it, as the one form Ollama takes.

Ollama takes a JSON number of seconds or a Go duration with a unit (``"5m"``). A bare number in a string, such as
``"-1"`` or ``"300"``, is what people write and what the server refuses ("missing unit in duration"), so those become
numbers here. A negative one keeps the model for ever, 0 lets it go at once.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta

from omnimemory.errors import ConfigError

__all__ = ["KeepAlive", "keep_alive_seconds", "keep_alive_value"]

KeepAlive = int | float | str | timedelta
"""Seconds, a Go duration such as ``"1h30m"``, or a timedelta."""

_DURATION = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|\N{MICRO SIGN}s|\u03bcs|ms|s|m|h)", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|\N{MICRO SIGN}s|\u03bcs|ms|s|m|h)", re.ASCII)
_UNITS = {"ns": 1e-9, "us": 1e-6, "\N{MICRO SIGN}s": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_MOST_SECONDS = 2**63 / 1e9
"""Beyond this the server counts nanoseconds past 64 bits."""


def keep_alive_value(keep: KeepAlive) -> int | float | str:
    """Return what to send: a number of seconds, or a Go duration.

    Raises :class:`ConfigError` for anything the server would refuse.
    """
    if isinstance(keep, timedelta):
        return _seconds(keep.total_seconds(), keep)
    if isinstance(keep, str):
        text = keep.strip()
        if _NUMBER.fullmatch(text):
            return _seconds(float(text), keep)
        sign = text[:1] if text[:1] in ("+", "-") else ""
        if text and _is_duration(text.removeprefix(sign)):
            return text
    elif isinstance(keep, int | float) and not isinstance(keep, bool):
        return _seconds(keep, keep)
    raise ConfigError(
        f'{keep!r:.80} does not say how long to keep a model: use seconds, a duration such as "5m" or "1h30m", '
        "0 (not at all) or -1 (for ever)."
    )


def keep_alive_seconds(keep: KeepAlive) -> float | None:
    """Return the seconds, ``None`` for ever. Raises :class:`ConfigError` as :func:`keep_alive_value` does."""
    value = keep_alive_value(keep)
    if isinstance(value, str):
        sign = -1.0 if value[0] == "-" else 1.0
        parts = _PART.findall(value)
        value = sign * sum(float(number) * _UNITS[unit.replace("\u03bc", "\N{MICRO SIGN}")] for number, unit in parts)
    return None if value < 0 else float(value)


def _is_duration(text: str) -> bool:
    place = 0
    while match := _DURATION.match(text, place):
        if match[0][0] in "+-":
            return False
        place = match.end()
    return place == len(text)


def _seconds(value: float, given: KeepAlive) -> int | float:
    if not math.isfinite(value) or abs(value) > _MOST_SECONDS:
        raise ConfigError(f"{given!r:.80} is too long to keep a model: -1 keeps it for ever.")
    return int(value) if float(value).is_integer() else float(value)
