"""Questions with known answers: descriptions of commands, headings of sections; and how well they were answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

__all__ = ["commands", "key_of", "measures", "sections"]

_SHORTEST_SECTION = 200


def commands(path: Path) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Return the commands of (page, description, command) lines by key, and the right keys of each description."""
    texts: dict[str, str] = {}
    right: dict[str, set[str]] = {}
    for line in path.read_text("utf-8").splitlines()[1:]:
        _, description, command = line.split("\t")
        texts.setdefault(key_of(command), command.strip())
        right.setdefault(description.strip(), set()).add(key_of(command))
    return texts, right


def key_of(command: str) -> str:
    """Return what is the same for a command however it is spaced."""
    return " ".join(command.split())


def sections(folder: Path) -> list[tuple[str, str]]:
    """Return (heading, what stands below it up to the next one) of every heading that occurs once."""
    from omnimemory.errors import SourceError
    from omnimemory.records import Failure
    from omnimemory.sources.documents import Limits, SkippedError, read, walk

    found: list[tuple[str, str]] = []
    limits = Limits()
    for file in walk(folder, limits):
        if isinstance(file, Failure):
            continue
        try:
            document = read(file, limits)
        except (SkippedError, SourceError):
            continue
        ends = [*(heading.start for heading in document.headings[1:]), len(document.text)]
        for heading, end in zip(document.headings, ends, strict=False):
            body = document.text[heading.start : end].partition("\n")[2].lstrip("=-~^\"'`#*+.: \n")
            if len(body) >= _SHORTEST_SECTION:
                found.append((heading.title, body))
    often = Counter(title.casefold() for title, _ in found)
    return [(title, body) for title, body in found if often[title.casefold()] == 1]


def measures(ranks: Iterable[int]) -> dict[str, float]:
    """Return MRR@10, recall@1 and recall@10; rank 0 is "not among the ten"."""
    found = list(ranks)
    return {
        "mrr": sum(1 / rank for rank in found if rank) / len(found),
        "first": sum(rank == 1 for rank in found) / len(found),
        "found": sum(rank > 0 for rank in found) / len(found),
    }
