"""HTML to text: one linear pass over the tags, no tree.

A tree builder follows the repair rules of the HTML standard, which a hostile or broken page makes expensive: 100,000
nested ``div`` keep a fast C parser busy for 15 seconds, and 27 kB of unclosed ``b`` become 700 MB of nodes. Text needs
no tree. The tokens are those of the standard (comments, raw text elements, quoted attributes); what is kept is the
``main`` or the only ``article`` if there is one, without scripts, styles, navigation, headers and footers; block
elements end lines, ``pre`` keeps its spaces, ``h1`` to ``h6`` become headings. An element that should be left out but
is never closed is kept: too much text is better than none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from html import unescape

from omnimemory.records import Document, Heading
from omnimemory.sources.formats.limits import MOST_HEADINGS, check_count

__all__ = ["read_html"]

_TITLE = 200
_MOST_TAGS = 2_000_000
_ATTRIBUTES = r"""(?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+')?+)*+"""
# The first kind only makes haste: tags that change nothing, as highlighted code is full of them.
_TOKEN = re.compile(
    rf"""<(?:
        /?(?:span|code|em|strong)(?:[ ]class="[^"]*+")?> |
        (?P<end>/?)(?!(?:script|style|textarea|title|iframe)[\s/>])(?P<name>[a-z][^\s/>]*+)(?P<attributes>{_ATTRIBUTES})(?:>|\Z)
      | (?P<raw>script|style|textarea|title|iframe)(?=[\s/>]) {_ATTRIBUTES}
        (?: (?<=/)> | > (?P<content>.*?) (?:</(?P=raw)(?=[\s/>])[^>]*(?:>|\Z)|\Z) | \Z )
      | !--(?:>|->|.*?(?:--!?>|\Z))
      | [!?/][^>]*(?:>|\Z)
    )""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
# Marks of structure inside the text: control characters, which HTML forbids and which are removed from it first.
_LINE, _BLOCK, _PRE, _OPEN, _CLOSE, _CELL, _BULLET = "\1\2\3\4\5\6\7"
_CONTROLS = re.compile("[\0-\x08\x0b\x0e-\x1f]")
_LINES = "div dt dd tr figcaption caption legend summary option address center"
_BLOCKS = """
    p ul ol dl table blockquote section article aside main figure hr details fieldset form header footer hgroup
"""
_MARK_OF = {**dict.fromkeys(_LINES.split(), _LINE), **dict.fromkeys(_BLOCKS.split(), _BLOCK)}
_SKIPPED = frozenset({"nav", "header", "footer", "button", "dialog", "select", "noscript", "template", "svg"})
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_HANDLED = frozenset({*_MARK_OF, *_SKIPPED, *_HEADINGS, "a", "br", "li", "pre", "td", "th"})
_ROLE = re.compile(r"\brole\s*=\s*[\"']?main\b", re.IGNORECASE)
_MARKS = f"{_LINE}{_BLOCK}{_BULLET}{_CELL}"
_RUN = re.compile(f"({_OPEN}[1-6])?[ {_CELL}]*[{_MARKS}][ {_MARKS}]*({_CLOSE})?")
_EMPTY_HEADING = re.compile(f"{_OPEN}[1-6][ {_MARKS}]*{_CLOSE}")
_HEADING_MARK = re.compile(f"{_OPEN}([1-6])|{_CLOSE}")
_TEXT = re.compile(r"[^\s\1-\7]")
_LONG_NUMBER = re.compile(r"&#([0-9]{8,}+);?")


def read_html(uri: str, text: str) -> Document:
    """Return the readable text of an HTML page, its title as metadata, and its headings."""
    check_count(text, "<", _MOST_TAGS, "tags")
    page = _Page()
    source = _CONTROLS.sub("", text)
    # Splitting yields the text before each token and the token's five groups: far faster than match objects.
    pieces = iter([*_TOKEN.split(source), *[None] * 5])
    for before, end, name, attributes, raw, content in zip(*[pieces] * 6, strict=True):
        if before:
            page.parts.append(before)
        if name is not None:
            page.tag(name.lower(), attributes, closing=end == "/")
        elif raw is not None and not page.title and raw.lower() == "title":
            page.title = " ".join(_unescaped(content or "").split())[:_TITLE]
    body, headings = _finished(page.chosen())
    return Document(uri, body, "html", headings, {"title": page.title} if page.title else {})


@dataclass(slots=True)
class _Region:
    """The contents of one element: parts ``start`` to ``end``. Only tags of its own name are counted."""

    name: str
    start: int
    end: int | None = None
    depth: int = 1

    def tag(self, name: str, position: int, *, closing: bool) -> None:
        if name == self.name and self.end is None:
            self.depth += -1 if closing else 1
            if self.depth == 0:
                self.end = position

    @property
    def is_open(self) -> bool:
        return self.end is None


@dataclass(slots=True)
class _Page:
    """The text seen so far, with marks for its structure."""

    parts: list[str] = field(default_factory=list)
    title: str = ""
    pre: int = 0
    heading: bool = False
    lists: int = 0
    skipped: _Region | None = None
    before: tuple[int, bool, int] = (0, False, 0)  # pre, heading and lists when skipping began
    main: _Region | None = None
    articles: list[_Region] = field(default_factory=list)

    def tag(self, name: str, attributes: str, *, closing: bool) -> None:
        if name not in _HANDLED or (name == "a" and not self.skipped and "headerlink" not in attributes):
            return
        is_main = not closing and (name == "main" or ("role" in attributes and _ROLE.search(attributes) is not None))
        if self.skipped and not is_main:
            self._skip(name, closing=closing)
            return
        self.skipped = None  # a page whose text is inside its header: nothing was to be skipped
        if is_main or name == "article" or (self.main and name == self.main.name):
            self._track(name, is_main=is_main, closing=closing)
        if not closing and self._is_skipped(name):
            self.skipped = _Region(name, len(self.parts))
            self.before = self.pre, self.heading, self.lists
        else:
            self._mark(name, closing=closing)

    def _skip(self, name: str, *, closing: bool) -> None:
        assert self.skipped is not None
        self.skipped.tag(name, 0, closing=closing)
        if self.skipped.is_open:
            self._mark(name, closing=closing)
        else:
            del self.parts[self.skipped.start :]
            self.skipped = None
            self.pre, self.heading, self.lists = self.before

    def _track(self, name: str, *, is_main: bool, closing: bool) -> None:
        here = len(self.parts)
        inside = self.articles[-1] if self.articles and self.articles[-1].is_open else None
        if inside:
            inside.tag(name, here, closing=closing)
        elif name == "article" and not closing:
            self.articles.append(_Region(name, here))
        if self.main:
            self.main.tag(name, here, closing=closing)
        elif is_main:
            self.main = _Region(name, here)

    def _is_skipped(self, name: str) -> bool:
        if name == "a":
            return True  # a "headerlink": the paragraph sign behind the headings of many manuals
        if name not in _SKIPPED:
            return False
        inside = (self.main and self.main.is_open) or (self.articles and self.articles[-1].is_open)
        return not (inside and name in {"header", "footer"})

    def _mark(self, name: str, *, closing: bool) -> None:
        if name in {"ul", "ol"}:  # a list inside a list belongs to its item
            self.lists = max(0, self.lists + (-1 if closing else 1))
            self.parts.append(_LINE if self.lists > (0 if closing else 1) else _BLOCK)
        elif name in _MARK_OF:
            self.parts.append(_MARK_OF[name])
        elif name in _HEADINGS:
            self.parts.append(_CLOSE * self.heading + _BLOCK + ("" if closing else _OPEN + name[1]))
            self.heading = not closing
        elif name == "pre":
            was, self.pre = self.pre, max(0, self.pre + (-1 if closing else 1))
            if 0 in (was, self.pre) and was != self.pre:
                self.parts.append(_PRE)
        elif name == "br":
            self.parts.append("\n" if self.pre else _LINE)
        elif name == "li":
            self.parts.append(_LINE if closing else _BULLET)
        elif name in {"td", "th"} and not closing:
            self.parts.append(_CELL)

    def chosen(self) -> str:
        """Return the part of the page that it calls its main one, or all of it."""
        for region in (self.main, self.articles[0] if len(self.articles) == 1 else None):
            if region is not None:
                text = "".join(self.parts[region.start : region.end])
                if _TEXT.search(text):
                    return text
        return "".join(self.parts)


def _unescaped(text: str) -> str:
    return unescape(_LONG_NUMBER.sub(_shortened, text))


def _shortened(reference: re.Match[str]) -> str:
    """Return a reference to a character by its number without leading zeros: Python refuses 4,300 digits."""
    number = reference[1].lstrip("0")
    return f"&#{number or 0};" if len(number) < 8 else "\ufffd"


def _finished(marked: str) -> tuple[str, tuple[Heading, ...]]:
    """Turn marks into line breaks and headings, and spaces outside of ``pre`` into single ones."""
    pieces = []
    for number, piece in enumerate(_unescaped(marked).split(_PRE)):
        if number % 2:
            pieces.append(_RUN.sub("\n", piece).strip("\n").rstrip())
        else:
            flowing = _EMPTY_HEADING.sub("", " ".join(piece.split()))
            pieces.append(_RUN.sub(_broken, flowing).strip(" \n"))
    text = "\n\n".join(piece for piece in pieces if piece)
    clean: list[str] = []
    headings: list[Heading] = []
    length = position = 0
    for mark in _HEADING_MARK.finditer(text):
        clean.append(text[position : mark.start()])
        length += len(clean[-1])
        position = mark.end() + text.startswith(" ", mark.end()) * bool(mark[1])
        title = text[position : position + 2 * _TITLE].split("\n", 1)[0].split(_CLOSE, 1)[0].strip(" ¶")
        if mark[1] and title and len(headings) < MOST_HEADINGS:
            headings.append(Heading(length, int(mark[1]), title[:_TITLE]))
    clean.append(text[position:])
    body = "".join(clean).rstrip()
    lead = len(body) - len(body.lstrip())  # a heading that began before the main part leaves its line break
    return body[lead:], tuple(replace(heading, start=heading.start - lead) for heading in headings)


def _broken(run: re.Match[str]) -> str:
    """Return what a run of marks means: a new cell, line, list item or paragraph, and none inside a heading's ends."""
    if run[1] or run[2]:
        return run[1] or run[2]
    marks = run[0]
    if _BULLET in marks:
        before = marks[: marks.index(_BULLET)]
        return "\n\n- " if _BLOCK in before and _LINE not in before else "\n- "
    if _CELL in marks:
        return "\n" if _LINE in marks else " | "
    return "\n\n" if _BLOCK in marks else "\n"
