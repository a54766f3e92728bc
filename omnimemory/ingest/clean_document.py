"""A document without its secrets: text, headings and metadata, before anything else sees them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

from omnimemory.records import Document, Heading
from omnimemory.sources.redaction import Redactor

__all__ = ["clean_document", "clean_value"]

_MARKS = [chr(code) for code in range(0xFDD0, 0xFDF0)]  # noncharacters: no text has a use for them


def clean_document(document: Document, redactor: Redactor) -> tuple[Document, Counter[str]]:
    """Return the document with its secrets replaced, and how often each rule replaced something."""
    counts: Counter[str] = Counter()
    found = redactor.document(document.text)
    counts.update(found.counts)
    metadata = clean_value(document.metadata, redactor, counts)
    if not counts:
        return document, counts
    headings = _moved(document, found.text, redactor) if found.counts else document.headings
    return replace(document, text=found.text, headings=headings, metadata=metadata), counts


def clean_value(value: Any, redactor: Redactor, counts: Counter[str]) -> Any:
    """Return a text, or the texts in a list or dictionary, without secrets; count the replacements by rule."""
    if isinstance(value, dict):
        return {key: clean_value(member, redactor, counts) for key, member in value.items()}
    if isinstance(value, list):
        return [clean_value(member, redactor, counts) for member in value]
    if not isinstance(value, str):
        return value
    found = redactor.document(value)
    counts.update(found.counts)
    return found.text


def _moved(document: Document, clean: str, redactor: Redactor) -> tuple[Heading, ...]:
    """Return the headings with their places in the clean text, where what stood before them has another length."""
    headings = sorted(document.headings, key=lambda heading: heading.start)
    titles = [redactor.document(heading.title).text for heading in headings]
    places = _marked_places(document.text, [heading.start for heading in headings], clean, redactor)
    if places is None:
        places = _sought_places(clean, titles)
    return tuple(
        Heading(place, heading.level, title)
        for heading, title, place in zip(headings, titles, places, strict=True)
        if place is not None
    )


def _marked_places(text: str, starts: list[int], clean: str, redactor: Redactor) -> list[int | None] | None:
    """Redact a copy of the text with a mark at each place and see where the marks are then.

    ``None`` when a mark changed what was found, or went with a secret.
    """
    mark = next((mark for mark in _MARKS if mark not in text), None)
    if mark is None:
        return None
    edges = [0, *starts, len(text)]
    pieces = redactor.document(mark.join(text[a:b] for a, b in pairwise(edges))).text.split(mark)
    if len(pieces) != len(starts) + 1 or "".join(pieces) != clean:
        return None
    return list(accumulate(len(piece) for piece in pieces[:-1]))


def _sought_places(clean: str, titles: list[str]) -> list[int | None]:
    """Look for each title behind the one before, and take the start of its line."""
    places: list[int | None] = []
    position = 0
    for title in titles:
        at = clean.find(title, position)
        places.append(None if at < 0 else max(clean.rfind("\n", 0, at) + 1, position))
        position = position if at < 0 else at
    return places
