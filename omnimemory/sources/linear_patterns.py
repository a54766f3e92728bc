r"""The patterns of ignore files as regular expressions that never try again: matching takes no longer than reading.

pathspec turns each ``*`` into ``[^/]*`` and each ``**`` into ``(?:/.+)?``, between which Python's matcher tries
every division of a name: 17 bytes in a ``.gitignore``, ``*a*a*a*a*a*a*a*ab``, stop it for hours at one name of 200
letters. In a glob the first place where a piece fits is as good as any later one, because the wildcard behind it
takes up whatever is between; only the last piece must reach the end. So every piece but the last becomes an atomic
group that takes its first place (as Python's own ``fnmatch.translate`` does), and means the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

__all__ = ["PatternChecker", "compile_patterns", "linear"]

_STAR = "[^/]*"
_FOLDERS_FIRST, _FOLDERS = "^(?:.+/)?", "(?:/.+)?"
_SLASH = re.compile(r"(?<!\[\^)/")
"""A slash between segments: a bracket of a pattern holds none, so ``[^/`` is always part of a wildcard."""
_LONGEST = 4096
"""As long as a path may be: longer patterns match nothing."""


class PatternChecker(Protocol):
    """What a list of patterns says of a path."""

    def check_file(self, file: str) -> Any:
        """Return an object whose ``include`` is true, false or ``None`` (no pattern speaks)."""


class _LinearPattern(GitIgnoreSpecPattern):
    """A line of an ignore file."""

    __slots__ = ()

    @classmethod
    def pattern_to_regex(cls, pattern: Any) -> Any:  # text or bytes, and the same comes back
        """Return the regular expression, and whether it ignores or takes back; ``None`` twice if it says nothing."""
        regex, include = super().pattern_to_regex(pattern)
        return (linear(regex) if regex else regex), include


def linear(regex: str) -> str:
    """Return a regular expression made by pathspec as one that matches the same and never tries again."""
    *chunks, last = regex.split(_FOLDERS)
    made = []
    for number, chunk in enumerate(chunks):
        first = number == 0
        start = ("^(?:.+?/)??" if chunk.startswith(_FOLDERS_FIRST) else "") if first else "(?:/.+?)??"
        made.append(f"(?>{start}{_stars(chunk.removeprefix(_FOLDERS_FIRST))}(?=/))")
    return "".join(made) + (_FOLDERS if chunks else "") + _stars(last)


def _stars(chunk: str) -> str:
    """Let every star of a segment but its last take the first place where what follows it fits."""
    return "/".join(_segment(segment) for segment in _SLASH.split(chunk))


def _segment(segment: str) -> str:
    first, *pieces = segment.split(_STAR)
    atoms = "".join(f"(?>{_STAR}?{piece})" for piece in pieces[:-1])
    return first + atoms + (_STAR + pieces[-1] if pieces else "")


def compile_patterns(lines: Iterable[str]) -> tuple[PatternChecker, int]:
    """Return the checker of these lines, and how many are patterns; malformed ones are passed over, as git does."""
    patterns = list(_patterns(lines))
    # Its own matcher, whichever others are installed: they know no atomic groups.
    return GitIgnoreSpec(patterns, backend="simple"), sum(pattern.include is not None for pattern in patterns)


def _patterns(lines: Iterable[str]) -> Iterator[GitIgnoreSpecPattern]:
    for line in lines:
        if len(line) <= _LONGEST:
            try:
                yield _LinearPattern(line)
            except ValueError:
                continue
