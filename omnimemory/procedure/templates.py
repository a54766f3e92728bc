"""The shape of a command: its program, sub-command and flags, and what kind of thing each argument is.

``git commit -m 'fix typo'`` and ``git commit -m wip`` are the same step of a routine: ``git commit -m <text>``. A line
is split as a shell would (shlex); what no shell could split is split at spaces.
"""

from __future__ import annotations

import re
import shlex
from functools import lru_cache

__all__ = ["shape", "short_name"]

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_WORD = re.compile(r"[a-z][a-z-]{1,19}")
_KINDS = (
    ("<url>", re.compile(r"[a-z][a-z0-9+.-]*://\S+|[\w.-]+@[\w.-]+:\S*")),
    ("<number>", re.compile(r"[+-]?\d+(\.\d+)?")),
    ("<path>", re.compile(r"~|\.{1,2}|.*/.*|[\w.@+-]*\.[A-Za-z]\w{0,5}")),
    ("<name>", re.compile(r"[\w.@:+=,-]+")),
)
_OPERATORS = frozenset({"|", "||", "&&", ";", "&", ">", ">>", "<", "2>", "2>&1"})
# Programs whose first plain word says what they do.
_TOOL_NAMES = (
    "apt apt-get brew bundle cargo composer conda dnf docker docker-compose flutter gcloud gem gh git go gradle helm "
    "kubectl make mix mvn nix npm npx omnimemory pacman pip pip3 pnpm podman poetry rustup service snap svn systemctl "
    "terraform tmux uv vagrant yarn"
)
_TOOLS = frozenset(_TOOL_NAMES.split())


@lru_cache(maxsize=20_000)
def shape(command: str) -> str:
    """Return the shape of a command on one line."""
    found: list[str] = []
    program: str | None = None
    for word in _words(command):
        if word in _OPERATORS:
            found.append(word)
            program = None if word not in {">", ">>", "<", "2>", "2>&1"} else program
        elif program is None:
            found.append("<variable>" if _ASSIGNMENT.match(word) else word.rsplit("/", 1)[-1])
            program = None if _ASSIGNMENT.match(word) else found[-1]
        elif program in _TOOLS and found[-1] == program and _WORD.fullmatch(word):
            found.append(word)
        else:
            kind = _argument(word)
            if kind != found[-1] or not kind.startswith("<"):  # two files or ten are the same step
                found.append(kind)
    return " ".join(found)


def short_name(template: str) -> str:
    """Return what a shape does, without flags and arguments: ``git commit``."""
    words = template.split()
    plain = [word for word in words if not word.startswith(("-", "<")) and word not in _OPERATORS]
    keep = 2 if plain and plain[0] in _TOOLS else 1
    return " ".join(plain[:keep]) or template


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command) or command.split()
    except ValueError:  # an open quote
        return command.split()


def _argument(word: str) -> str:
    if word.startswith("-") and len(word) > 1 and not word[1:].isdigit():
        name, equals, _ = word.partition("=")
        return f"{name}=<value>" if equals else name
    return next((kind for kind, form in _KINDS if form.fullmatch(word)), "<text>")
