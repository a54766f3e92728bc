"""Histories as JSON Lines: one object a line, as agents and other tools can write them.

Names: ``command`` (needed), ``timestamp`` (seconds since the epoch, or ISO 8601; without a zone it is UTC), ``cwd``,
``exit_code``, ``duration`` (seconds), ``session``, ``host``, ``shell``. Other names are passed over, and so is a value
that is not of its kind: a wrong exit code must not lose the command.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from omnimemory.records import Event
from omnimemory.sources.history.entry import LAST_SECOND, Entry, Span, to_entries

__all__ = ["DEDUPLICATED", "NAME", "default_paths", "event", "looks_like", "parse", "spans"]

NAME = "jsonl"
DEDUPLICATED = False

_LINE = re.compile(rb'^[ \t]*\{[^\n]*"command"[ \t]*:', re.MULTILINE)


def parse(data: bytes, start: int = 0) -> Iterator[Entry]:
    """Yield the entries of a whole file's bytes from the entry boundary ``start`` on."""
    return to_entries(spans(data, start), NAME, event)


def spans(data: bytes, start: int = 0) -> Iterator[Span]:
    """Yield one span for each line of ``data`` from ``start`` on; the line is its command, see :func:`event`."""
    while start < len(data):
        newline = data.find(b"\n", start)
        end = len(data) if newline < 0 else newline + 1
        yield data[start:end].strip(), None, None, start, end, newline >= 0
        start = end


def event(raw: bytes, shell: str) -> Event | None:
    """Return the event of one line; ``None`` when it is no object with a command, also while it is half written."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    command = _text(found.get("command"))
    if command is None or not command.strip():
        return None
    return Event(
        command,
        timestamp=_timestamp(found.get("timestamp")),
        cwd=_text(found.get("cwd")),
        exit_code=_exit_code(found.get("exit_code")),
        duration=_number(found.get("duration")),
        session=_name(found.get("session")),
        host=_text(found.get("host")),
        shell=_text(found.get("shell")) or shell,
    )


def default_paths(home: Path, environ: Mapping[str, str]) -> list[Path]:  # noqa: ARG001 - the protocol's signature
    """Return nothing: no shell writes such a file by itself."""
    return []


def looks_like(head: bytes, name: str) -> int:
    """Return how much the first bytes of a file and its name speak for JSON Lines; 0 is not at all."""
    return 2 * len(_LINE.findall(head)) + name.lower().endswith((".jsonl", ".ndjson"))


def _text(value: Any) -> str | None:
    # A lone surrogate (a "\\ud800" in the file) could not be stored.
    return value.replace("\0", "").encode("utf-8", "replace").decode() if isinstance(value, str) else None


def _name(value: Any) -> str | None:
    return str(value) if type(value) is int else _text(value)


def _number(value: Any) -> float | None:
    if type(value) not in (int, float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) and number >= 0 else None


def _exit_code(value: Any) -> int | None:
    return value if type(value) is int and -(2**31) <= value < 2**32 else None


def _timestamp(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        value = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    number = _number(value)
    return number if number is not None and 0 < number <= LAST_SECOND else None
