"""The shells whose histories can be read, and which of them wrote a given file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from omnimemory.errors import ConfigError
from omnimemory.records import Event
from omnimemory.sources.history import bash, fish, jsonl, nushell, powershell, zsh
from omnimemory.sources.history.entry import Entry, Span
from omnimemory.sources.history.layouts import LAYOUTS, Layout

__all__ = ["FORMATS", "SHELLS", "Shell", "default_paths", "detect", "is_deduplicated", "shell_named"]


class Shell(Protocol):
    """What a history module offers. To add a shell: write one such module and name it in ``SHELLS``."""

    NAME: str
    DEDUPLICATED: bool

    def parse(self, data: bytes, start: int = 0) -> Iterator[Entry]:
        """Yield the entries of a whole file's bytes from the entry boundary ``start`` on."""

    def spans(self, data: bytes, start: int = 0) -> Iterator[Span]:
        """Yield the spans of a whole file's bytes, blank and oversize ones too."""

    def event(self, raw: bytes, shell: str) -> Event | None:
        """Return the event of a span's bytes, ``None`` when they hold no command."""

    def default_paths(self, home: Path, environ: Mapping[str, str]) -> list[Path]:
        """Return where this user's shell writes its history, most likely first."""

    def looks_like(self, head: bytes, name: str) -> int:
        """Return how much a file's first bytes and its name speak for this shell; content outweighs the name."""


SHELLS: Mapping[str, Shell] = MappingProxyType(
    {"bash": bash, "zsh": zsh, "fish": fish, "nushell": nushell, "powershell": powershell, "jsonl": jsonl}
)
"""Histories that are text; those in databases are in ``LAYOUTS``."""

FORMATS = tuple(dict.fromkeys([*SHELLS, *LAYOUTS]))
"""The name of each format; nushell has both forms."""


def shell_named(name: str) -> Shell | Layout:
    """Return the shell of that name; ``ConfigError`` lists the known ones."""
    if name not in FORMATS:
        raise ConfigError(f"Unknown shell {name!r}. Use --shell with one of: {', '.join(sorted(FORMATS))}")
    return SHELLS.get(name) or LAYOUTS[name]


def is_deduplicated(name: str | None) -> bool:
    """Return whether histories of that name keep each command once, so that they do not tell what followed what."""
    shell = SHELLS.get(name or "")
    return shell is not None and shell.DEDUPLICATED


def default_paths(name: str, home: Path, environ: Mapping[str, str]) -> list[Path]:
    """Return where a shell writes this user's history, most likely first."""
    return shell_named(name).default_paths(home, environ)


def detect(data_head: bytes, path: Path) -> str:
    """Return which shell wrote a file, by its first bytes, else by its name, else bash (one command a line)."""
    scores = {name: shell.looks_like(data_head, path.name) for name, shell in SHELLS.items()}
    return max(scores, key=lambda name: scores[name])
