"""What a manual page says about a command: its names, its options with the names of their values, its arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tools.redaction_table.roff import Line, plain_lines

__all__ = ["ManualPage", "Option", "read_page"]

OPTION = r"--?[A-Za-z0-9][\w.+-]*"
# The name of a value: <PASS>, [pass], "pass", {pass}, pass. A dash or a second word ends it.
VALUE = r"[<\[{\"']*(?P<value>[A-Za-z$](?:[\w$:@%#/.*-]|\|(?=\w))*(?:\[[:%]\w+\]?)?)"
PIECE = re.compile(rf"(?P<option>{OPTION})(?:(?P<mark>\[?[=:]\[? ?|\[|(?P<space> ))(?:{VALUE})?)?")
SEPARATOR = re.compile(r"[\]>}\"'.)]*(?:\s*(?:,|\||/|\bor\b|\band\b)\s*|\s+(?=-))")
SECTIONS = frozenset({"SH", "Sh", "SS", "Ss"})
NAMES = re.compile(r"^(?P<names>[\w.+,@\[\] -]+?)\s+(?:--?|—)\s")
ABOUT_LENGTH = 240  # characters of the text behind an option that are worth reading
WORDS = frozenset({"or", "and", "is", "the", "to", "of", "for", "with", "option", "options", "will", "can", "must"})


class Head(NamedTuple):
    """The names of an option and the name of its value."""

    names: tuple[str, ...]
    value: str | None


class Option(NamedTuple):
    """An option: all its names, the name of its value (``None``: it takes none), the text about it."""

    names: tuple[str, ...]
    value: str | None
    about: str


class ManualPage(NamedTuple):
    """A page: the commands it is about, their options, and the synopsis (lines of plain text)."""

    names: tuple[str, ...]
    options: tuple[Option, ...]
    synopsis: tuple[str, ...]


def read_page(title: str, source: str) -> ManualPage:
    """Read the source of a page; ``title`` is its file's name without the section."""
    lines = list(plain_lines(source))
    synopsis = tuple(line.text for line in section(lines, "SYNOPSIS") if line.text)
    options = [*listed_options(lines), *synopsis_options(" ".join(synopsis))]
    return ManualPage(page_names(title, lines, synopsis), tuple(options), synopsis)


def section(lines: Sequence[Line], title: str) -> list[Line]:
    """Return the lines of a section."""
    found: list[Line] = []
    inside = False
    for line in lines:
        if line.macro in {"SH", "Sh"}:
            inside = line.text.strip('" ').upper() == title
        elif inside:
            found.append(line)
    return found


def page_names(title: str, lines: Sequence[Line], synopsis: Sequence[str]) -> tuple[str, ...]:
    """Return the commands a page is about; ``git-push`` is ``git push`` where the synopsis says so."""
    text = " ".join(line.text for line in section(lines, "NAME") if line.macro != "Nd")
    said = [name.strip() for name in (NAMES.match(text + " - ") or [""])[0].rstrip(" -—").split(",")]
    known = [name for name in said if re.fullmatch(r"[a-z0-9][\w.+@-]*", name)]
    found = dict.fromkeys([title, *(known if 1 < len(known) <= 12 else [])])
    start = " ".join(synopsis)[:200].lower().lstrip("'\" ")
    return tuple(dict.fromkeys(spaced(name, start) for name in found))


def spaced(name: str, synopsis: str) -> str:
    """Return ``git push`` for ``git-push`` when the synopsis writes it so."""
    words = name.replace("-", " ").lower()
    return words if words != name and synopsis.startswith(words + " ") else name


def listed_options(lines: Sequence[Line]) -> Iterator[Option]:
    """Yield the options that have an entry of their own, each with the text behind it."""
    heads: list[Head] = []
    about = ""
    in_synopsis = False
    for line in lines:
        if line.macro in {"SH", "Sh"}:
            in_synopsis = "SYNOPSIS" in line.text.upper()
        found = read_head(line.text) if line.text[:1] == "-" and not in_synopsis else None
        if (found is not None and about) or line.macro in SECTIONS:
            yield from described(heads, about)
            heads, about = [], ""
        if found is not None:
            heads += found[0]
            about = found[1]
        elif heads and len(about) < ABOUT_LENGTH:
            about = f"{about} {line.text}".strip()
    yield from described(heads, about)


def described(heads: Sequence[Head], about: str) -> Iterator[Option]:
    """Yield the options of an entry; heads on lines of their own that share a text are names of one option."""
    values = {head.value for head in heads if head.value}
    if len(heads) > 1 and len(values) <= 1:
        names = tuple(name for head in heads for name in head.names)
        yield Option(names, next(iter(values), None), about[:ABOUT_LENGTH])
        return
    for head in heads:
        yield Option(head.names, head.value, about[:ABOUT_LENGTH])


def read_head(text: str) -> tuple[list[Head], str] | None:
    """Return the options and the rest of a line such as ``-p, --password=PASS  What it is``.

    Names without a value of their own belong to the value that follows: ``-p, --password=PASS`` is one option,
    ``-p PASS|-P FILE`` are two.
    """
    heads: list[Head] = []
    names: list[str] = []
    position = 0
    while piece := PIECE.match(text, position):
        names.append(piece["option"].rstrip(".-"))
        position = piece.end()
        value = piece["value"]
        if piece["space"] and value and value.lower() in WORDS:
            position, value = piece.start("space"), None
        value = value.rstrip(".,") if value else "value" if piece["mark"] and not piece["space"] else None
        if value:
            if heads and heads[-1].value and heads[-1].value.lower() == value.lower():
                names = [*heads.pop().names, *names]
            heads.append(Head(tuple(names), value))
            names = []
        separator = SEPARATOR.match(text, position)
        if separator is None or text[separator.end() : separator.end() + 1] != "-":
            break
        position = separator.end()
    if names:
        heads = with_names(heads, names)
    return (heads, text[position:].lstrip("]>}\"'.)").strip()) if heads else None


def with_names(heads: list[Head], names: list[str]) -> list[Head]:
    """Add names that no value follows: to the option before (``--password=PASS, -p``), else as one of their own."""
    if heads and heads[-1].value:
        return [*heads[:-1], Head((*heads[-1].names, *names), heads[-1].value)]
    return [*heads, Head(tuple(names), None)]


def synopsis_options(synopsis: str) -> Iterator[Option]:
    """Yield the options of a synopsis: ``[-w passwd]``, ``-u user[:pass]``."""
    for group in re.findall(r"\[\s*(-[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)?)\]", synopsis):
        found = read_head(group.strip())
        for head in found[0] if found else ():
            if head.value:  # `-a|-E|-P password`: only the last of them takes it
                yield Option(head.names[-1:] if "|" in group else head.names, head.value, "")
