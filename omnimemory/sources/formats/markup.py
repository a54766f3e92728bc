"""Markdown and reStructuredText: kept as they are, read for their headings only.

Markdown follows CommonMark where headings are concerned: ATX and setext headings, neither inside fenced code nor in
front matter; of the front matter only ``title`` and ``tags`` in their plainest YAML forms are understood. The levels
of reStructuredText follow from the order in which a document's underlines first appear, as docutils does it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from omnimemory.records import Document, Heading
from omnimemory.sources.formats.limits import MOST_HEADINGS, MOST_LINES

__all__ = ["fences", "markdown_headings", "read_markdown", "read_rst"]

_TITLE = 200
_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?)^(?:---|\.\.\.)[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_FENCE = re.compile(r"^ {0,3}(`{3,}(?=[^`\n]*$)|~{3,})", re.MULTILINE)
_HEADING = re.compile(
    r"^\ {0,3}(?: (?P<marks>\#{1,6})(?P<atx>(?:[ \t][^\n]*)?\r?) | (?P<line>=+|-+)[ \t]*\r? )$",
    re.MULTILINE | re.VERBOSE,
)
_NO_PARAGRAPH = re.compile(r"\ {4}|\s*$|\ *(?:[-*+>#|\t]|\d{1,9}[.)]\s)")
_LINK = re.compile(r"!?\[([^\[\]]{0,300})\](?:\([^()\s]{0,500}[^()]{0,200}\)|\[[^\[\]]{0,100}\])")
_EMPHASIS = re.compile(r"(\*\*|__|\*|`+)(?=\S)(.{1,200}?)(?<=\S)\1")
_KEY = re.compile(r"^(title|tags):(.*)$((?:\n[ \t]*-[ \t]+[^\n]*)*)", re.MULTILINE)
_RULE = re.compile(r"([!-/:-@\[-`{-~])\1+")
_LINE = re.compile(r"[^\n]*\n?")


def read_markdown(uri: str, text: str) -> Document:
    """Return Markdown with its headings, and with the title and tags of its front matter."""
    front = _FRONT_MATTER.match(text)
    start = front.end() if front else 0
    metadata = _front_matter(front[1]) if front else {}
    return Document(uri, text, "markdown", tuple(islice(markdown_headings(text, start), MOST_HEADINGS)), metadata)


def fences(text: str) -> list[tuple[int, int]]:
    """Return where the fenced code blocks of a Markdown text are; one that is not closed reaches to the end."""
    found: list[tuple[int, int]] = []
    opened: tuple[int, str] | None = None
    for match in _FENCE.finditer(text):
        if opened is None:
            opened = match.start(), match[1]
        elif match[1].startswith(opened[1]) and not text[match.end() : _line_end(text, match.end())].strip():
            found.append((opened[0], _line_end(text, match.end())))
            opened = None
            if len(found) == MOST_HEADINGS:
                break
    return [*found, (opened[0], len(text))] if opened else found


def markdown_headings(text: str, start: int = 0) -> Iterator[Heading]:
    """Yield the headings of a Markdown text from ``start`` on."""
    code = iter([*fences(text), (len(text), len(text))])
    begin, end = next(code)
    for match in _HEADING.finditer(text, start):
        while match.start() >= end and begin < len(text):
            begin, end = next(code)
        if begin <= match.start() < end:
            continue
        if match["marks"]:
            found = Heading(match.start(), len(match["marks"]), _plain(_opened(match["atx"])))
        else:
            above = text.rfind("\n", start, max(start, match.start() - 1)) + 1 or start
            title = text[above : match.start()]
            if _NO_PARAGRAPH.match(title):
                continue
            found = Heading(above, 1 if match["line"][0] == "=" else 2, _plain(title))
        if found.title:
            yield found


def _opened(title: str) -> str:
    """Return an ATX title without the number signs that may close it."""
    title = title.strip()
    bare = title.rstrip("#")
    return bare if not bare or bare[-1].isspace() else title


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _plain(title: str) -> str:
    """Drop links and emphasis from a title: it is shown and searched as text."""
    return _EMPHASIS.sub(r"\2", _LINK.sub(r"\1", title.strip()[: 2 * _TITLE]))[:_TITLE].strip()


def _front_matter(yaml: str) -> dict[str, str | list[str]]:
    found: dict[str, str | list[str]] = {}
    for key, rest, items in _KEY.findall(yaml):
        value = rest.strip()
        if key == "title" and value and value[0] not in "|>&*!{[":
            found["title"] = _unquoted(value)[:_TITLE]
        elif key == "tags":
            flow = value.strip("[]").split(",") if value else [line.strip()[1:] for line in items.splitlines()]
            tags = [tag for tag in (_unquoted(each) for each in flow) if tag]
            if tags:
                found["tags"] = tags
    return found


def _unquoted(value: str) -> str:
    value = value.strip()
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def read_rst(uri: str, text: str) -> Document:
    """Return reStructuredText with its section titles as headings."""
    if text.count("\n") > MOST_LINES:
        return Document(uri, text, "rst")
    lines = _LINE.findall(text)
    levels: list[tuple[str, bool]] = []
    found: list[Heading] = []
    offset = len(lines[0])
    for number in range(1, len(lines)):
        title, line = lines[number - 1].rstrip(), lines[number].rstrip()
        above = lines[number - 2].rstrip() if number > 1 else ""
        if _is_title(title, line, above):
            over = above == line
            style = (line[0], over)
            if style not in levels:
                levels.append(style)
            start = offset - len(lines[number - 1]) - (len(lines[number - 2]) if over else 0)
            found.append(Heading(start, levels.index(style) + 1, title.strip()[:_TITLE]))
        offset += len(lines[number])
    return Document(uri, text, "rst", tuple(found[:MOST_HEADINGS]))


def _is_title(title: str, line: str, above: str) -> bool:
    """Return whether ``line`` underlines ``title``; ``above`` is blank, an overline, or an explicit markup line."""
    if not title or not _RULE.fullmatch(line) or _RULE.fullmatch(title):
        return False
    if len(line) < len(title.strip()) and len(line) < 4:
        return False
    if above == line:
        return True
    return not title[0].isspace() and (not above or above.startswith(".. "))
