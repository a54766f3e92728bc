"""Secrets of commands that nobody wrote down: told by how the value looks, and by where it stands.

``frob -t x9Kd2mZq`` may be a token, ``frob -n x9Kd2mZq`` is a name: behind the flags that secrets stand behind most
often a value that was generated is taken for one, and so is one behind ``login``. ``user:password`` is read where a
user is named, and ``user:password@host`` everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from omnimemory.sources.redaction.generated import holds_generated, looks_generated
from omnimemory.sources.redaction.shell_words import Word
from omnimemory.sources.redaction.spans import Span
from omnimemory.sources.redaction.values import is_secret_value
from omnimemory.sources.redaction.word_parts import cut, secret_part, value_span

__all__ = ["LOGS_IN", "find_doubtful_argument", "find_doubtful_flag", "find_generated", "find_user_pair"]

UNSURE = frozenset("aAckKpPsStTwW")  # account, code, key, password, secret, token, word
VALUE = re.compile(r"[^\s,:;|'\"<>(){}\[\]=]{8,200}={0,2}")
USER_PAIR = re.compile(r"(?P<user>[^\s:%/=,]{1,64})[:%](?P<password>(?!//|\d{1,5}(?:,|$))[^\s:]{4,200})")
LOGIN = re.compile(
    r"(?:[\w.-]{1,64}[/\\]{1,2})?(?P<user>[\w.$-]{1,64}):(?P<password>[^\s:/][^\s:]{3,200})"
    r"@(?!sha\d+:)(?P<host>[A-Za-z0-9_.-]{1,253})(?::\d{1,5})?(?:/\S{0,200})?"
)
DOMAIN_LOGIN = re.compile(r"[\w.-]{1,64}[/\\]{1,2}[\w.$-]{1,64}:(?P<password>[^\s:/@]{8,200})")
# `npm:package@1.2`, `file:x@y`: no user has these names
NO_USERS = frozenset({
    "npm", "file", "git", "github", "gitlab", "workspace", "link", "patch", "docker", "oci", "sha256", "ssh", "http",
    "https", "jsr", "node", "go", "path", "nixpkgs", "bitbucket", "gist", "yarn", "portal",
})  # fmt: skip
UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
VERSION = re.compile(r"v?\d+(?:[.-]\w+)*|latest|stable|main|master|HEAD")
CHOSEN = re.compile(r"(?=\D*\d)(?=[^A-Za-z]*[A-Za-z])(?!v?\d+(?:\.\d+)+)\S{6,}")  # letters and digits mixed
LOGS_IN = frozenset({
    "login", "signin", "auth", "authenticate", "authorize", "unlock", "activate", "subscribe", "register", "link",
    "connect", "join", "authtoken", "set-key", "set-token", "add-token", "add-key",
})  # fmt: skip


def find_doubtful_flag(word: Word, after: Word | None) -> Iterator[Span]:
    """Find a generated value behind a flag of one letter that nothing is known about."""
    text = word.text
    if len(text) < 2 or text[0] != "-" or text[1] not in UNSURE:
        return
    if len(text) == 2:
        if after is not None and after.text[:1] != "-":
            yield from find_generated(after, 0, text)
    elif text[2] != "=":
        yield from find_generated(word, 2, text[:2])


def find_generated(word: Word, offset: int, why: str = "") -> Iterator[Span]:
    """Yield ``word.text[offset:]``, or what follows a user's name in it, if it looks generated."""
    value = value_span(word, offset)
    if (pair := USER_PAIR.fullmatch(value.text)) and holds_generated(pair["password"]):
        value = cut(value, pair.start("password"))
    if VALUE.fullmatch(value.text) and holds_generated(value.text) and is_secret_value(value.text):
        yield Span(value.start, value.end, "generated", why)


def find_user_pair(word: Word) -> Iterator[Span]:
    """Yield the password of ``user:password`` or ``user%password`` behind a flag that names a user."""
    value = value_span(word, 0)
    pair = USER_PAIR.fullmatch(value.text)
    if pair and CHOSEN.fullmatch(pair["password"]) and is_secret_value(pair["password"]):
        found = cut(value, pair.start("password"))
        yield Span(found.start, found.end, "user-password")


def find_doubtful_argument(word: Word, *, logs_in: bool) -> Iterator[Span]:
    """Find the secret of an argument: ``user:password@host``, or a generated word where a command logs in."""
    text = word.text
    if ":" in text:
        login = LOGIN.fullmatch(text) or DOMAIN_LOGIN.fullmatch(text)
        if login is not None and is_login(login):
            value = cut(value_span(word, 0), login.start("password"), login.end("password"))
            if is_secret_value(value.text, literal=value.literal):
                yield Span(value.start, value.end, "user-password")
    elif logs_in and VALUE.fullmatch(text) and looks_generated(text) and not UUID.fullmatch(text):
        yield from secret_part(word, 0, "value", "generated", "an argument of a command that logs in")


def is_login(match: re.Match[str]) -> bool:
    """Say whether what looks like ``user:password@host`` is one: an image's tag and a package's version are not."""
    if match.re is DOMAIN_LOGIN:
        return holds_generated(match["password"])
    return match["user"].lower() not in NO_USERS and VERSION.fullmatch(match["password"]) is None
