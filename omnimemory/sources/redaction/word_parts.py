"""The secret part of one word: the value behind a flag, the password of a pair, the end of ``user:password``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from omnimemory.sources.redaction.generated import looks_generated
from omnimemory.sources.redaction.shell_words import Word
from omnimemory.sources.redaction.spans import Span
from omnimemory.sources.redaction.values import EXPANSION, Holds, is_secret_value, looks_random, name_holds

__all__ = ["Value", "cut", "find_pairs", "secret_part", "value_span"]

PAIR = re.compile(
    r"(?<![A-Za-z0-9_$.{-])(?P<name>[A-Za-z_][A-Za-z0-9_.\[\]-]{0,80}+)(?P<mark>\s{0,3}:?=(?![=>~])\s{0,3})"
)
# up to a blank, a quote or a separator that starts the next pair (a password may hold separators itself)
BARE_VALUE = re.compile(r"(?:[^\s'\"&,;]|[&,;](?!\s|$|[A-Za-z_][\w.\[\]-]{0,80}=))+")
SED_VALUE = re.compile(r"[^\s'\"&;/|#\\*\[\]^$()]+(?=[/|#,@!])")
CLOSING = {")": "(", "}": "{", "]": "["}
SEPARATORS = {"colon": ":", "percent": "%", "comma": ",", "slash": "/"}
LONG_WORD = 400  # characters
LOGIN = re.compile(r"(?=[^@]*/|[^/]*@)(?:[^/:@\s]+/)?[^:@/\s]+:(?P<password>.+)")
PORT_MAP = re.compile(r"\d{1,5}(?::\d{1,5})+")


class Value(NamedTuple):
    """A part of the line, without quotes around it; ``literal`` when they were single ones."""

    start: int
    end: int
    text: str
    literal: bool


def value_span(word: Word, offset: int, length: int | None = None) -> Value:
    """Return what follows the first ``offset`` characters of a word's text, without quotes around it."""
    text = word.text[offset:] if length is None else word.text[offset : offset + length]
    start = word.inner + offset
    end = start + len(text)
    literal = word.literal
    if len(text) > 4 and text[:2] == text[-2:] == '\\"':  # quotes inside of quotes
        return Value(start + 2, end - 2, text[2:-2], literal)
    lead = 1 if text[:2] == "$'" else 0
    if len(text) >= lead + 2 and text[lead] in "'\"" and text[-1] == text[lead] and text.count(text[lead]) == 2:
        return Value(start + lead + 1, end - 1, text[lead + 1 : -1], text[lead] == "'")
    return Value(start, end, text, literal)


def secret_part(word: Word, offset: int, kind: str, rule: str, why: str = "") -> Iterator[Span]:
    """Yield the secret in ``word.text[offset:]``, read as ``kind`` says; ``why`` names what told."""
    value = value_span(word, offset)
    if kind in {"plain", "bare", "stdin", "stdin-colon"} or not value.text:
        return
    if kind == "pairs":
        yield from every_pair(value, rule, why)
        return
    if kind in SEPARATORS:
        value = behind(value, SEPARATORS[kind])
    elif kind == "login":
        match = LOGIN.fullmatch(value.text)
        value = cut(value, match.start("password"), value.text.rfind("@")) if match else cut(value, 0, 0)
    elif kind == "source" or value.text.startswith("pass:"):
        value = cut(value, 5) if value.text.startswith("pass:") else cut(value, 0, 0 if kind == "source" else None)
    if kind == "cookie" and "=" not in value.text:
        return
    if kind == "random" and not looks_generated(value.text):
        return
    if value.text and not PORT_MAP.fullmatch(value.text) and is_secret_value(value.text, literal=value.literal):
        yield Span(value.start, value.end, rule, why)


def cut(value: Value, start: int, end: int | None = None) -> Value:
    """Return ``value.text[start:end]``; an end before the start means "to the end"."""
    stop = len(value.text) if end is None or 0 <= end < start or end < 0 else end
    return Value(value.start + start, value.start + stop, value.text[start:stop], value.literal)


def behind(value: Value, separator: str) -> Value:
    """Return what follows the first ``separator`` that is not part of a substitution."""
    text = (
        EXPANSION.sub(lambda match: " " * len(match[0]), value.text)
        if "$" in value.text and not value.literal
        else value.text
    )
    position = text.find(separator)
    if position < 0:
        return cut(value, 0, 0)
    if position == len(text) - 1 and looks_random(value.text[:position]):  # a token in the place of the user
        return cut(value, 0, position)
    found = cut(value, position + 1)
    if separator == "/" and "@" in found.text:
        return cut(found, 0, found.text.rfind("@"))
    return found


def every_pair(value: Value, rule: str, why: str) -> Iterator[Span]:
    """Yield the value of ``NAME=value`` whatever its name is."""
    _, equals, secret = value.text.partition("=")
    part = cut(value, len(value.text) - len(secret))
    if equals and part.text and is_secret_value(part.text, literal=value.literal):
        yield Span(part.start, part.end, rule, why)


def find_pairs(word: Word, offset: int, *, sed: bool = False) -> Iterator[Span]:
    """Yield the values of ``NAME=value`` pairs in a word whose names say that they hold a secret.

    In a ``sed`` program the value ends where the program's part ends, and a pattern is none.
    """
    text, position = word.text, offset
    if len(text) > LONG_WORD and word.regions:
        return  # what is quoted in it is read as a line of its own, word by word
    while "=" in text and (match := PAIR.search(text, position)):
        position = match.end()
        holds = name_holds(match["name"])
        if holds is Holds.NOTHING:
            continue
        if sed:
            found = SED_VALUE.match(text, match.end())
            value = value_span(word, match.end(), found.end() - match.end() if found else 0)
        else:
            value = pair_value(word, match)
        position = max(position, value.end - word.inner)
        if (
            value.text
            and is_secret_value(value.text, literal=value.literal)
            and (holds is Holds.SECRET or looks_generated(value.text))
        ):
            yield Span(value.start, value.end, "assignment", match["name"])


def pair_value(word: Word, match: re.Match[str]) -> Value:
    """Return the value of a pair: quoted, or up to where the next pair starts."""
    text, start = word.text, match.end()
    escaped = 1 if text[start : start + 1] == "\\" else 0
    quote = text[start + escaped : start + escaped + 1]
    if quote and quote in "'\"":
        end = text.find(quote, start + escaped + 1)
        if end >= 0 and (word.quoted or end == len(text) - 1):
            return Value(
                word.inner + start + escaped + 1,
                word.inner + end - escaped,
                text[start + escaped + 1 : end - escaped],
                quote == "'",
            )
    if not word.quoted and ("'" in text or '"' in text) and match.start() == 0:
        return value_span(word, start)
    found = BARE_VALUE.match(text, start)
    value = value_span(word, start, found.end() - start if found else 0)
    if value.text[-1:] in CLOSING and CLOSING[value.text[-1]] not in value.text:
        value = cut(value, 0, len(value.text) - 1)
    if word.quoted and "(" in value.text and match["mark"].strip() != match["mark"]:
        return value._replace(text="")  # code: `token = read()`
    return value
