"""What a read of a history gives back, and the cursor of a history that is a database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from omnimemory.sources.history.cursor import DIGEST, VERSION, Cursor
from omnimemory.sources.history.entry import Entries

__all__ = ["CURSOR_FIELDS", "HistoryRead", "RowCursor", "stored_cursor"]


@dataclass(frozen=True, slots=True)
class RowCursor:
    """How far a database was read: up to the row ``offset``, but for the rows in ``waiting``.

    ``count`` is the number of entries that were read, ``digest`` that of the row ``offset``.
    """

    shell: str
    offset: int
    count: int
    digest: str
    waiting: tuple[int, ...]

    @property
    def size(self) -> int:
        """Stand where a file's cursor has its size."""
        return self.offset

    def to_json(self) -> dict[str, Any]:
        """Return the cursor as JSON-ready data."""
        return {"version": VERSION, **asdict(self), "waiting": list(self.waiting)}

    @classmethod
    def from_json(cls, data: object) -> RowCursor | None:
        """Return the cursor that ``to_json`` gave, ``None`` for anything else."""
        if not isinstance(data, Mapping) or data.get("version") != VERSION:
            return None
        shell, digest, waiting = data.get("shell"), data.get("digest"), data.get("waiting")
        offset, count = data.get("offset"), data.get("count")
        if not isinstance(shell, str) or not isinstance(digest, str) or not DIGEST.fullmatch(digest):
            return None
        if type(offset) is not int or type(count) is not int or not isinstance(waiting, list):
            return None
        if min(offset, count) < 0 or any(type(row) is not int for row in waiting):
            return None
        return cls(shell, offset, count, digest, tuple(waiting))


CURSOR_FIELDS = frozenset({"version", *(one.name for kind in (Cursor, RowCursor) for one in fields(kind))})
"""What cursors are stored as: it says nothing on another machine."""


def stored_cursor(data: object) -> Cursor | RowCursor | None:
    """Return the cursor that is stored in ``data``; None means: read from the start."""
    return Cursor.from_json(data) or RowCursor.from_json(data)


_MANY, _NEARLY_ALL = 100, 0.98
_MAY_KEEP_EACH_ONCE = ("bash", "zsh")


@dataclass(frozen=True, slots=True)
class HistoryRead:
    """What one read of a history found.

    ``entries`` are those after the verified prefix, or all of them when the history was ``rewritten`` or is read for
    the first time; the first one has the ordinal ``first_position``. ``unchanged``: the history is
    what ``cursor`` saw, and there are no entries. ``oversize`` counts the commands among what was parsed that
    were skipped for their length, ``unreadable`` the lines that are none. ``cursor`` is to be stored after the entries
    are committed.
    """

    path: Path
    shell: str
    entries: Entries
    first_position: int
    rewritten: bool
    unchanged: bool
    cursor: Cursor | RowCursor
    oversize: int = 0
    unreadable: int = 0

    @property
    def is_judged(self) -> bool:
        """Whether the entries are enough to tell if their shell repeats commands: the whole of a long history."""
        return self.first_position == 0 and len(self.entries) >= _MANY

    @property
    def keeps_each_once(self) -> bool:
        """Whether a shell that may keep all was told not to (``erasedups``, ``HIST_IGNORE_ALL_DUPS``).

        People repeat themselves, so hundred commands that are all different say it. What followed what is lost then.
        """
        distinct = len(self.entries.commands())
        return self.is_judged and self.shell in _MAY_KEEP_EACH_ONCE and distinct >= _NEARLY_ALL * len(self.entries)
