"""What the tests of the formats share: parsing a few bytes, and headings that stand where they say."""

from __future__ import annotations

import re

from omnimemory.records import Document
from omnimemory.sources.formats import parse

MIB = 1024 * 1024


def parsed(name: str, data: bytes | str) -> Document:
    return parse(f"/x/{name}", data.encode() if isinstance(data, str) else data, max_bytes=MIB)


def outline(document: Document) -> list[tuple[int, str]]:
    """Return level and title of the headings, each of which must stand where it says it does."""
    for heading in document.headings:
        assert heading.start == 0 or document.text[heading.start - 1] in "\n\r"
        line = document.text[heading.start :].lstrip().split("\n\n", 1)[0]
        assert letters(heading.title)[:20] in letters(line), heading
    assert [heading.start for heading in document.headings] == sorted({heading.start for heading in document.headings})
    return [(heading.level, heading.title) for heading in document.headings]


def letters(text: str) -> str:
    return re.sub(r"[^\w ]", "", text)
