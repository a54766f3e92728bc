"""Which chromadb made an index: a folder of another version is made anew, never read.

chromadb changes its files from version to version, brings old ones forward when it opens them, and does not say what
it could not take over. The catalog has everything, so nothing is won by trusting that. The version stands in a file of
its own, written before chromadb makes its first one: the manifest is missing after an unclean end.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["VERSION_FILE", "is_own_version", "mark_version"]

VERSION_FILE = "chromadb.version"


def mark_version(directory: Path) -> None:
    """Say in a new folder which version is about to fill it; one that holds an index already is left as it is."""
    if any(directory.iterdir()):
        return
    descriptor = os.open(directory / VERSION_FILE, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(_installed())


def is_own_version(directory: Path) -> bool:
    """Return whether the installed version of chromadb made the index in this folder."""
    try:
        return (directory / VERSION_FILE).read_text("utf-8") == _installed()
    except (OSError, ValueError):
        return False


def _installed() -> str:
    from importlib.metadata import version  # noqa: PLC0415 - 20 ms that a search without the index need not pay

    return version("chromadb")
