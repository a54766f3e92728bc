"""Shell histories: which file, which shell, and what is new in it since the last time.

One module a shell turns bytes into entries, :mod:`~omnimemory.sources.history.layouts` knows the databases;
:func:`read_history` reads either safely and only as far as it is new; :func:`align` finds the new lines of a
rewritten file that has no timestamps.
"""

from __future__ import annotations

from omnimemory.sources.history.align import align
from omnimemory.sources.history.cursor import Cursor
from omnimemory.sources.history.entry import MAX_COMMAND_BYTES, Entries, Entry
from omnimemory.sources.history.found import CURSOR_FIELDS, HistoryRead, RowCursor, stored_cursor
from omnimemory.sources.history.locate import locate, locate_all
from omnimemory.sources.history.resume import read_history, read_stream
from omnimemory.sources.history.shells import FORMATS, SHELLS, Shell, detect, is_deduplicated, shell_named

__all__ = [
    "CURSOR_FIELDS",
    "FORMATS",
    "MAX_COMMAND_BYTES",
    "SHELLS",
    "Cursor",
    "Entries",
    "Entry",
    "HistoryRead",
    "RowCursor",
    "Shell",
    "align",
    "detect",
    "is_deduplicated",
    "locate",
    "locate_all",
    "read_history",
    "read_stream",
    "shell_named",
    "stored_cursor",
]
