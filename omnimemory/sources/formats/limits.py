"""How much structure a document may have: a file that is made of nothing else would fill the memory.

A list of two bytes in JSON becomes 56 in memory, a tag of HTML 150, a heading of two bytes 120. Real documents stay
far below these figures; what is beyond a limit of tags or values is skipped with that reason, headings beyond theirs
are left out.
"""

from __future__ import annotations

from typing import Final

from omnimemory.sources.formats.decoding import SkippedError

__all__ = ["MOST_HEADINGS", "MOST_LINES", "check_count"]

MOST_HEADINGS: Final = 100_000
MOST_LINES: Final = 2_000_000
"""More lines are not looked at one by one."""


def check_count(text: str, signs: str, most: int, what: str) -> None:
    """Raise :class:`SkippedError` when these signs stand in the text more than ``most`` times, all together."""
    count = sum(text.count(sign) for sign in signs)
    if count > most:
        raise SkippedError(f"too much structure: about {count:,} {what}, {most:,} are the most")
