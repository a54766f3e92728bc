"""A step of a session: one execution, reduced to what predictions are made of."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Step", "first_word", "home_relative"]

_HOME = re.compile(r"^(?:/home/[^/]+|/Users/[^/]+|/root)(?=/|$)")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True, slots=True)
class Step:
    """A command, where it ran, and whether it worked; ``None``: the history does not say."""

    command: str
    cwd: str | None = None
    ok: bool | None = None


def first_word(command: str) -> str:
    """Return the program that a command runs: its first word that is no assignment."""
    words = command.split()
    return next((word for word in words if not _ASSIGNMENT.match(word)), words[0] if words else "")


def home_relative(cwd: str | None) -> str | None:
    """Return a folder with the home it lies in written as ``~``: the same place on every machine."""
    return None if cwd is None else _HOME.sub("~", cwd.rstrip("/") or "/")
