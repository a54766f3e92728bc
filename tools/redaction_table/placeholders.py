"""Which words of an example command stand for a secret.

The examples of tldr-pages name what is to be filled in: ``mysql -u user -p password``. The braces around such names
are gone in the data set, so the name and its place must tell. A tool's own words that sound alike are listed here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Example", "filled", "read_examples", "secret_places"]

NAME = (
    r"(?:[a-z]+[-_])*?(?:password|passwd|passphrase|passcode|secret|token"
    r"|(?:api|aes|server|consumer|subscription|secret_access|access|private)_?key)\d?"
)
PLACE = re.compile(
    rf"(?<=[\s'\"=:%,]|.(?<=\s-p)|.(?<=\s-k)|.(?<=\s-hp))(?P<name>{NAME})(?=$|[\s'\",;@|)]|\?Server|,account)",
    re.IGNORECASE,
)
# Sub-commands and other words of the tools themselves: the page and the word.
OWN_WORDS = frozenset({
    ("aws-ecr", "get-login-password"), ("az-account", "get-access-token"), ("crane-auth", "token"),
    ("docker-secret", "secret"), ("docker-swarm", "join-token"), ("flux-create", "secret"), ("gh-secret-set", "secret"),
    ("komac", "token"), ("kubectl-set", "secret"), ("kubeseal", "my-secret"), ("openvpn", "secret"),
    ("prosodyctl", "passwd"), ("pulumi-import", "type_token"), ("pulumi-new", "passphrase"),
    ("rabbitmqctl-users", "change_password"), ("rage", "secret"), ("ssh-add", "private_key"), ("xidel", "passwd"),
    ("kubeadm", "token create"), ("nmcli-device", 'password "'),
})  # fmt: skip


class Example(NamedTuple):
    """A command of a page."""

    page: str
    command: str


def read_examples(path: Path) -> list[Example]:
    """Read a file of tab-separated page, description and command, with a heading."""
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:])
    return [Example(row[0], row[2]) for row in rows if len(row) == 3]


def secret_places(example: Example) -> list[tuple[int, int]]:
    """Return where the placeholders for secrets are in a command."""
    return [
        match.span("name") for match in PLACE.finditer(example.command) if not is_own_word(example, *match.span("name"))
    ]


def is_own_word(example: Example, start: int, end: int) -> bool:
    """Say whether a word is one of the tool's own, alone or together with what follows it."""
    word = example.command[start:end]
    behind = [word, *(example.command[start : end + length] for length in (2, 7))]
    return any((example.page, known) in OWN_WORDS for known in behind)


def filled(example: Example, values: Sequence[str]) -> str:
    """Return the command with values in the places of its secrets."""
    pieces, position = [], 0
    for (start, end), value in zip(secret_places(example), values, strict=True):
        pieces += (example.command[position:start], value)
        position = end
    return "".join([*pieces, example.command[position:]])
