"""Where secrets are in a text, and how they are cut out of it.

Rules only *find* spans; cutting happens here, once, so that overlapping findings become one
replacement and everything outside of them is kept to the letter. A text that was redacted before is
left as it is: placeholders are masked before the rules look, and a pass is repeated until nothing is
found any more (a replacement can change how the rest of a line reads).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

__all__ = ["LONG", "MASK", "Finder", "Span", "locate_spans", "replace_spans"]

MASK = "\uffff"
"""Stands for one character of an earlier placeholder; no character of a real text (a noncharacter)."""

PLACEHOLDER = re.compile(r"\[REDACTED:[a-z0-9-]+\]")
MAX_PASSES = 4
LONG = 8_000  # characters
STRUCTURE = re.compile(r"[\s'\"\\`$|&;()<>{}#]")  # without these a replacement cannot change how the rest reads
FEW = 50  # a line with more secrets than that was not typed: it is not read again


class Span(NamedTuple):
    """A secret at ``text[start:end]``, found by ``rule``; ``why`` names what told, where that is known."""

    start: int
    end: int
    rule: str
    why: str = ""


Finder = Callable[[str], Iterable[Span]]
"""Finds the secrets of a text whose earlier placeholders are masked with :data:`MASK`."""


def replace_spans(text: str, find: Finder) -> tuple[str, dict[str, int]]:
    """Replace what ``find`` finds by ``[REDACTED:rule]``; return the new text and the count per rule."""
    redacted, counts = text, dict[str, int]()
    for after, spans in passes(text, find):
        redacted = after
        for span in spans:
            counts[span.rule] = counts.get(span.rule, 0) + 1
    return redacted, counts


def locate_spans(text: str, find: Finder) -> list[Span]:
    """Return what :func:`replace_spans` would replace, with offsets into ``text``, in order."""
    located: list[Span] = []
    shifts: list[tuple[int, int]] = []  # where a placeholder ends in the text of a pass, and how much longer it made it
    for _, spans in passes(text, find):
        for span in spans:
            start, end = (position - sum(by for at, by in shifts if at <= position) for position in span[:2])
            located = [known for known in located if not (start <= known.start and known.end <= end)]
            located.append(Span(start, end, span.rule, span.why))
        shifts = shifted(located)
    return sorted(located)


def shifted(located: Iterable[Span]) -> list[tuple[int, int]]:
    """Return where the placeholders of these spans end once they are replaced, and by how much each moves the rest."""
    shifts: list[tuple[int, int]] = []
    moved = 0
    for start, end, rule, _ in sorted(located):
        longer = len(f"[REDACTED:{rule}]") - (end - start)
        moved += longer
        shifts.append((end + moved, longer))
    return shifts


def passes(text: str, find: Finder) -> Iterator[tuple[str, list[Span]]]:
    """Yield the text after each pass of ``find`` and what was replaced in it."""
    for _ in range(MAX_PASSES):
        masked = mask_placeholders(text)
        spans = merge_spans(masked, find(masked))
        if not spans:
            return
        pieces: list[str] = []
        position = 0
        for start, end, rule, _ in spans:
            pieces += (text[position:start], f"[REDACTED:{rule}]")
            position = end
        pieces.append(text[position:])
        text = "".join(pieces)
        yield text, spans
        if len(masked) > LONG and (len(spans) > FEW or not any(STRUCTURE.search(masked, *span[:2]) for span in spans)):
            return


def mask_placeholders(text: str) -> str:
    """Return the text with each placeholder replaced by as many :data:`MASK` characters."""
    if "[REDACTED:" not in text:
        return text
    return PLACEHOLDER.sub(lambda match: MASK * len(match[0]), text)


def merge_spans(masked: str, spans: Iterable[Span]) -> list[Span]:
    """Return the spans in order, overlapping ones joined under the name of the first, empty ones dropped."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if not masked[span.start : span.end].strip(MASK):
            continue
        if merged and span.start < merged[-1].end:
            merged[-1] = merged[-1]._replace(end=max(span.end, merged[-1].end))
        else:
            merged.append(span)
    return merged
