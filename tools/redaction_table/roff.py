r"""Manual pages as lines of plain text: man(7) and mdoc(7), as far as options need it.

Not a formatter. Fonts and spacing go, ``\-`` becomes ``-``, and each line keeps the macro that made it, because
``.TP`` and ``.It`` say that what follows is the head of an entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Line", "plain_lines"]

ESCAPES = (
    (re.compile(r"\\f(?:\[[^\]]*\]|\(..|.)|\\s[+-]?\d{1,2}|\\\*(?:\[[^\]]*\]|\(..|.)|\\[&|^%/,:c)]|\\m\[[^\]]*\]"), ""),
    (re.compile(r"\\-|\\\((?:hy|mi|en)|\\\[(?:hy|mi|en)\]|\\N'45'"), "-"),
    (re.compile(r"\\\((?:aq|cq|oq)|\\\[(?:aq|cq|oq)\]"), "'"),
    (re.compile(r"\\\((?:dq|lq|rq)|\\\[(?:dq|lq|rq)\]"), '"'),
    (re.compile(r"\\[ ~0]"), " "),
    (re.compile(r"\\\(..|\\\[[^\]]*\]"), "?"),
    (re.compile(r"\\e|\\\\"), r"\\"),
    (re.compile(r"\\(.)"), r"\1"),
)
COMMENT = re.compile(r"(?:^['.]\\\"|\\\").*")
ARGUMENT = re.compile(r'"((?:[^"]|"")*)"?|((?:\\ |\S)+)')
JOINED = frozenset({"BR", "RB", "IR", "RI", "BI", "IB"})
SPACED = frozenset({"B", "I", "R", "SM", "SB"})
MDOC_TEXT = frozenset({"Fl", "Ar", "Cm", "Ic", "Nm", "Op", "Li", "Sy", "Em", "Pa", "Dv", "Ev", "Xr", "No", "It", "Va"})
MDOC_MARKS = {
    "Oo": "[",
    "Oc": "]",
    "Ns": None,
    "Xo": "",
    "Xc": "",
    "Sm": "",
    "Pq": "",
    "Aq": "",
    "Ql": "",
    "Dq": "",
    "Sq": "",
}


class Line(NamedTuple):
    """A line of a page: the macro it began with (or none) and its text."""

    macro: str
    text: str


def plain_lines(page: str) -> Iterator[Line]:
    """Yield the lines of a page's source as plain text."""
    for raw in page.splitlines():
        line = COMMENT.sub("", raw)
        if line[:1] in {".", "'"}:
            macro, _, rest = line[1:].strip().partition(" ")
            yield Line(macro, macro_text(macro, rest.strip()))
        else:
            yield Line("", plain(line).strip())


def macro_text(macro: str, rest: str) -> str:
    """Return the text that a macro line prints."""
    if macro in MDOC_TEXT:
        return mdoc_text([macro, *arguments(rest)])
    words = [plain(word) for word in arguments(rest)]
    if macro in JOINED:
        return "".join(words).strip()
    if macro in SPACED or macro in {"SH", "SS", "Sh", "Ss", "Nd", "OP"}:
        return " ".join(words).strip()
    if macro in {"IP", "TP"}:
        return words[0] if words and macro == "IP" else ""
    return ""


def mdoc_text(words: list[str]) -> str:
    """Return what a line of mdoc prints, for the macros that make options and their values."""
    text, glue, flag, optional = "", True, False, False
    for word in words:
        if word == "Fl":
            flag = True
        elif word == "Op":
            text, glue, optional = text + " [", True, True
        elif word in MDOC_MARKS:
            mark = MDOC_MARKS[word]
            glue = mark is None or glue
            text += mark or ""
        elif word in MDOC_TEXT:
            flag = False
        else:
            text += ("" if glue else " ") + ("-" if flag else "") + plain(word)
            glue = flag = False
    return (text + "]" * optional).strip()


def arguments(rest: str) -> list[str]:
    """Return the arguments of a macro."""
    return [quoted.replace('""', '"') if quoted else bare for quoted, bare in ARGUMENT.findall(rest)]


def plain(text: str) -> str:
    """Return the text without fonts and with its escapes resolved."""
    if "\\" not in text:
        return text
    for pattern, replacement in ESCAPES:
        text = pattern.sub(replacement, text)
    return text
