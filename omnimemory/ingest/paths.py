"""Paths that an ingest was given, and the names that files are stored under."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omnimemory.errors import ConfigError

__all__ = ["path_uri", "root_paths"]


def root_paths(paths: Iterable[Any]) -> list[Path]:
    """Return the paths that were given as ``Path`` objects. Raises :class:`ConfigError` for what is no path."""
    roots = []
    for path in paths:
        if not isinstance(path, str | os.PathLike) or not os.fspath(path) or "\0" in os.fsdecode(path):
            raise ConfigError(f"{path!r} is no path: give files and folders one by one, ingest('docs', 'README.md').")
        try:
            roots.append(Path(path).expanduser())
        except RuntimeError:  # ~somebody, and there is no somebody: then it is a name like any other
            roots.append(Path(path))
    return roots


def path_uri(path: Path) -> str:
    r"""Return the name of a file for ever: absolute, links resolved, foreign bytes as ``\xNN``."""
    return os.fsencode(os.path.realpath(path)).decode("utf-8", "backslashreplace")
