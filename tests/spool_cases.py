"""Records as the hooks of shells write them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["NOW", "spooled", "write"]

NOW = 1_700_000_000.5


def spooled(
    command: str,
    *,
    start: float | str = NOW,
    end: float | str | None = None,
    took: str = "",
    code: int | str = 0,
    cwd: str = "/src",
    session: str = "s",
) -> bytes:
    """Return one record."""
    ended = float(start) + 1 if end is None else end
    fields = ("1", "zsh", session, code, start, ended, took, cwd, command)
    return "".join(f"{field}\0" for field in fields).encode() + b"\n"


def write(folder: Path, name: str, *commands: str, start: float = NOW) -> None:
    """Add records to a file of a spool, a second apart."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("ab") as file:
        for at, command in enumerate(commands):
            file.write(spooled(command, start=start + at))
