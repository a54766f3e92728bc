"""What the commands print: tables on a terminal, JSON Lines into a pipe, and nothing that controls a terminal.

Stored text may hold anything: escape sequences that rename a window or fill the clipboard, and bidirectional marks
that make a command look like another one. So everything stored passes :func:`visible` on its way to a terminal, and
JSON is written in ASCII, where such characters can only be escapes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

__all__ = [
    "EMPTY",
    "flat",
    "format_bytes",
    "format_seconds",
    "is_empty",
    "note",
    "print_json",
    "print_null",
    "print_record",
    "print_table",
    "shorten",
    "visible",
    "wants_json",
]

EMPTY = "Nothing is stored yet. Begin with: omnimemory ingest PATH, or: omnimemory ingest-history"

_SIZES = ("bytes", "size_limit", "reserve", ".available", ".total", ".used", ".outstanding")

# C0 and C1 controls but tab and newline, DEL, marks that turn the direction of text, line separators, lone surrogates.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str, *, multiline: bool = True) -> str:
    r"""Return ``text`` with everything that could control a terminal spelled out, such as ``\x1b`` or ``\u202e``.

    Newlines and tabs stay; with ``multiline=False`` they become single spaces.
    """
    shown = _CONTROLS.sub(_spelled, text)
    return shown if multiline else " ".join(shown.split())


def _spelled(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def wants_json(as_json: bool) -> bool:
    """Say whether to print JSON: when asked to, and whenever standard output is not a terminal."""
    return as_json or sys.stdout is None or not sys.stdout.isatty()


def print_json(value: Any) -> None:
    """Print one JSON object on one line, in ASCII."""
    click.echo(json.dumps(value, ensure_ascii=True, default=str))  # escapes DEL as well, which JSON itself would allow


def print_null(texts: Iterable[str]) -> None:
    """Print texts exactly as they are, each ended by a NUL: for scripts, which read them until there."""
    for text in texts:
        click.echo(text.encode("utf-8", "replace") + b"\0", nl=False)


def is_empty(state: Mapping[str, Any]) -> bool:
    """Say whether the memory with this status holds nothing at all."""
    store = state["store"]
    return not store["documents"]["chunks"] and not store["commands"]["events"]


def note(text: str) -> None:
    """Print a line for the reader, not for the next program: on standard error."""
    click.echo(visible(text), err=True)


def shorten(text: str, width: int) -> str:
    """Return ``text`` on one line of at most ``width`` characters."""
    line = visible(text, multiline=False)
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


Cell = str | tuple[str, str]
"""What a table shows: a text, or a text and a second one below it in a weaker colour."""


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, numbers: Sequence[str] = ()) -> None:
    """Print a table on the terminal; the ``numbers`` columns are set flush right and never wrapped."""
    from rich.console import Console  # noqa: PLC0415 - slow to import, and needed on terminals only
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=any(columns))
    for name in columns:
        number = name in numbers
        table.add_column(name, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in rows:
        pairs = [(cell, "") if isinstance(cell, str) else cell for cell in row]
        cells = [
            Text(visible(text)).append(f"\n{visible(below)}" if below else "", style="dim") for text, below in pairs
        ]
        table.add_row(*cells)
    Console(file=sys.stdout, highlight=False, emoji=False).print(table)


def print_record(record: Mapping[str, Any]) -> None:
    """Print one nested record on the terminal as two columns."""
    print_table(("", ""), ((key, _cell(key, value)) for key, value in flat(record)))


def flat(record: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield the leaves of a nested mapping as ``("outer.inner", value)``."""
    for key, value in record.items():
        if isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
            yield from flat({str(number): item for number, item in enumerate(value, 1)}, f"{prefix}{key}.")
        elif isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _cell(key: str, value: Any) -> str:
    if value is None or value in ({}, [], ()):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return format_bytes(value) if key.endswith(_SIZES) else f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def format_bytes(number: int) -> str:
    """Return a number of bytes as people write it."""
    size = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_seconds(seconds: float) -> str:
    """Return a time as people write it."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
