"""Words that may be secrets, though nothing says so: they are stored, but no model is given them.

A long random-looking word behind an unknown flag is an identifier as often as a token. Taking it out of the history
would lose something; an embedding does not need it, and the model that makes it may be elsewhere. So the text that is
embedded has ``[MASKED]`` in its place, and the text that is stored, shown and searched for keywords has the word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from omnimemory.sources.redaction.generated import looks_generated
from omnimemory.sources.redaction.shell_words import Region, Word, read_commands
from omnimemory.sources.redaction.spans import MASK, mask_placeholders
from omnimemory.sources.redaction.values import is_secret_value

__all__ = ["MASKED", "masked_text"]

MASKED = "[MASKED]"
LONG_WORD = re.compile(r"[A-Za-z0-9+=_.~-]{20,}")
MAX_DEPTH = 4  # quotes in quotes


def masked_text(line: str) -> str:
    """Return a command line with its long random-looking words masked; most lines come back as they are."""
    if not any(map(looks_generated, LONG_WORD.findall(line))):
        return line
    pieces: list[str] = []
    position = 0
    for start, end in sorted(set(masked_places(mask_placeholders(line)))):
        if start >= position:
            pieces += (line[position:start], MASKED)
            position = end
    return "".join([*pieces, line[position:]])


def masked_places(line: str) -> Iterator[tuple[int, int]]:
    """Yield where the words to be masked are, also those inside of quotes."""
    pending = [(Region(0, len(line)), 0)]
    while pending:
        region, depth = pending.pop()
        for command in read_commands(line, *region):
            for words in (command.words[1:], command.here_strings):
                for word in words:
                    if word.regions and depth < MAX_DEPTH:
                        pending += [(inner, depth + 1) for inner in word.regions]
                    else:
                        yield from masked_place(word)


def masked_place(word: Word) -> Iterator[tuple[int, int]]:
    """Yield the part of a word that is to be masked: what follows ``=`` in a flag or a pair, else all of it."""
    name, equals, value = word.text.partition("=")
    offset = len(name) + 1 if equals and value.strip("=") else 0
    value = word.text[offset:].strip("'\"")
    start = word.inner + word.text.index(value, offset)
    if MASK not in value and LONG_WORD.fullmatch(value) and looks_generated(value) and is_secret_value(value):
        yield start, start + len(value)
