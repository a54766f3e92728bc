"""Manual pages (man and mdoc macros of roff) to text: a reader, not a formatter.

Requests are dropped and the lines of a paragraph are joined; fonts and sizes go, special characters become what they
stand for (groff_char(7)), ``.SH``, ``.SS``, ``.Sh`` and ``.Ss`` become headings. Tables keep their rows; macro
definitions, equations and conditions of one line are left out. That is enough to search a page; to typeset it takes
groff.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import accumulate

from omnimemory.records import Document, Heading
from omnimemory.sources.formats.decoding import SkippedError
from omnimemory.sources.formats.limits import MOST_HEADINGS, MOST_LINES, check_count
from omnimemory.sources.formats.mdoc import CALLABLE, spoken
from omnimemory.sources.formats.roff import plain, words

__all__ = ["is_manpage", "read_manpage"]

_NAME = re.compile(r"\.[1-9][a-z0-9]{0,12}$", re.IGNORECASE)
_ROFF = re.compile(r"^[.'][ \t]*(?:TH|Dd|SH|Sh|so)\b", re.MULTILINE)
_REFERENCE = re.compile(r"^\.so[ \t]+(\S+)", re.MULTILINE)
_REQUEST = re.compile(r"[.'][ \t]*([A-Za-z0-9]*)[ \t]*(.*)")
_SKIP_UNTIL = {"de": "..", "de1": "..", "am": "..", "ig": "..", "EQ": ".EN", "PS": ".PE"}
_HEADINGS = {"SH": 1, "Sh": 1, "SS": 2, "Ss": 2}
_BLANK = "PP P LP Pp Lp HP sp Sp bp TP TQ RS RE EX EE nf fi Vb Ve Bl El Bd Ed UE ME YS"
_BLANKS = frozenset(_BLANK.split())
_SPACED = frozenset({"B", "I", "SM", "SB", "R", "UR", "MT", "URL", "MTO", "SY"})
_ALTERNATING = frozenset({"BR", "RB", "IR", "RI", "BI", "IB"})
_TAGS = frozenset({"IP", "It"})
_UNFILLED = frozenset({"nf", "EX", "Vb", "TS"})
_FILLED = frozenset({"fi", "EE", "Ve", "TE", "Ed"})
_SYNOPSIS = frozenset({"Nm", "Ft", "Fn", "Fo", "In", "Fd", "Vt"})  # begin a line in a synopsis
_LONGEST_LINE = 4000


def is_manpage(name: str, text: str) -> bool:
    """Return whether a file named like ``ls.1`` or ``open.3pm`` holds roff: ``libc.so.6`` and ``app.log.1`` do not."""
    return _NAME.search(name) is not None and _ROFF.search(text, 0, 65536) is not None


def read_manpage(uri: str, text: str) -> Document:
    """Return a manual page as text with its sections as headings and ``name(section)`` as its title.

    Raises :class:`SkippedError` for a page that only refers to another one.
    """
    check_count(text, "\n", MOST_LINES, "lines of roff")
    page = _Page()
    for line in text.splitlines():
        page.read(line)
    reference = _REFERENCE.search(text)
    if reference and not page.lines:
        raise SkippedError(f"it only refers to {reference[1]}")
    lengths = accumulate((len(line) + 1 for line in page.lines), initial=0)
    starts = list(lengths)
    headings = tuple(Heading(starts[number], level, page.lines[number]) for number, level in page.headings)
    metadata = {"title": page.title} if page.title else {}
    return Document(uri, "\n".join(page.lines).rstrip(), "man", headings, metadata)


@dataclass(slots=True)
class _Page:
    lines: list[str] = field(default_factory=list)
    headings: list[tuple[int, int]] = field(default_factory=list)
    title: str = ""
    name: str = ""
    until: str = ""  # the line that ends what is being skipped
    table: str = ""  # "", "format" or "rows"
    heading: int = 0  # the level of a heading whose title is on the next line
    tag: str = ""  # a bullet that belongs before the next line
    filled: bool = True  # whether lines of text are joined
    running: bool = False  # whether the last line is one that the next text continues
    term: bool = False  # whether the next text is the tag of a paragraph, alone on its line
    section: str = ""

    def read(self, line: str) -> None:
        """Take the next line of the source."""
        if self.until:
            if "".join(line.split()) == self.until:
                self.until = ""
        elif line[:1] in {".", "'"}:
            match = _REQUEST.match(line)
            assert match is not None
            self._request(match[1], match[2])
        elif self.table:
            self._row(line)
        else:
            self._text(plain(line))

    def _text(self, line: str) -> None:
        line = line.rstrip()
        if not line:
            self._blank()
        elif self.heading:
            self._head(self.heading, line)
        elif self.running and not line[0].isspace() and len(self.lines[-1]) < _LONGEST_LINE:
            self.lines[-1] += f" {line}"
        else:
            self.lines.append(f"{self.tag} {line}" if self.tag else line)
            self.running = self.filled and not self.term
            self.tag, self.term = "", False

    def _blank(self) -> None:
        self.running = False
        if self.lines and self.lines[-1]:
            self.lines.append("")

    def _head(self, level: int, title: str) -> None:
        self.heading = 0
        self._blank()
        if len(self.headings) < MOST_HEADINGS:
            self.headings.append((len(self.lines), level))
        self.section = title.strip()[:200]
        self.lines += [self.section, ""]

    def _request(self, name: str, rest: str) -> None:
        if name in _UNFILLED or name in _FILLED or name == "Bd":
            self.filled = name in _FILLED or rest.startswith(("-filled", "-ragged", "-centered"))
        if name in _SKIP_UNTIL:
            self.until = _SKIP_UNTIL[name]
        elif name in _HEADINGS:
            title = " ".join(words(rest))
            self.heading = _HEADINGS[name]
            self._text(title)
        elif name in {"TS", "TE"}:
            self.table = "format" if name == "TS" else ""
            self._blank()
        elif name in {"TH", "Dt"}:
            self._titled(words(rest))
        elif name in _BLANKS:
            self._blank()
            self.term = name in {"TP", "TQ"}
        elif name == "br":
            self.running = False
        elif name in _SPACED:
            self._text(" ".join(words(rest)))
        elif name in _ALTERNATING:
            self._text("".join(words(rest)))
        elif name in _TAGS:
            self._tagged(name, rest)
        elif name in CALLABLE:
            self._spoken(name, rest)

    def _titled(self, given: list[str]) -> None:
        if len(given) > 1:
            name = given[0].lower() if given[0].isupper() else given[0]
            self.title = f"{name}({given[1]})"

    def _tagged(self, name: str, rest: str) -> None:
        self._blank()
        given = words(rest)
        tag = spoken(given, self.name) if name == "It" else "".join(given[:1])
        if len(tag) > 1 or tag.isalnum():
            self.term = True
            self._text(tag)
        else:
            self.tag = tag

    def _spoken(self, name: str, rest: str) -> None:
        given = words(rest)
        if name == "Nm" and given and not self.name:
            self.name = given[0]
        text = spoken([name, *given], self.name)
        if name in _SYNOPSIS and self.section.upper() == "SYNOPSIS":
            self.running = False
        if text and self.lines and not text[0].isalnum() and text.strip(".,;:)") == "":
            self.lines[-1] += text
        else:
            self._text(text)

    def _row(self, line: str) -> None:
        if self.table == "format":
            if line.rstrip().endswith("."):
                self.table = "rows"
        elif line.strip("_=- \t"):
            cells = [plain(cell).strip() for cell in line.replace("T{", "").replace("T}", "").split("\t")]
            self._text(" | ".join(cell for cell in cells if cell))
