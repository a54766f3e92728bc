"""Which file is meant: a path, a shell's history, or the running user's own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from omnimemory.errors import SourceError
from omnimemory.sources.history.histfile import expand
from omnimemory.sources.history.layouts import LAYOUTS
from omnimemory.sources.history.shells import FORMATS, default_paths, shell_named

__all__ = ["locate", "locate_all"]


def locate(
    target: str | Path | None, shell: str | None, home: Path, environ: Mapping[str, str]
) -> tuple[Path, str | None]:
    """Return the history file that is meant and its shell (None: to be detected from the content).

    ``target`` is a path, the name of a shell (``./zsh`` is the file of that name), or None for the running
    user's own history: that of ``$SHELL`` first, else the first that exists. Raises ``ConfigError`` for an unknown
    ``shell`` and ``SourceError``, with every path looked at, when there is nothing.
    """
    if shell is not None:
        shell_named(shell)
    if isinstance(target, str) and target in FORMATS:
        path, _ = _first_of([target], home, environ)
        return path, shell or target
    if target is not None:
        return _named_file(target, home), shell
    return _first_of([shell] if shell else _own_shells(environ), home, environ)


def locate_all(home: Path, environ: Mapping[str, str]) -> list[tuple[Path, str]]:
    """Return every history of the running user and its shell, each file once.

    Those that tell most about a command (where it ran, how it ended) come first. Raises ``SourceError`` when there is
    none.
    """
    found: dict[str, tuple[Path, str]] = {}
    for name in sorted(FORMATS, key=lambda name: name not in LAYOUTS):
        for path in default_paths(name, home, environ):
            if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises where a folder may not be entered
                found.setdefault(os.path.realpath(path), (path, name))
    if not found:
        _first_of(FORMATS, home, environ)  # says where it looked
    return list(found.values())


def _own_shells(environ: Mapping[str, str]) -> list[str]:
    login = Path(environ.get("SHELL", "")).name
    return sorted(FORMATS, key=lambda name: name != login)


def _named_file(target: str | Path, home: Path) -> Path:
    path = expand(target, home)
    if not os.path.lexists(path):
        raise SourceError(
            f"No history file at {path}. Give an existing file, or the name of a shell"
            f" ({', '.join(FORMATS)}): omnimemory ingest-history FILE --shell zsh"
        )
    return path


def _first_of(shells: Iterable[str], home: Path, environ: Mapping[str, str]) -> tuple[Path, str]:
    looked: list[Path] = []
    for name in shells:
        for path in default_paths(name, home, environ):
            if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises where a folder may not be entered
                return path, name
            looked.append(path)
    raise SourceError(
        f"No shell history found; looked at {', '.join(map(str, looked))}. Name the file:"
        " omnimemory ingest-history FILE --shell zsh"
        " (bash writes its history only when it exits, or on: history -a)"
    )
