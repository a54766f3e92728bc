"""Whether ``$HISTFILE`` speaks of a given shell, and the folders that the environment names.

bash and zsh share the variable, and an exported one reaches every program, so a bash user's
``HISTFILE=~/.bash_history`` must not be taken for a zsh history.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["data_folders", "expand", "histfile"]

FAMILIES = {"bash": ("bash",), "zsh": ("zsh", "zhistory"), "fish": ("fish",)}


def histfile(shell: str, home: Path, environ: Mapping[str, str]) -> list[Path]:
    """Return ``[$HISTFILE]`` when its name, or else ``$SHELL``, says that it belongs to ``shell``; else nothing."""
    value = environ.get("HISTFILE", "")
    if not value:
        return []
    path = expand(value, home)
    named = {family for family, words in FAMILIES.items() if any(word in path.name.lower() for word in words)}
    fits = shell in named if named else Path(environ.get("SHELL", "")).name == shell
    return [path] if fits else []


def expand(path: str | Path, home: Path) -> Path:
    """Return ``path`` with a leading ``~`` replaced by ``home``."""
    text = str(path)
    return home / text[2:] if text == "~" or text.startswith("~/") else Path(text)


def data_folders(home: Path, environ: Mapping[str, str]) -> list[Path]:
    """Return where programs of this user keep their data, by the XDG base directory specification."""
    named = environ.get("XDG_DATA_HOME", "")
    return list(dict.fromkeys([*([expand(named, home)] if named else []), home / ".local" / "share"]))
