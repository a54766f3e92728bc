"""Secrets told by name, for commands that no table knows: ``--db-password X``, ``X-Api-Key: X``, ``set TOKEN X``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from omnimemory.sources.redaction.doubtful_words import (
    LOGS_IN,
    find_doubtful_argument,
    find_doubtful_flag,
    find_user_pair,
)
from omnimemory.sources.redaction.shell_words import Word
from omnimemory.sources.redaction.spans import MASK, Span
from omnimemory.sources.redaction.values import Holds, looks_like_path, name_holds
from omnimemory.sources.redaction.word_parts import find_pairs, secret_part

__all__ = ["NamedWords"]

FLAG = re.compile(r"(?P<name>--?[A-Za-z][A-Za-z0-9_.-]*)(?P<mark>[=:])?")
HEADER = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9-]{1,60}):\s*(?P<value>\S.*)", re.DOTALL)
HEADER_FLAGS = frozenset({
    "-H", "--header", "--headers", "-header", "--add-header", "-rpc-header", "--extra-header", "--metadata",
})  # fmt: skip
HTTPIE = frozenset({"http", "https", "xh", "xhs"})  # headers are arguments of their own
COOKIES = frozenset({"cookie", "set-cookie"})
CREDENTIALS = ("auth", "credential", "credentials", "creds", "cred", "userpass")  # their values are `user:password`
# Their arguments are patterns, prose or file names in which `password=` is looked for, not given.
SEARCHERS = frozenset({
    "grep", "egrep", "fgrep", "zgrep", "rg", "ag", "ack", "awk", "gawk", "mawk", "find", "fd", "fdfind", "locate", "jq",
    "tr", "cut", "man", "apropos", "alias", "tldr", "pgrep", "pkill", "test", "[", "[[", "ls", "cat", "less", "head",
    "tail", "vim", "vi", "nano", "code", "diff", "wc", "sort",
})  # fmt: skip
SETTERS = frozenset({
    "set", "setx", "setenv", "config", "configure", "config:set", "add", "put", "update", "--set", "--add", "-gx", "-x",
    "-Ux", "-xg", "SET", "CONFIG",
})  # fmt: skip
CHANGES_PASSWORD = re.compile(r"(?:re)?(?:set|change|update)[-_](?:[\w-]+[-_])?(?:passw(?:or)?d|credentials)")
WINDOWS_FLAG = re.compile(r"/(?P<name>[A-Za-z]{2,20}):(?=.)")
CODE_WORDS = frozenset({
    "login", "auth", "authenticate", "authtoken", "token", "apikey", "activate", "license", "unlock", "signin", "code",
})  # fmt: skip
KEYWORDS = frozenset({"password", "passphrase", "passcode", "psk"})  # `wifi connect HOME password X`
USER_FLAGS = frozenset({"-u", "-U", "--user", "--username", "--login", "-user", "-username", "-login"})
PASSWORD_FLAGS = frozenset({"-p", "-P", "-pw", "-pass"})
GLUED_PASSWORD = re.compile(r"-p(?=[A-Za-z]*[0-9A-Z])(?=[^A-Za-z]*[A-Za-z])[^\s=-]{4,}")
CHOSEN = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[^\s/.,:=-][^\s/.,:=]{5,}")  # letters and digits mixed
PORT_LIKE = re.compile(r"[\d:,./-]+(?:[A-Za-z]{1,3})?|(?:(?:[a-z]+:)?[\d-]+(?:,|$))+")


class NamedWords:
    """The words of one simple command, looked at one after the other for what they are called."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.sets = not SETTERS.isdisjoint(texts)
        self.names_user = len(texts) > 2 and names_user(texts)
        self.logs_in = len(texts) > 2 and not LOGS_IN.isdisjoint(texts[1:5])  # where sub-commands stand

    def may_tell(self, text: str, before: str) -> bool:
        """Say whether a word is worth looking at: most are of letters and digits only, and follow nothing telling."""
        return (
            self.sets
            or self.logs_in
            or not text.isalnum()
            or before in CODE_WORDS
            or before in KEYWORDS
            or not before.isalnum()
        )

    def find(self, name: str, words: Sequence[Word], index: int) -> Iterator[Span]:
        """Find the secret that ``words[index]`` holds or announces, for the command ``name``."""
        word = words[index]
        before = words[index - 1].text
        after = words[index + 1] if index + 1 < len(words) else None
        if before in HEADER_FLAGS or word.text[:2] == "-H" or name in HTTPIE:
            yield from find_header(word)
        if word.text[:1] == "-" and (flag := FLAG.match(word.text)):
            yield from self.find_flag(name, word, after, flag)
        elif (switch := WINDOWS_FLAG.match(word.text)) and name_holds(switch["name"]) is Holds.SECRET:
            yield from secret_part(word, switch.end(), "value", "flag", f"/{switch['name']}")
        elif name not in SEARCHERS:
            if after is not None and (self.sets or after.text == "-v") and is_setting(words, index):
                yield from find_setting(words, index + 1)
            if CHANGES_PASSWORD.fullmatch(before) and after is not None and after.text[:1] != "-":
                yield from secret_part(after, 0, "value", "argument")
            if before in CODE_WORDS:
                yield from secret_part(word, 0, "random", "argument", before)
            elif before in KEYWORDS and CHOSEN.fullmatch(word.text):
                yield from secret_part(word, 0, "value", "argument", before)
            yield from find_pairs(word, 0, sed=name == "sed")
            yield from find_doubtful_argument(word, logs_in=self.logs_in and before[:1] != "-")

    def find_flag(self, name: str, word: Word, after: Word | None, flag: re.Match[str]) -> Iterator[Span]:
        """Find the secret of a flag, by its name or by the company it keeps."""
        kind = flag_kind(flag["name"])
        if kind and flag["mark"]:
            yield from secret_part(word, flag.end(), kind, "flag", flag["name"])
        elif kind and flag.end() == len(word.text):
            if after is not None and after.text[:1] != "-":
                yield from secret_part(after, 0, kind, "flag", flag["name"])
        elif self.names_user and after is not None and is_password(word.text, after.text):
            yield from secret_part(after, 0, "value", "flag", f"{word.text} beside a user's name")
        elif self.names_user and GLUED_PASSWORD.fullmatch(word.text):
            yield from secret_part(word, 2, "value", "flag", "-p beside a user's name")
        elif name not in SEARCHERS:
            if "=" in word.text:
                yield from find_pairs(word, 2)
            elif word.text in USER_FLAGS and after is not None:
                yield from find_user_pair(after)
            yield from find_doubtful_flag(word, after)


@lru_cache(maxsize=4096)
def flag_kind(name: str) -> str | None:
    """Return how the value of a flag is to be read, ``None`` when its name says nothing."""
    if name == "--cookie":
        return "cookie"
    if name.endswith(CREDENTIALS):
        return "colon"
    return {Holds.NOTHING: None, Holds.PERHAPS: "random", Holds.SECRET: "value"}[name_holds(name)]


def find_header(word: Word) -> Iterator[Span]:
    """Find the secret of ``Name: value``."""
    offset = 2 if word.text[:2] == "-H" else 0
    match = HEADER.match(word.text, offset + (word.text[offset : offset + 1] in {"'", '"', "="}))
    if match is None:
        return
    name = match["name"].lower()
    if name.endswith("authorization"):
        return  # its scheme stays: the rule for texts reads it
    if name in COOKIES or name_holds(name):
        yield from secret_part(word, match.start("value"), "value", "header", match["name"])


def is_setting(words: Sequence[Word], index: int) -> bool:
    """Say whether the word is the NAME of ``set NAME VALUE``, ``config ... NAME VALUE`` or ``-n NAME -v VALUE``."""
    name = words[index].text
    if ("/" in name and ":" not in name) or name_holds(name) is not Holds.SECRET:
        return False
    if words[index - 1].text in {"-n", "--name"}:
        return words[index + 1].text in {"-v", "--value"}
    return any(word.text in SETTERS for word in words[max(0, index - 3) : index])


def find_setting(words: Sequence[Word], index: int) -> Iterator[Span]:
    """Find the value of a setting, which may stand behind ``-v`` or ``--value``."""
    name = words[index - 1].text
    if words[index].text in {"-v", "--value"} and index + 1 < len(words):
        index += 1
    if words[index].text[:1] != "-":
        yield from secret_part(words[index], 0, "value", "setting", name)


def names_user(texts: Sequence[str]) -> bool:
    """Say whether a command is told who logs in: ``-u NAME``, or the sub-command ``login``."""
    flags = [index for index, text in enumerate(texts[:-1]) if text in USER_FLAGS]
    return any(texts[index + 1][:1] != "-" for index in flags) or not {"login", "auth"}.isdisjoint(texts[1:3])


def is_password(flag: str, value: str) -> bool:
    """Say whether the value of an unknown command's ``-p`` can be a password: no port, no file, no flag."""
    if flag == "-w":  # a width or a window as often as a word
        return CHOSEN.fullmatch(value) is not None
    if flag not in PASSWORD_FLAGS or value[:1] == "-" or "/" in value or MASK in value:
        return False
    return not (PORT_LIKE.fullmatch(value) or looks_like_path(value))
